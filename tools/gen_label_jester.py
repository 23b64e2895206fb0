"""Write the lists of Jester from its csv files.

Reads `jester-v1-labels.csv` (one class per line; classes are numbered in sorted order, which is the published order)
and `jester-v1-{train,validation,test}.csv` (lines `id;class`, in the test file only `id`).
Writes `category.txt` and `{train,val,test}_videofolder.txt`, lines `id num_frames label`, with paths relative to the
frame root `20bn-jester-v1`. All labels of the test list are 0.

Videos with missing frames are left out, counted, and listed with the reason in `missing_*.txt`; the exit status is then 2
(0 with --allow_missing).
"""
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from ops.common.cli import run
from ops.prepare.annotations import parse_jester
from tools.shared.gen_label import gen_label


def main() -> int:
    return gen_label(__doc__, dataset="jester", parse=parse_jester)


if __name__ == "__main__":
    run(main)
