"""Something-Something-V2 lists from its JSON files; also for data sets in that form, as our gestures.

Reads `something-something-v2-{labels,train,validation,test}.json`, in the newer release `labels.json` and so on,
maybe in a directory `labels/`: {"Holding something": "0", ...} and
[{"id": "78687", "template": "Holding [something]", ...}, ...], in the test file [{"id": "1420"}, ...].
Writes `category.txt` and `{train,val,test}_videofolder.txt`, lines `id num_frames label`, the paths relative to
the frame directory `20bn-something-something-v2-frames`. The test list has label 0.

The gestures: --labels data/gestures --frames data/gestures/frames --out data/gestures

Videos whose frames are missing, or have a gap, are left out, counted, and listed with the reason in `missing_*.txt`;
the exit status is then 2 (0 with --allow_missing).
"""
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from ops.common.cli import run
from ops.prepare.annotations import parse_sthv2
from tools.shared.gen_label import gen_label


def main() -> int:
    return gen_label(__doc__, "somethingv2", "something/v2", parse_sthv2)


if __name__ == "__main__":
    run(main)
