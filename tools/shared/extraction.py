"""What the commands that extract frames or flow share: flags, the report, and all of vid2img_*.py."""
import sys
from argparse import RawDescriptionHelpFormatter
from pathlib import Path
from typing import Optional

from ops.common.cli import Parser
from ops.prepare.extract import EXTENSIONS, QUALITY, ExtractSummary, extract_directory


def vid2img(description: Optional[str], *, source: str, target: str, template: str, height: int, by_class: bool) -> int:
    """A whole vid2img command: parse sys.argv, extract, report. Returns the exit status (2: some videos failed).

    source, target: metavars of the two directories. template, height: the data set's frame file names and size.
    by_class: the videos are in one directory per class.
    """
    parser = Parser(description=description, formatter_class=RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("source", metavar=source, type=Path, help="directory of the videos")
    add("target", metavar=target, type=Path, help="directory for the frame directories")
    add("-j", "--workers", type=int, help="processes (default: one per core)")
    add("--height", type=int, default=height,
        help="height of the frames, pixels; 0 keeps the video's own (default: %(default)s)")
    add("--quality", type=int, default=QUALITY,
        help="JPEG quality, 1-100 (default: %(default)s, no worse than ffmpeg's -q:v 0)")
    add("--ext", default=",".join(EXTENSIONS), help="video file extensions, separated by commas (default: %(default)s)")
    args = parser.parse_args()
    return report(extract_directory(args.source, args.target, template, args.height, args.quality, args.ext.split(","),
                                    args.workers, by_class))


def report(summary: ExtractSummary) -> int:
    """Print the failures and the summary. Returns the exit status (2: some videos failed)."""
    for name, reason in summary.failures:
        print(f"failed: {name}: {reason}", file=sys.stderr)
    print(summary)
    return 2 if summary.failures else 0
