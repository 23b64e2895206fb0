"""The memory of a process over many streaming steps, or predictions of clips, which shows whether anything leaks."""
import os
from contextlib import contextmanager
from pathlib import Path
from typing import Callable, Iterator, Sequence

import torch
from torch import Tensor, nn

from ops.common.errors import UserError
from ops.common.progress import progress
from ops.evaluation.clip_runtime import TorchClip
from ops.models import TSN
from ops.runtimes.export import export_model
from ops.runtimes.registry import as_clip, open_runtime
from ops.spec import ModelSpec
from ops.streaming.online import OnlineTSM
from ops.streaming.stream import Stream

CLASSES = 27
SIZE, CLIP_FRAMES = 32, 2  # a leak would not depend on them
MARKS = (5, 25, 50, 75, 100)  # percent of the steps


def soak(backends: Sequence[str], steps: int) -> None:
    """Print the memory of this process while one stream after another takes `steps` frames."""
    online = OnlineTSM(first_stage("unidirectional"))
    frames = torch.randint(0, 256, (8, 1, 3, SIZE, SIZE), dtype=torch.uint8)
    _soak({backend: lambda name=backend: Stream(open_runtime(name, online, device="cpu")).push for backend in backends},
          frames, steps, "frames through ops.streaming.stream.Stream")


def soak_clips(formats: Sequence[str], count: int) -> None:
    """Print the memory of this process while a network, and its export in each of these formats, predicts `count` clips."""
    model = first_stage("bidirectional")
    clips = torch.randint(0, 256, (8, 1, CLIP_FRAMES * 3, SIZE, SIZE), dtype=torch.uint8)
    ways: dict[str, Callable] = {"PyTorch": lambda: TorchClip(model)}
    ways |= {f"exported as {name}": lambda name=name: as_clip(export_model(model, name)) for name in formats}
    _soak(ways, clips, count, f"predictions of clips of {CLIP_FRAMES} frames")


def _soak(ways: dict[str, Callable], inputs: Tensor, steps: int, what: str) -> None:
    """Print a row of memory for each way: name -> function that opens it and returns what takes an input."""
    resident_megabytes()  # raises at once where it is not available
    marks = sorted({max(1, steps * percent // 100) for percent in MARKS})
    print(f"memory of the process in MB after so many {what} (resnet18's first stage at {SIZE} x {SIZE})\n")
    print(f"| runtime | {' | '.join(f'{mark:,}' for mark in marks)} | from first to last |")
    print("|---" * (len(marks) + 2) + "|", flush=True)
    with one_core():
        for name, open_way in ways.items():
            take, resident = open_way(), []
            for step in progress(range(1, steps + 1), desc=name, unit="step", leave=False):
                take(inputs[step % len(inputs)])
                if step in marks:
                    resident.append(resident_megabytes())
            values = " | ".join(f"{value:.1f}" for value in resident)
            print(f"| {name} | {values} | {resident[-1] - resident[0]:+.1f} |", flush=True)


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


def first_stage(direction: str) -> TSN:
    """ResNet-18 up to its first pair of blocks: quick, and a runtime handles it like a larger model."""
    model = TSN.from_spec(ModelSpec(CLASSES, CLIP_FRAMES, arch="resnet18", shift=True, shift_direction=direction,
                                    input_size=SIZE))
    net = model.base_model
    net.layer2, net.layer3, net.layer4 = nn.Identity(), nn.Identity(), nn.Identity()
    model.new_fc = nn.Linear(net.bn1.num_features, CLASSES)
    return model.eval()


def resident_megabytes() -> float:
    """The memory that this process holds now."""
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
    except OSError:
        raise UserError("--soak reads /proc/self/statm, which only Linux has") from None
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6
