"""Draw the losses and accuracies of training runs on one picture.

    python tools/plot_log.py log/RUN1 log/RUN2 --out runs.png

A run is given by its directory, or by the log.csv in it. The picture shows the loss and the top-1 accuracy (of
multi-label data sets the mAP) after each epoch, in a color per run: validation solid, training dashed.
"""
import sys
from argparse import RawDescriptionHelpFormatter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from ops.common.cli import Parser, check_usage, image_file, run


def build_parser() -> Parser:
    parser = Parser(description=__doc__, formatter_class=RawDescriptionHelpFormatter)
    parser.add_argument("logs", nargs="+", type=Path, metavar="LOG", help="a run's directory (log/<name>), or its log.csv")
    parser.add_argument("--out", type=image_file(".png"), default=Path("runs", "plot_log.png"), metavar="FILE.png",
                        help="the picture (default: %(default)s)")
    return parser


if __name__ == "__main__":
    check_usage(build_parser().parse_args)  # the imports below take a moment

from ops.common.files import check_not_an_input
from ops.common.plots import draw_runs, save_png
from ops.common.words import counted
from ops.training.past_runs import files_of_runs, read_runs


def main() -> None:
    args = build_parser().parse_args()
    check_not_an_input(args.out, files_of_runs(args.logs), "out")
    runs = read_runs(args.logs)
    save_png(draw_runs({found.name: found.rows for found in runs}), args.out)
    print(f"{args.out}: {counted(len(runs), 'run')}, {counted(max(len(found.rows) for found in runs), 'epoch')}")


if __name__ == "__main__":
    run(main)
