"""Measure a claim on this machine. One run measures both sides in turns and prints medians and the processor's features.

    python tools/benchmark.py memory    # in-place shift: peak activation memory and time of a training step
    python tools/benchmark.py data      # loading: clips per second, compared with the published way
    python tools/benchmark.py online    # streaming: latency and frames per second of every backend
    python tools/benchmark.py movinet   # streaming: compared with MoViNet-A0-Stream (needs TensorFlow)
    python tools/benchmark.py clip      # clips: time in every runtime, with and without the shift
    python tools/benchmark.py train     # training step in every mode, compared with the published step
    python tools/benchmark.py scaling   # training step by frames per clip, and on 1 and 2 processes
    python tools/benchmark.py shift     # on a GPU: the shift inside the convolutions, compared with TSN
"""
import argparse
import importlib
import inspect
import sys
from pathlib import Path
from typing import Optional

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from ops.common.cli import Parser, check_usage, run
from tools.benchmarks.flags import FLAGS

SUBJECTS = {"memory": "peak activation memory of a training step: in-place shift compared with the plain shift",
            "data": "clips per second: compared with the published way of loading",
            "online": "latency per frame and frames per second of streaming, by backend",
            "movinet": "one step of streaming on one core, compared with MoViNet-A0-Stream (needs TensorFlow)",
            "clip": "time of a clip in every runtime, with and without the shift, compared with the published way",
            "train": "time and peak memory of a training step in every mode, compared with the published step",
            "scaling": "time and peak memory of a training step by frames per clip, and on 1 and 2 processes",
            "shift": "on a GPU: the shift inside the convolutions, compared with shifted copies and with TSN"}


def build_parser() -> Parser:
    parser = Parser(prog="benchmark.py", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    subjects = parser.add_subparsers(dest="subject", required=True, metavar="|".join(SUBJECTS))
    for name, words in SUBJECTS.items():
        FLAGS[name](subjects.add_parser(name, help=words, description=inspect.getdoc(FLAGS[name]),
                                        formatter_class=argparse.RawDescriptionHelpFormatter))
    return parser


if __name__ == "__main__":
    check_usage(build_parser().parse_args)  # torch, which the benchmarks need, takes seconds

from tools.benchmarks.machine import describe_machine


def main() -> Optional[int]:
    args = build_parser().parse_args()
    print(describe_machine())
    return importlib.import_module(f"tools.benchmarks.{args.subject}").run(args)


if __name__ == "__main__":
    run(main)
