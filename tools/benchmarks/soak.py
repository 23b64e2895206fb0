"""The memory of a process over many streaming steps, which shows whether anything leaks."""
import os
from contextlib import contextmanager
from pathlib import Path
from typing import Iterator, Sequence

import torch
from torch import nn

from ops.common.errors import UserError
from ops.common.progress import progress
from ops.models import TSN
from ops.runtimes.registry import open_runtime
from ops.spec import ModelSpec
from ops.streaming.online import OnlineTSM
from ops.streaming.stream import Stream

CLASSES = 27
SIZE = 32  # pixels; a leak would not depend on it
MARKS = (5, 25, 50, 75, 100)  # percent of the steps


def soak(backends: Sequence[str], steps: int) -> None:
    """Print the memory of this process while one stream after another takes `steps` frames."""
    resident_megabytes()  # raises at once where it is not available
    marks = sorted({max(1, steps * percent // 100) for percent in MARKS})
    print(f"memory of the process in MB after so many frames through ops.streaming.stream.Stream (resnet18's first stage at"
          f" {SIZE} x {SIZE})\n")
    print(f"| backend | {' | '.join(f'{mark:,}' for mark in marks)} | from first to last |")
    print("|---" * (len(marks) + 2) + "|", flush=True)
    online = first_stage()
    with one_core():
        soak_each(backends, online, steps, marks)


def soak_each(backends: Sequence[str], online: OnlineTSM, steps: int, marks: Sequence[int]) -> None:
    """Measure and print a row of the table per backend."""
    frames = torch.randint(0, 256, (8, 1, 3, SIZE, SIZE), dtype=torch.uint8)
    for backend in backends:
        stream = Stream(open_runtime(backend, online, device="cpu"))
        resident = []
        for step in progress(range(1, steps + 1), desc=backend, unit="step", leave=False):
            stream.push(frames[step % len(frames)])
            if step in marks:
                resident.append(resident_megabytes())
        values = " | ".join(f"{value:.1f}" for value in resident)
        print(f"| {backend} | {values} | {resident[-1] - resident[0]:+.1f} |", flush=True)


@contextmanager
def one_core() -> Iterator[None]:
    """Inside, this process uses one core and one thread; with so small a model, several would wait for each other."""
    cores, threads = os.sched_getaffinity(0), torch.get_num_threads()
    os.sched_setaffinity(0, {min(cores)})
    torch.set_num_threads(1)
    try:
        yield
    finally:
        os.sched_setaffinity(0, cores)
        torch.set_num_threads(threads)


def first_stage() -> OnlineTSM:
    """ResNet-18 up to its first pair of blocks: quick, and a stream handles it like a larger model."""
    model = TSN.from_spec(ModelSpec(CLASSES, 2, arch="resnet18", shift=True, shift_direction="unidirectional",
                                    input_size=SIZE))
    net = model.base_model
    net.layer2, net.layer3, net.layer4 = nn.Identity(), nn.Identity(), nn.Identity()
    model.new_fc = nn.Linear(net.bn1.num_features, CLASSES)
    return OnlineTSM(model.eval())


def resident_megabytes() -> float:
    """The memory that this process holds now."""
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
    except OSError:
        raise UserError("--soak reads /proc/self/statm, which only Linux has") from None
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6
