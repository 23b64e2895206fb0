"""Print a table of training runs: the settings in which they differ, and their results.

    python tools/compare_runs.py log/RUN1 log/RUN2

A run is given by its directory, or by the log.csv in it. Settings come from the args.txt that main.py writes beside it.
"""
import json
import sys
from argparse import RawDescriptionHelpFormatter
from pathlib import Path
from typing import Mapping, Sequence

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from ops.common.cli import Parser, check_usage, run


def build_parser() -> Parser:
    parser = Parser(description=__doc__, formatter_class=RawDescriptionHelpFormatter)
    parser.add_argument("logs", nargs="+", type=Path, metavar="LOG", help="a run's directory (log/<name>), or its log.csv")
    parser.add_argument("--json", action="store_true", help="print the table as JSON, a record per run")
    return parser


if __name__ == "__main__":
    check_usage(build_parser().parse_args)  # the imports below take a moment

from ops.training.past_runs import differing_settings, read_runs


def main() -> None:
    args = build_parser().parse_args()
    runs = read_runs(args.logs)
    settings = differing_settings(runs)
    results = [found.results() for found in runs]
    if args.json:
        print(json.dumps([{"run": found.name, "settings": {name: values[i] for name, values in settings.items()},
                           "results": results[i]} for i, found in enumerate(runs)], indent=2))
        return
    for number, found in enumerate(runs, start=1):
        print(f"run {number}: {found.name}{'' if found.settings else ' (without args.txt: its settings are unknown)'}")
    names = list(dict.fromkeys(name for result in results for name in result))
    print_table({"": [f"run {number}" for number in range(1, len(runs) + 1)], **settings,
                 **{name: [result.get(name, "") for result in results] for name in names}})


def print_table(rows: Mapping[str, Sequence[str]]) -> None:
    """A row per entry: its name, then its values in columns."""
    cells = [[name, *(value or "-" for value in values)] for name, values in rows.items()]
    widths = [max(map(len, column)) for column in zip(*cells)]
    for row in cells:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip())


if __name__ == "__main__":
    run(main)
