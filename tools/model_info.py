"""What a model costs: its shifted layers, parameters, and multiply-adds per view (one clip of T frames, one crop).

    python tools/model_info.py resnet50 --shift
    python tools/model_info.py resnet50 resnet101 mobilenetv2 --shift --num_segments 16 --json

Counted are the multiply-adds (the FLOPs of the papers' tables) of convolutions, linear layers and the matrix products
of non-local blocks; batch norm, activations, pooling and the shift are not. Nothing is downloaded or computed.
"""
import json
import sys
from argparse import RawDescriptionHelpFormatter
from pathlib import Path
from typing import Any

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from ops.backbones import BACKBONES
from ops.common.cli import Parser, run
from ops.flops import COUNTED, count_multiply_adds, count_parameters, view_shape
from ops.models import TSN
from ops.non_local import NON_LOCAL_TYPES
from ops.spec import ModelSpec
from ops.temporal_shift import DIRECTIONS, shift_layers


def main() -> None:
    args = build_parser().parse_args()
    rows = [describe(ModelSpec.from_options(vars(args), arch=arch)) for arch in args.arch]
    if args.json:
        print(json.dumps(rows, indent=2))
        return
    if len(rows) == 1:
        tell_layers(rows[0])
    tell_table(rows)


def build_parser() -> Parser:
    parser = Parser(description=__doc__, formatter_class=RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("arch", nargs="+", metavar="ARCH", help=", ".join(BACKBONES))
    add("--num_class", type=int, default=400)
    add("--num_segments", type=int, default=8, help="frames per clip")
    add("--modality", default="RGB", help="RGB, Flow or RGBDiff")
    add("--input_size", type=int, default=224, help="height and width of the crop, pixels")
    add("--shift", action="store_true", help="shift channels between frames (TSM)")
    add("--shift_div", type=int, default=8)
    add("--shift_place", default="")
    add("--shift_direction", default=DIRECTIONS[0], help=" or ".join(DIRECTIONS))
    add("--non_local", action="store_true")
    add("--non_local_type", default=NON_LOCAL_TYPES[0], help=", ".join(NON_LOCAL_TYPES))
    add("--temporal_pool", action="store_true")
    add("--consensus_type", default="avg", help="avg or identity")
    add("--dropout", type=float, default=0.5)
    add("--json", action="store_true", help="everything as JSON")
    return parser


def describe(settings: ModelSpec) -> dict[str, Any]:
    """One model's numbers; UserError for options that do not work together."""
    with torch.device("meta"):  # shapes without memory
        model = TSN.from_spec(settings)
    shape = view_shape(model, settings.input_size)
    return {"settings": settings.to_dict() | {"shift_place": settings.place if settings.shift else ""},
            "parameters": count_parameters(model), "input_shape": list(shape),
            "multiply_adds": count_multiply_adds(model, shape), "counted": COUNTED,
            "shift_layers": [{"name": name, "channels": channels, "moved_each_way": moved}
                             for name, channels, moved in shift_layers(model)]}


def tell_layers(row: dict[str, Any]) -> None:
    """The layers that shift, one a line."""
    ways = "each way" if row["settings"]["shift_direction"] == "bidirectional" else "from the past"
    for layer in row["shift_layers"]:
        print(f"shift: {layer['name']}: {layer['moved_each_way']} of {layer['channels']} channels {ways}")


def tell_table(rows: list[dict[str, Any]]) -> None:
    s = rows[0]["settings"]
    print(f"{s['modality']}, {s['num_class']} classes, a view of {s['num_segments']} frames at {s['input_size']} x"
          f" {s['input_size']} pixels")
    print(f"{'model':12} {'shifted layers':>14} {'parameters':>12} {'multiply-adds':>16}")
    for row in rows:
        print(f"{row['settings']['arch']:12} {len(row['shift_layers']):14} {row['parameters']:12,}"
              f" {row['multiply_adds'] / 1e9:14.2f} G")
    print(f"counted: {COUNTED}")


if __name__ == "__main__":
    run(main)
