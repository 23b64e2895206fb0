"""Score what a device computed:  python tools/score_outputs.py OUTPUTS --inputs INPUTS

INPUTS is a directory of tools/export_inputs.py. OUTPUTS holds frames{i}_0.bin for each of its frames{i}.bin: the logits of
the classes, float32, little-endian. The last lines are those of test_models.py.
"""
import sys
from argparse import RawDescriptionHelpFormatter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from ops.common.cli import Parser, check_usage, run


def build_parser() -> Parser:
    parser = Parser(description=__doc__, formatter_class=RawDescriptionHelpFormatter)
    parser.add_argument("outputs", type=Path, metavar="OUTPUTS")
    parser.add_argument("--inputs", type=Path, required=True, metavar="DIR", help="where the clips and their labels are")
    return parser


if __name__ == "__main__":
    check_usage(build_parser().parse_args)  # torch, which the imports below need, takes seconds

from ops.common.words import counted
from ops.evaluation.device_files import read_record, read_scores


def main() -> None:
    args = build_parser().parse_args()
    scores = read_scores(args.outputs, args.inputs)
    views = read_record(args.inputs)["views"]
    print(f"{counted(len(scores.labels), 'video')} x {counted(views, 'view')}")
    print(f"Class Accuracy {scores.class_accuracy:.2f}%")
    print(f"Overall Prec@1 {scores.top1:.2f}% Prec@5 {scores.top5:.2f}%")


if __name__ == "__main__":
    run(main)
