"""Write the lists of Something-Something-V2, or of a data set in its format such as the gestures, from its JSON files.

Reads `something-something-v2-{labels,train,validation,test}.json`, or `labels.json` and so on as in the newer release,
also from a subdirectory `labels/`: {"Holding something": "0", ...} and
[{"id": "78687", "template": "Holding [something]", ...}, ...], in the test file only [{"id": "1420"}, ...].
Writes `category.txt` and `{train,val,test}_videofolder.txt`, lines `id num_frames label`, with paths relative to the
frame root `20bn-something-something-v2-frames`. All labels of the test list are 0.

For the gestures: --labels data/gestures --frames data/gestures/frames --out data/gestures

Videos with missing frames are left out, counted, and listed with the reason in `missing_*.txt`; the exit status is then 2
(0 with --allow_missing).
"""
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from ops.common.cli import run
from ops.prepare.annotations import parse_sthv2
from tools.shared.gen_label import gen_label


def main() -> int:
    return gen_label(__doc__, dataset="somethingv2", parse=parse_sthv2)


if __name__ == "__main__":
    run(main)
