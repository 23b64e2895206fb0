"""Feed thousands of damaged inputs to the loaders, and count the outcomes:  python tools/fuzz.py

The inputs are list files, images, videos and label files (those of the data sets, csv, yaml). Most are real files with
flipped bits, replaced, removed or repeated bytes, or a missing end; half of the text files are made up by hypothesis.

An outcome is right if the clip is loaded with the pixels of the video that the list names, or refused with one line (a
UserError) that names the file. Everything else is a fault: another exception, a message that has several lines or does
not name the file, the frames of another video, two ways of reading that disagree, files left behind, and a process that
dies or takes more than a minute. Exit status 2: there were faults.

An input depends only on --seed and its number, so a fault can be tried again with --only NUMBER.
"""
import argparse
import sys
import tempfile
import time
from collections import Counter
from contextlib import closing
from pathlib import Path
from typing import Optional

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from ops.common.cli import Parser, add_seed_flag, number, one_of, run
from ops.common.progress import progress
from tools.fuzzing import KINDS
from tools.fuzzing.process import run_inputs

INPUTS = {"lists": 4000, "images": 4000, "videos": 1600, "labels": 4000}


def main() -> Optional[int]:
    args = build_parser().parse_args()
    faults = 0
    print("| input | tried | loaded | refused in one line | faults | seconds |\n|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as temporary:
        for kind in args.kinds:
            numbers = range(args.inputs or INPUTS[kind]) if args.only is None else range(args.only, args.only + 1)
            faults += try_inputs(kind, numbers, args.seed, directory=args.directory or Path(temporary),
                                 verbose=args.only is not None)
    return 2 if faults else 0


def build_parser() -> Parser:
    parser = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--inputs", type=number(int, 1), metavar="N",
        help=f"inputs of each kind (default: {', '.join(f'{count} {kind}' for kind, count in INPUTS.items())})")
    add("--kinds", nargs="+", type=one_of(*KINDS), default=list(KINDS), metavar="KIND",
        help=f"{', '.join(KINDS)} (default: all)")
    add_seed_flag(parser)
    add("--only", type=number(int, 0), metavar="NUMBER", help="try only this input of each kind, and print its message")
    add("--directory", "--folder", type=Path, metavar="DIR", help="keep the inputs here (default: delete them at the end)")
    return parser


def try_inputs(kind: str, numbers: range, seed: int, *, directory: Path, verbose: bool) -> int:
    """Try the inputs of a kind and print their row of the table. Returns the number of faults.

    Faults are printed to standard error. verbose: so are the other outcomes.
    """
    started = time.monotonic()
    counts: Counter[str] = Counter()
    with closing(run_inputs(kind, numbers, seed, directory=directory)) as outcomes:
        for outcome in progress(outcomes, total=len(numbers), desc=kind, unit="input"):
            counts[outcome.kind] += 1
            if outcome.kind == "fault":
                print(f"fault: {kind} {outcome.number}: {outcome.message}", file=sys.stderr, flush=True)
            elif verbose:
                print(f"{outcome.kind}: {outcome.message}", file=sys.stderr)
    print(f"| {KINDS[kind]} | {len(numbers)} | {counts['loaded']} | {counts['refused']} | {counts['fault']} |"
          f" {time.monotonic() - started:.0f} |", flush=True)
    return counts["fault"]


if __name__ == "__main__":
    run(main)
