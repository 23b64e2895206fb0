"""Pack frame directories into tar files, for clusters with file systems that are slow for many small files.

    python tools/make_shards.py FRAMES SHARDS
    python tools/make_shards.py FRAMES SHARDS --list train_videofolder.txt --list val_videofolder.txt
    python main.py somethingv2 RGB --shift --root_path SHARDS        # the same lists, the same pixels

FRAMES is what --root_path would be: the directory that the lists' paths are relative to. Images, including optical flow,
are copied unchanged, and links are followed. After an interruption, run it again to resume. Videos without images are
listed, and the exit status is then 2. With --part, the index appears when all parts are done.
"""
import sys
from argparse import RawDescriptionHelpFormatter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from ops.common.cli import Parser, add_part_flag, add_workers_flag, number, run
from ops.common.errors import shown
from ops.common.files import check_not_an_input
from ops.common.part import WHOLE
from ops.data.list_files import read_list
from ops.video.shards import INDEX, PER_SHARD, pack


def main() -> int:
    parser = Parser(description=__doc__, formatter_class=RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("frames", metavar="FRAMES", type=Path, help="directory of the frame directories")
    add("shards", metavar="SHARDS", type=Path, help="directory for the shards")
    add("--list", type=Path, action="append", metavar="LIST",
        help="only the videos of this list; repeatable (default: every directory with images)")
    add("--videos_per_shard", type=number(int, 1), default=PER_SHARD, metavar="N", help="(default: %(default)s)")
    add_workers_flag(parser)
    add_part_flag(parser)
    args = parser.parse_args()
    check_not_an_input(args.shards / INDEX, args.list or [])
    videos = [record.path for file in args.list for record in read_list(file, multi_label=None)] if args.list else None
    summary = pack(args.frames, args.shards, videos=videos, per_shard=args.videos_per_shard, workers=args.workers,
                   part=args.part)
    for video, reason in summary.failures:
        print(shown(f"failed: {video}: {reason}"), file=sys.stderr)
    print(summary if args.part == WHOLE else f"part {args.part}: {summary}")
    if not summary.indexed:
        print(f"{INDEX} is written by the part that ends last")
    else:
        print(f"python main.py DATASET MODALITY --root_path {args.shards}")
    return 2 if summary.failures else 0


if __name__ == "__main__":
    run(main)
