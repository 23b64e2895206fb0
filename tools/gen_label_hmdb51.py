"""HMDB51 lists from its split files.

Reads `<class>_test_splitN.txt` (lines `video.avi M`: M is 1 in training, 2 in validation, 0 in neither), maybe in a
directory `testTrainMulti_7030_splits/`; classes are numbered in sorted order.
Writes `category.txt` and `hmdb51_rgb_{train,val}_split_N.txt`, lines `path num_frames label`; the frames of a video
lie in a directory by its name within its class's, or without a class directory.

Videos whose frames are missing, or have a gap, are left out, counted, and listed with the reason in `missing_*.txt`;
the exit status is then 2 (0 with --allow_missing).
"""
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from ops.common.cli import run
from ops.prepare.annotations import parse_hmdb51
from tools.shared.gen_label import gen_label


def main() -> int:
    return gen_label(__doc__, "hmdb51", "HMDB51/splits", parse_hmdb51)


if __name__ == "__main__":
    run(main)
