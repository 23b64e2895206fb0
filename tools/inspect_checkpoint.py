"""What a weight file is, from its metadata, its name and its tensors, and whether and where it loads.

    python tools/inspect_checkpoint.py checkpoint/TSM_.../ckpt.best.pth.tar
    python tools/inspect_checkpoint.py a.pth b.pth --json

Knows checkpoints of main.py, the released files, state dicts wrapped or bare and whatever they are called, online
models, and ImageNet weights. No code in a file is run. The exit status is 2 when a file is none of these.
"""
import json
import sys
from argparse import RawDescriptionHelpFormatter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from ops.checkpoints.inspect import VIDEO, Inspection, inspect_file
from ops.common.cli import Parser, run
from ops.common.errors import UserError

UNKNOWN = ("num_segments", "shift", "shift_place", "shift_div", "shift_direction", "consensus_type")


def main() -> int:
    parser = Parser(description=__doc__, formatter_class=RawDescriptionHelpFormatter)
    parser.add_argument("file", nargs="+", type=Path, metavar="FILE")
    parser.add_argument("--json", action="store_true", help="a list with one report per file")
    args = parser.parse_args()
    reports, errors = [], []
    for path in args.file:
        try:
            reports.append(inspect_file(path))
        except UserError as error:
            errors.append(error)
    if args.json:
        print(json.dumps([report.to_dict() for report in reports], indent=2))
    else:
        print("\n\n".join(map(in_words, reports)))
    for error in errors:
        print(f"{parser.prog}: error: {error}", file=sys.stderr)
    return 2 if errors else 0


def in_words(report: Inspection) -> str:
    """A file's report as a few lines, each fact with its source."""
    lines = [f"{report.path}: {report.kind}, {report.tensors} tensors, {report.parameters:,} parameters,"
             f" {', '.join(report.dtypes)}"]
    for key, fact in report.facts.items():
        value = f"{len(fact.value)}: {', '.join(fact.value[:3])}, ..." if key == "class_names" else fact.value
        lines.append(f"    {key:16} {value} (by its {fact.source})")
    lines += [f"    {key:16} unknown" for key in unknown(report)]
    lines += [f"    note: {note}" for note in report.notes]
    lines.append(f"    loads into: {report.loads}" if report.loads else f"    does not load: {report.problem}")
    return "\n".join(lines)


def unknown(report: Inspection) -> list[str]:
    """What one would want to know of a video model and nothing tells."""
    if report.kind != VIDEO:
        return []
    still = "shift" in report.facts and not report.facts["shift"].value
    return [key for key in UNKNOWN if key not in report.facts and not (still and key.startswith("shift"))]


if __name__ == "__main__":
    run(main)
