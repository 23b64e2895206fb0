"""What the programs that render gestures share: the flag --size."""
import re

from ops.common.cli import Flags, NotAllowed
from ops.prepare.gestures.definition import SIZE, Size


def add_size_flag(parser: Flags) -> None:
    """--size WIDTHxHEIGHT of the rendered frames; `check_size` of the library refuses impossible ones."""
    parser.add_argument("--size", type=parse_size, default=SIZE, metavar="WxH",
                        help=f"frame size, pixels, even numbers (default: {SIZE[0]}x{SIZE[1]})")


def parse_size(text: str) -> Size:
    match = re.fullmatch(r"(\d{1,6})x(\d{1,6})", text)
    if not match:
        raise NotAllowed(f"{text!r}: choose WIDTHxHEIGHT, such as {SIZE[0]}x{SIZE[1]}")
    return int(match[1]), int(match[2])
