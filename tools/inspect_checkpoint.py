"""What a weight file is, from its metadata, its name and its tensors, and whether and where it loads.

    python tools/inspect_checkpoint.py checkpoint/TSM_.../ckpt.best.pth.tar
    python tools/inspect_checkpoint.py a.pth b.pth --json

Reads checkpoints of main.py, the released files, mmaction2's, state dicts wrapped or bare and whatever they are called,
online models, ImageNet weights, and exported models (.onnx, .xml, .pt2). No code in a file is run. The exit status is 2 when
a file is none of these.
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
from ops.runtimes.exported_file import ExportedModel, format_of, read_exported

KINDS = {CLIP: "video model", ONLINE: "online model", IMAGE: "image network"}
# Options of a video model that the tensors do not always show.
OFTEN_UNKNOWN = ("num_segments", "shift", "shift_place", "shift_div", "shift_direction", "consensus_type")


def main() -> int:
    parser = build_parser()
    args = parser.parse_args()
    reports: list[dict[str, Any]] = []
    words, errors = [], []
    for path in args.file:
        try:
            found = read_exported(path) if format_of(path) else inspect_file(path)
        except UserError as error:
            errors.append(error)
            continue
        exported = isinstance(found, ExportedModel)
        reports.append(exported_as_json(path, found) if exported else as_json(found))
        words.append(exported_in_words(reports[-1]) if exported else in_words(found))
    print(json.dumps(reports, indent=2) if args.json else "\n\n".join(words))
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


def exported_as_json(path: Path, exported: ExportedModel) -> dict[str, Any]:
    """An exported model's report as plain values."""
    info = exported.info
    return {**json.loads(info.to_json()), "file": str(path), "kind": f"exported {KINDS[info.kind]}",
            "format": exported.format, "bytes": exported.size, "loads_as": "test_models.py, tools/predict.py"
            + ", online_demo/main.py" * (info.kind == ONLINE)}


def exported_in_words(report: dict[str, Any]) -> str:
    """An exported model's report as a few lines."""
    size = f"{report['bytes'] / 1e6:.1f} MB"
    lines = [f"{report['file']}: {report['kind']}, {report['format']}, {report['precision']}, {size}"]
    options = {**report["spec"], "dataset": report["dataset"], "frame_rate": report["frame_rate"]}
    lines += [f"    {key:16} {value}" for key, value in options.items() if value not in (None, "")]
    if report["class_names"]:
        lines.append(f"    {'class_names':16} {len(report['class_names'])}: {', '.join(report['class_names'][:3])}, ...")
    for what in ("inputs", "outputs"):
        named = [f"{name} {shape}" for name, shape in report[what].items()]
        lines.append(f"    {what:16} {', '.join(named[:3])}{', ...' * (len(named) > 3)}")
    for what in ("preprocessing", "versions", "measured"):
        lines.append(f"    {what:16} {', '.join(f'{key} {value}' for key, value in report[what].items())}")
    return "\n".join([*lines, f"    loads into: {report['loads_as']}"])


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
