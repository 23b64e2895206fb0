"""Compute optical flow of videos, or of directories of frames, as images for training: SRC/<name>.mp4 to DST/<name>/.

    python tools/extract_flow.py videos flow --layout rgb
    python tools/extract_flow.py my_videos flow --list my_videos/.tsm/NAME/train_videofolder.txt flow_train.txt
    python tools/extract_flow.py data/UCF101/jpg data/UCF101/jpg --frames --list rgb_train.txt flow_train.txt

Layouts: ucf (flow_x_00001.jpg, flow_y_00001.jpg; may be in the same directory as the RGB frames), something_v1
(000042/000042-x_00001.jpg), rgb (000001.jpg: x, y and 0 as red, green and blue). Displacements of -20 to 20 pixels
become 0 to 255. A video of n frames gives n - 1 images (pairs of x and y), and lists count these; lists of something_v1
count both files of a pair, as the published ones do. With --list, the videos that the list names are extracted too, at
any depth below SRC.

With --part, the videos of --list are extracted but no list is written: once all parts are done, the same command
without --part finds all flow there and writes the lists.

After an interruption, run it again: complete results are kept. Videos without flow are listed with the reason, and the
exit status is then 2.
"""
import sys
from argparse import RawDescriptionHelpFormatter
from pathlib import Path
from typing import Sequence

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from ops.common.cli import Parser, number, one_of, run
from ops.common.errors import UserError, shown
from ops.common.files import check_not_an_input, check_not_inputs, check_writable
from ops.common.part import WHOLE
from ops.data.list_files import read_list
from ops.prepare.flow_options import BOUND, HEIGHT, LAYOUTS, METHODS, QUALITY
from ops.video.discovery import is_video_name
from tools.shared.extraction import add_extraction_flags, report


def main() -> int:
    args = build_parser().parse_args()
    check_lists(args.list)
    from ops.prepare.extract_flow import (  # OpenCV: not before the flags are read
        extract_flow_directory,
        flow_jobs,
        write_flow_list,
    )
    videos = dict(frames=args.frames, by_class=args.by_class, extensions=args.ext,
                  listed=[record.path for rgb_list, _ in args.list for record in read_list(rgb_list, multi_label=None)])
    if args.list:
        jobs = flow_jobs(args.src, args.dst, **videos)
        check_not_inputs({out: "list" for _, out in args.list}, (job.video for job in jobs))
    status = report(extract_flow_directory(
        args.src, args.dst, template=args.template, workers=args.workers, layout=args.layout, method=args.method,
        bound=args.bound, height=args.height, quality=args.quality, part=args.part, **videos), args.part)
    if args.part != WHOLE:
        if args.list:
            print("lists: not written by a part; when all parts are done, start once without --part")
        return status
    for rgb_list, out in args.list:
        missing = write_flow_list(rgb_list, out, flow=args.dst, layout=args.layout)
        for video, reason in missing:
            print(shown(f"left out of {out}: {video}: {reason}"), file=sys.stderr)
        print(f"list: {out}")
        status = 2 if missing else status
    return status


def check_lists(lists: Sequence[tuple[Path, Path]]) -> None:
    """Refuse, before hours of work, a list that would replace a list that is read, a video, or another new list."""
    outputs: set[Path] = set()
    for rgb_list, out in lists:
        check_writable(out)
        check_not_an_input(out, [*(other for other, _ in lists), *filter(lambda file: is_video_name(file.name), [out])],
                           "list")
        if out.resolve() in outputs:
            raise UserError(f"--list {rgb_list} {out}: {out} is written twice: choose another file")
        outputs.add(out.resolve())


def build_parser() -> Parser:
    parser = Parser(description=__doc__, formatter_class=RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("src", metavar="SRC", type=Path, help="directory of the videos, with --frames of the frame directories")
    add("dst", metavar="DST", type=Path, help="directory for the flow, one directory per video")
    add = parser.add_argument_group("videos").add_argument
    add("--frames", action="store_true", help="SRC contains directories of frames")
    add("--by_class", action="store_true", help="SRC/<class>/<video> to DST/<class>/<video>")
    add("--template", default="", help="file name of a frame, such as img_{:05d}.jpg (default: detected)")
    add = parser.add_argument_group("flow").add_argument
    add("--layout", type=one_of(*LAYOUTS), default=LAYOUTS[0], help=f"{', '.join(LAYOUTS)} (default: %(default)s)")
    add("--method", type=one_of(*METHODS), default=METHODS[0],
        help=f"{' or '.join(METHODS)} (default: %(default)s; published: tvl1)")
    add("--bound", type=number(float, above=0), default=BOUND, metavar="PIXELS",
        help="displacement that becomes 0 or 255 (default: %(default)g)")
    add("--list", nargs=2, action="append", default=[], type=Path, metavar=("RGB_LIST", "OUT"),
        help="write the flow list that corresponds to an RGB list; repeatable")
    add_extraction_flags(parser.add_argument_group("images"), height=HEIGHT, quality=QUALITY)
    return parser


if __name__ == "__main__":
    run(main)
