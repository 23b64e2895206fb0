"""Write the lists of UCF101 from its split files.

Reads `classInd.txt` (lines `1 ApplyEyeMakeup`), `trainlist0N.txt` (lines `ApplyEyeMakeup/v_X_g08_c01.avi 1`) and
`testlist0N.txt` (the same without the number) for N = 1, 2, 3, also from a subdirectory `ucfTrainTestlist/`.
Writes `ucf101_rgb_{train,val}_split_N.txt`, lines `path num_frames label`, label from 0. The frames of a video are
expected in `<class>/<video>/` or `<video>/`. The class names stay in `classInd.txt`.

Videos with missing frames are left out, counted, and listed with the reason in `missing_*.txt`; the exit status is then 2
(0 with --allow_missing).
"""
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from ops.common.cli import run
from ops.prepare.annotations import parse_ucf101
from tools.shared.gen_label import gen_label


def main() -> int:
    return gen_label(__doc__, dataset="ucf101", parse=parse_ucf101)


if __name__ == "__main__":
    run(main)
