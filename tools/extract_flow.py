"""Optical flow of videos, or of directories of frames, as images for training: SRC/<name>.mp4 to DST/<name>/.

    python tools/extract_flow.py videos flow --layout rgb
    python tools/extract_flow.py data/UCF101/jpg data/UCF101/jpg --frames --list rgb_train.txt flow_train.txt

Layouts: ucf (flow_x_00001.jpg, flow_y_00001.jpg, also beside the RGB frames), something_v1 (000042/000042-x_00001.jpg),
rgb (000001.jpg: x, y and 0 as red, green and blue). Displacements of -20 to 20 pixels become 0 to 255. A video of n
frames has n - 1 images (pairs of x and y), which its line in a list counts; in lists of something_v1 it counts both
files of a pair, as in the published ones. Start it again after an interruption: what is there is complete and is kept.
Videos without flow are listed with the reason, and the exit status is then 2.
"""
import sys
from argparse import RawDescriptionHelpFormatter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from ops.common.cli import Parser, run
from ops.prepare.extract import EXTENSIONS
from ops.prepare.extract_flow import extract_flow_directory, write_flow_list
from ops.prepare.optical_flow import BOUND, HEIGHT, LAYOUTS, METHODS, QUALITY
from tools.shared.extraction import report


def main() -> int:
    args = build_parser().parse_args()
    status = report(extract_flow_directory(
        args.src, args.dst, args.frames, args.by_class, args.template, args.ext.split(","), args.workers,
        layout=args.layout, method=args.method, bound=args.bound, height=args.height, quality=args.quality))
    for rgb_list, out in args.list:
        missing = write_flow_list(rgb_list, out, args.dst, args.layout)
        for video, reason in missing:
            print(f"left out of {out}: {video}: {reason}", file=sys.stderr)
        print(f"list: {out}")
        status = 2 if missing else status
    return status


def build_parser() -> Parser:
    parser = Parser(description=__doc__, formatter_class=RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("src", metavar="SRC", type=Path, help="directory of the videos, or with --frames of the frame directories")
    add("dst", metavar="DST", type=Path, help="directory that receives a directory of flow per video")
    add("--frames", action="store_true", help="SRC holds directories of frames")
    add("--by_class", action="store_true", help="SRC/<class>/<video> to DST/<class>/<video>")
    add("--template", default="", help="file name of a frame, such as img_{:05d}.jpg (default: tried out)")
    add("--layout", default=LAYOUTS[0], help=f"{', '.join(LAYOUTS)} (default: %(default)s)")
    add("--method", default=METHODS[0], help=f"{' or '.join(METHODS)} (default: %(default)s; published: tvl1)")
    add("--bound", type=float, default=BOUND, help="pixels that become 0 and 255 (default: %(default)g)")
    add("--height", type=int, default=HEIGHT,
        help="of the frames and their flow, in pixels; 0 keeps their own (default: %(default)s)")
    add("--quality", type=int, default=QUALITY, help="of the JPEG files, 1-100 (default: %(default)s)")
    add("--ext", default=",".join(EXTENSIONS), help="kinds of video files, with commas (default: %(default)s)")
    add("-j", "--workers", type=int, help="processes (default: one per core)")
    add("--list", nargs=2, action="append", default=[], type=Path, metavar=("RGB_LIST", "OUT"),
        help="write the flow's list for an RGB list; may be given several times")
    return parser


if __name__ == "__main__":
    run(main)
