"""Write the lists of Kinetics from its csv files.

Reads `kinetics_{train,val,test}.csv` (or `{train,val,test}.csv`, `validate.csv`) with the header
`label,youtube_id,time_start,time_end,split`. Classes are numbered as the lines of `kinetics_label_map.txt` if it exists,
else in sorted order.
Writes `category.txt` and `{train,val,test}_videofolder.txt`, lines `class/clip num_frames label`. Class directories may
be spelled with spaces or with underscores; clips are named `<youtube_id>_<start>_<end>` with six digits each,
`<youtube_id>_<time_start>` or `<youtube_id>`. A test file without labels gives label 0.

Videos with missing frames are left out, counted, and listed with the reason in `missing_*.txt`; the exit status is then 2
(0 with --allow_missing).
"""
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from ops.common.cli import run
from ops.prepare.annotations import parse_kinetics
from tools.shared.gen_label import gen_label


def main() -> int:
    return gen_label(__doc__, dataset="kinetics", parse=parse_kinetics)


if __name__ == "__main__":
    run(main)
