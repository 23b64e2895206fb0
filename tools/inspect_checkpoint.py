"""What a weight file is, from its metadata, its name and its tensors, and whether and where it loads.

    python tools/inspect_checkpoint.py checkpoint/TSM_.../ckpt.best.pth.tar
    python tools/inspect_checkpoint.py a.pth b.pth --json

Reads checkpoints of main.py, the released files, state dicts wrapped or bare and whatever they are called, online
models, and ImageNet weights. No code in a file is run. The exit status is 2 when a file is none of these.
"""
import json
import sys
from argparse import RawDescriptionHelpFormatter
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from ops.common.cli import Parser, check_usage, run


def build_parser() -> Parser:
    parser = Parser(description=__doc__, formatter_class=RawDescriptionHelpFormatter)
    parser.add_argument("file", nargs="+", type=Path, metavar="FILE")
    parser.add_argument("--json", action="store_true", help="print a list with one report per file")
    return parser


if __name__ == "__main__":
    check_usage(build_parser().parse_args)  # torch, which the imports below need, takes seconds

from ops.checkpoints.inspect import Inspection, inspect_file
from ops.checkpoints.tensors import CLIP, IMAGE, ONLINE
from ops.common.errors import UserError

KINDS = {CLIP: "video model", ONLINE: "online model", IMAGE: "image network"}
# Options of a video model that the tensors do not always show.
OFTEN_UNKNOWN = ("num_segments", "shift", "shift_place", "shift_div", "shift_direction", "consensus_type")


def main() -> int:
    parser = build_parser()
    args = parser.parse_args()
    reports, errors = [], []
    for path in args.file:
        try:
            reports.append(inspect_file(path))
        except UserError as error:
            errors.append(error)
    if args.json:
        print(json.dumps([as_json(report) for report in reports], indent=2))
    else:
        print("\n\n".join(map(in_words, reports)))
    for error in errors:
        print(f"{parser.prog}: error: {error.for_command_line()}", file=sys.stderr)
    return 2 if errors else 0


def as_json(report: Inspection) -> dict[str, Any]:
    """A file's report as plain values."""
    return {"file": str(report.path), "kind": KINDS[report.kind], "tensors": report.tensors,
            "parameters": report.parameters, "dtypes": report.dtypes, "notes": report.notes, "problem": report.problem,
            "loads": report.loads, "loads_as": loads_into(report),
            "facts": {key: vars(fact) for key, fact in report.facts.items()}}


def in_words(report: Inspection) -> str:
    """A file's report as a few lines, each fact with its source."""
    lines = [f"{report.path}: {KINDS[report.kind]}, {report.tensors} tensors, {report.parameters:,} parameters,"
             f" {', '.join(report.dtypes)}"]
    for key, fact in report.facts.items():
        value = f"{len(fact.value)}: {', '.join(fact.value[:3])}, ..." if key == "class_names" else fact.value
        lines.append(f"    {key:16} {value} (by its {fact.source})")
    lines += [f"    {key:16} unknown" for key in unknown(report)]
    lines += [f"    note: {note}" for note in report.notes]
    lines.append(f"    loads into: {loads_into(report)}" if report.loads else f"    does not load: {report.problem}")
    return "\n".join(lines)


def loads_into(report: Inspection) -> str:
    """The programs that take the file; "" when it does not load."""
    if not report.loads:
        return ""
    if report.kind == IMAGE:
        return f"main.py --arch {report.facts['arch'].value} --pretrain"
    if report.kind == ONLINE:
        return "online_demo/main.py, test_models.py, tools/predict.py"
    if report.named:
        return "test_models.py, tools/predict.py, main.py --tune_from"
    return f"main.py --tune_from; test_models.py and tools/predict.py once it is named {report.name_form}"


def unknown(report: Inspection) -> list[str]:
    """The options of a video model that neither the file nor its tensors show."""
    if report.kind != CLIP:
        return []
    still = "shift" in report.facts and not report.facts["shift"].value
    return [key for key in OFTEN_UNKNOWN if key not in report.facts and not (still and key.startswith("shift"))]


if __name__ == "__main__":
    run(main)
