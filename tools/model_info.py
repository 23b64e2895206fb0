"""Print what a model costs: shifted layers, parameters, and multiply-adds per view (one clip of T frames, one crop).

    python tools/model_info.py resnet50 --shift
    python tools/model_info.py resnet50 resnet101 mobilenetv2 --shift --num_segments 16 --json

The multiply-adds (the papers' FLOPs) are those of convolutions, linear layers and the matrix products of non-local
blocks; batch norm, activations, pooling and the shift are not counted. Nothing is downloaded or computed.
"""
import json
import sys
from argparse import RawDescriptionHelpFormatter
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from ops.backbones import BACKBONES
from ops.common.choices import MODALITIES
from ops.common.cli import Parser, add_input_size_flag, check_usage, number, one_of, run
from ops.common.words import counted
from tools.shared.training_flags import add_spec_flags


def build_parser() -> Parser:
    parser = Parser(description=__doc__, formatter_class=RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("arch", nargs="+", type=one_of(*BACKBONES), metavar="ARCH", help=", ".join(BACKBONES))
    group = parser.add_argument_group("model")
    add = group.add_argument
    add("--num_class", type=number(int, 1), default=400, metavar="N", help="classes (default: %(default)s)")
    add("--modality", type=one_of(*MODALITIES), default="RGB", metavar="NAME",
        help=f"{', '.join(MODALITIES)} (default: %(default)s)")
    add_spec_flags(group)
    add_input_size_flag(group)
    parser.add_argument("--json", action="store_true", help="print everything as JSON")
    return parser


if __name__ == "__main__":
    check_usage(build_parser().parse_args)  # torch, which the imports below need, takes seconds

import torch

from ops.flops import COUNTED, count_multiply_adds, count_parameters, view_shape
from ops.models import TSN
from ops.spec import ModelSpec
from ops.temporal_shift import shift_layers


def main() -> None:
    args = build_parser().parse_args()
    rows = [measure(ModelSpec.from_options(vars(args), arch=arch)) for arch in args.arch]
    if args.json:
        print(json.dumps(rows, indent=2))
        return
    if len(rows) == 1:
        print_layers(rows[0])
    print_table(rows)


def measure(spec: ModelSpec) -> dict[str, Any]:
    """One model's numbers; UserError for options that do not work together."""
    with torch.device("meta"):  # shapes without memory
        model = TSN.from_spec(spec)
    shape = view_shape(model, spec.input_size)
    return {"settings": spec.to_dict() | {"shift_place": spec.place if spec.shift else ""},
            "parameters": count_parameters(model), "input_shape": list(shape),
            "multiply_adds": count_multiply_adds(model, shape), "counted": COUNTED,
            "shift_layers": [{"name": name, "channels": channels, "moved_each_way": moved}
                             for name, channels, moved in shift_layers(model)]}


def print_layers(row: dict[str, Any]) -> None:
    """The layers that shift, one per line."""
    directions = "each way" if row["settings"]["shift_direction"] == "bidirectional" else "from the past"
    for layer in row["shift_layers"]:
        print(f"shift: {layer['name']}: {layer['moved_each_way']} of {layer['channels']} channels {directions}")


def print_table(rows: list[dict[str, Any]]) -> None:
    s = rows[0]["settings"]
    print(f"{s['modality']}, {s['num_class']} classes, a view of {counted(s['num_segments'], 'frame')} at"
          f" {s['input_size']} x {s['input_size']} pixels")
    print(f"{'model':12} {'shifted layers':>14} {'parameters':>12} {'multiply-adds':>16}")
    for row in rows:
        print(f"{row['settings']['arch']:12} {len(row['shift_layers']):14} {row['parameters']:12,}"
              f" {row['multiply_adds'] / 1e9:14.2f} G")
    print(f"counted: {COUNTED}")


if __name__ == "__main__":
    run(main)
