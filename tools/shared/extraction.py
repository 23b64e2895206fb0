"""What the commands that extract frames or flow share: flags, the report, and the whole of vid2img_*.py."""
import sys
from argparse import RawDescriptionHelpFormatter
from pathlib import Path
from typing import Optional

from ops.common.choices import MOST
from ops.common.cli import Flags, Parser, add_part_flag, add_workers_flag, number
from ops.common.part import WHOLE, Part
from ops.prepare.extraction import EXTENSIONS, QUALITY, ExtractionSummary


def vid2img(description: Optional[str], *, source: str, target: str, template: str, height: int, by_class: bool) -> int:
    """A whole vid2img command: parse sys.argv, extract, report. Returns the exit status (2: some videos failed).

    source, target: metavars of the two directories. template, height: the data set's frame file names and size.
    by_class: the videos are in one directory per class.
    """
    parser = Parser(description=description, formatter_class=RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("source", metavar=source, type=Path, help="directory of the videos")
    add("target", metavar=target, type=Path, help="directory for the frame directories")
    add_extraction_flags(parser, height=height, quality=QUALITY, note=", no worse than ffmpeg's -q:v 0")
    args = parser.parse_args()
    from ops.prepare.extract import extract_directory  # PyAV: not before the flags are read
    return report(extract_directory(args.source, args.target, template, height=args.height, quality=args.quality,
                                    extensions=args.ext, workers=args.workers, by_class=by_class, part=args.part), args.part)


def add_extraction_flags(parser: Flags, *, height: int, quality: int, note: str = "") -> None:
    """--height, --quality, --ext, --workers and --part. note: what the default quality means."""
    add = parser.add_argument
    add("--height", type=number(int, 0, MOST), default=height, metavar="PIXELS",
        help="scale frames to this height; 0 keeps their own (default: %(default)s)")
    add("--quality", type=number(int, 1, 100), default=quality, metavar="N",
        help=f"JPEG quality, 1-100 (default: %(default)s{note})")
    add("--ext", type=extensions, default=EXTENSIONS, metavar="EXT,...",
        help=f"extensions of video files, separated by commas (default: {','.join(EXTENSIONS)})")
    add_workers_flag(parser)
    add_part_flag(parser)


def extensions(text: str) -> tuple[str, ...]:
    return tuple(text.split(","))


def report(summary: ExtractionSummary, part: Part) -> int:
    """Print the failures and the summary. Returns the exit status (2: some videos failed)."""
    for name, reason in summary.failures:
        print(f"failed: {name}: {reason}", file=sys.stderr)
    print(summary if part == WHOLE else f"part {part}: {summary}")
    return 2 if summary.failures else 0
