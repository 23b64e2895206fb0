"""The machine that a measurement ran on, and the timing of several jobs side by side."""
import argparse
import json
import os
import platform
import statistics
import time
from pathlib import Path
from typing import Any, Callable

import torch

from ops.common.device import git_commit, processor
from ops.common.files import atomic_write

# Instruction sets that determine how fast a network runs on a CPU.
FLAGS = ("avx2", "avx512f", "avx512_vnni", "avx512_bf16", "amx_tile", "amx_bf16", "amx_int8", "asimd", "bf16", "i8mm")


def describe_machine() -> str:
    """One line: the processor, those of FLAGS that it has, cores, GPU, and torch's version."""
    name, present = processor()
    flags = [flag for flag in FLAGS if flag in present]
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else "no GPU"
    return (f"machine: {name} ({' '.join(flags) or 'flags unknown'}), {len(os.sched_getaffinity(0))} cores, {gpu};"
            f" torch {torch.__version__}, {torch.get_num_threads()} threads")


def interleaved_medians(jobs: dict[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """Median seconds of each job. The jobs take turns in every round; one more round, untimed, comes first."""
    seconds: dict[str, list[float]] = {name: [] for name in jobs}
    for round_number in range(rounds + 1):
        for name, job in jobs.items():
            begin = time.perf_counter()
            job()
            if round_number:
                seconds[name].append(time.perf_counter() - begin)
    return {name: statistics.median(values) for name, values in seconds.items()}


def describe_load() -> str:
    """How busy the machine is: its average number of running processes, over the last minute and 5 minutes."""
    one, five, _ = os.getloadavg()
    return f"load: {one:.1f} over 1 minute, {five:.1f} over 5 minutes, on {os.cpu_count()} cores"


def write_json(path: Path, args: argparse.Namespace, rows: Any) -> None:
    """Write a benchmark's rows with the machine, its load, and the flags. Raises CannotWrite."""
    options = {name: value for name, value in vars(args).items() if name != "json"}
    content = {"machine": describe_machine().removeprefix("machine: "), "load": os.getloadavg(),
               "python": platform.python_version(), "commit": git_commit(), "options": options, "rows": rows}
    with atomic_write(path) as f:
        json.dump(content, f, indent=1, default=str)  # str: paths among the options
        f.write("\n")
