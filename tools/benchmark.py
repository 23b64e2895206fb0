"""Measure a claim on this machine: both sides in one run, medians of interleaved rounds, CPU flags beside them.

    python tools/benchmark.py memory    # in-place shift: peak activation memory and time of a training step
    python tools/benchmark.py data      # loading: clips per second against the published way
    python tools/benchmark.py online    # streaming: latency and frames per second by backend
"""
import importlib
import sys
from pathlib import Path
from typing import Optional

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from ops.common.cli import Parser, run
from tools.benchmarks.machine import describe_machine

SUBJECTS = {"memory": "peak activation memory of a training step, plain against in-place shift",
            "data": "clips per second, against the published way of loading",
            "online": "per-frame latency and frames per second of streaming, by backend"}


def main() -> Optional[int]:
    parser = Parser(prog="benchmark.py", description="Measure a claim on this machine.")
    subjects = parser.add_subparsers(dest="subject", required=True, metavar="|".join(SUBJECTS))
    for name, words in SUBJECTS.items():
        importlib.import_module(f"tools.benchmarks.{name}").add_arguments(subjects.add_parser(name, help=words))
    args = parser.parse_args()
    print(describe_machine())
    return importlib.import_module(f"tools.benchmarks.{args.subject}").run(args)


if __name__ == "__main__":
    run(main)
