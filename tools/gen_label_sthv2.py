"""Something-Something-V2 lists from its JSON files; also for data sets in that form, as our gestures.

Reads `something-something-v2-{labels,train,validation,test}.json`, in the newer release `labels.json` and so on,
maybe in a directory `labels/`: {"Holding something": "0", ...} and
[{"id": "78687", "template": "Holding [something]", ...}, ...], in the test file [{"id": "1420"}, ...].
Writes `category.txt` and `{train,val,test}_videofolder.txt`, lines `id num_frames label`, the paths relative to
the frame directory `20bn-something-something-v2-frames`. The test list has label 0.

The gestures: --labels data/gestures --frames data/gestures/frames --out data/gestures

Videos without frames, or with a gap in them, are left out, counted, and listed with the reason in `missing_*.txt`;
the exit status is then 2 (0 with --allow_missing).
"""
import sys
from pathlib import Path
from typing import Optional

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from ops.common.cli import run
from ops.prepare.annotations import command_line, write_sthv2_lists


def main() -> Optional[int]:
    return command_line(__doc__, "somethingv2", "something/v2", write_sthv2_lists)


if __name__ == "__main__":
    run(main)
