"""Write the lists of HMDB51 from its split files.

Reads `<class>_test_splitN.txt` (lines `video.avi M`: M is 1 for training, 2 for validation, 0 for neither), also from a
subdirectory `testTrainMulti_7030_splits/`. Classes are numbered in sorted order.
Writes `category.txt` and `hmdb51_rgb_{train,val}_split_N.txt`, lines `path num_frames label`. The frames of a video are
expected in `<class>/<video>/` or `<video>/`.

Videos with missing frames are left out, counted, and listed with the reason in `missing_*.txt`; the exit status is then 2
(0 with --allow_missing).
"""
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from ops.common.cli import run
from ops.prepare.annotations import parse_hmdb51
from tools.shared.gen_label import gen_label


def main() -> int:
    return gen_label(__doc__, dataset="hmdb51", parse=parse_hmdb51)


if __name__ == "__main__":
    run(main)
