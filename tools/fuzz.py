"""Feeds the loaders thousands of damaged inputs and counts what comes of each:  python tools/fuzz.py

Inputs: list files, images, videos, label files (the data sets' own, csv, yaml): real ones with bits flipped, bytes
replaced, cut out or doubled, or the end missing; and, for texts, what the package hypothesis thinks of.

Right outcomes: the clip is loaded, with the pixels of the video that the list names; or one line (a UserError) that
names the file. Everything else is a fault: another exception, a message without the file or of several lines, another
video's images, two ways of reading that disagree, files left behind, a process that dies or takes over a minute.
The inputs depend on --seed alone; one that was at fault is tried again with --only. Exit status 2: faults.
"""
import sys
import tempfile
import time
from argparse import RawDescriptionHelpFormatter
from collections import Counter
from pathlib import Path
from typing import Optional

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from ops.common.cli import Parser, progress, run
from ops.common.errors import UserError
from tools.fuzzing import KINDS
from tools.fuzzing.process import Outcome, attempts

INPUTS = {"lists": 4000, "images": 4000, "videos": 1600, "labels": 4000}


def main() -> Optional[int]:
    parser = Parser(description=__doc__, formatter_class=RawDescriptionHelpFormatter)
    parser.add_argument("--inputs", type=int, help="of each kind (default: "
                        + ", ".join(f"{count} {kind}" for kind, count in INPUTS.items()) + ")")
    parser.add_argument("--kinds", nargs="+", default=list(KINDS), metavar="KIND", help=", ".join(KINDS))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", type=int, help="try this one input of each kind, and show what is said of it")
    parser.add_argument("--directory", "--folder", type=Path,
                        help="keep the inputs here (default: a directory that is removed)")
    args = parser.parse_args()
    if unknown := set(args.kinds) - set(KINDS):
        raise UserError(f"--kinds {' '.join(sorted(unknown))}: choose of {', '.join(KINDS)}")
    if args.inputs is not None and args.inputs < 1 or args.seed < 0 or args.only is not None and args.only < 0:
        raise UserError("--inputs: choose 1 or more; --seed and --only: 0 or more")
    faults = 0
    print("| input | tried | loaded | refused in one line | faults | seconds |\n|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as temporary:
        for kind in args.kinds:
            numbers = range(args.inputs or INPUTS[kind]) if args.only is None else range(args.only, args.only + 1)
            faults += report(kind, numbers, args.seed, args.directory or Path(temporary), args.only is not None)
    return 2 if faults else 0


def report(kind: str, numbers: range, seed: int, directory: Path, shown: bool) -> int:
    """Try the inputs of a kind and print a line of the table; the faults, their number returned, on standard error."""
    started, counts, faults = time.monotonic(), Counter(), 0
    for outcome in progress(attempts(kind, numbers, seed, directory), total=len(numbers), desc=kind, unit="input"):
        counts[outcome.kind] += 1
        if outcome.kind == "fault":
            faults += 1
            tell(kind, outcome)
        elif shown:
            print(f"{outcome.kind}: {outcome.words}", file=sys.stderr)
    print(f"| {KINDS[kind]} | {len(numbers)} | {counts['loaded']} | {counts['refused']} | {faults} |"
          f" {time.monotonic() - started:.0f} |", flush=True)
    return faults


def tell(kind: str, outcome: Outcome) -> None:
    print(f"fault: {kind} {outcome.number}: {outcome.words}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    run(main)
