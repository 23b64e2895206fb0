"""Latency of one step and frames per second of streaming, by backend, precision, model and number of streams.

Everything is set against the plain step of one stream: eager PyTorch, float32, NCHW, its default threads. One run
measures all of a model's rows, taking turns, so that what else the machine does meets each alike.
"""
import argparse
import itertools
import logging
import os
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Callable, Iterator, Mapping, Optional, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from ops.common.cli import progress
from ops.common.errors import UserError
from ops.models import TSN
from ops.runtimes.base import PRECISIONS
from ops.runtimes.export import export_step
from ops.runtimes.quantize import quantize_step
from ops.runtimes.registry import BACKENDS, check_backend, open_exported, open_runtime, runs_exported
from ops.runtimes.step_file import ExportedStep
from ops.spec import ModelSpec
from ops.streaming.online import OnlineTSM
from ops.streaming.step_runtime import State, StepRuntime
from ops.streaming.stream import Stream

log = logging.getLogger(__name__)

ARCHS = ("mobilenetv2", "resnet18", "resnet50")
CLASSES = 27  # Jester's
EAGER = "eager float32 NCHW"
COMPARED_FRAMES = 4
CALIBRATION_FRAMES = 8
SLICE = 0.25  # seconds that a row gets in each round, or one step where that takes longer
LEAST_STEPS = 5  # of a row, however long they take
SOAK_SIZE = 32  # pixels; the size changes nothing in what could leak
SOAK_PERCENT = (5, 25, 50, 75, 100)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--arch", nargs="+", default=list(ARCHS), help=f"random weights of these (default: {' '.join(ARCHS)})")
    add("--weights", type=Path, help="measure this online file or checkpoint instead")
    add("--precision", nargs="+", choices=PRECISIONS, default=list(PRECISIONS))
    add("--backend", nargs="+", choices=BACKENDS, default=list(BACKENDS))
    add("--streams", type=int, nargs="+", default=[1, 4, 16])
    add("--input_size", type=int, default=224)
    add("--rounds", type=int, default=5, help="in each, every row steps for a quarter of a second")
    add("--compile", action="store_true", help="torch.compile too (needs a C++ compiler; compiles for a minute)")
    add("--soak", type=int, metavar="STEPS", help="instead: memory of the process over so many steps of a small model,"
        " by backend (100000: 4 minutes)")


def run(args: argparse.Namespace) -> Optional[int]:
    if min(args.rounds, args.input_size, *args.streams, args.soak or 1) < 1:
        raise UserError("--rounds, --input_size, --streams and --soak: choose 1 or more")
    pairs = itertools.product(args.backend, args.precision)
    args.ways = [(backend, precision) for backend, precision in pairs if can(backend, precision)]
    if args.soak:
        soak(args.backend, args.soak)
        return None
    print(f"steps of {args.input_size} x {args.input_size} frames; speed: frames per second of all streams, against one"
          f" stream in {EAGER}; error: largest difference of a logit from {EAGER}'s, in percent of the largest logit\n")
    print("| model | streams | backend | steps | p50 ms | p95 ms | p99 ms | frames/s | speed | error % |")
    print("|---|---|---|---|---|---|---|---|---|---|", flush=True)
    for online in [OnlineTSM(args.weights)] if args.weights else [random_model(a, args.input_size) for a in args.arch]:
        measure(online, args)
    return None


@dataclass
class Row:
    """One line of the table while it is being measured.

    error: see `run`, percent. seconds: of each step.
    """
    name: str
    streams: int
    step: Callable[[], object]
    error: float
    seconds: list[float] = field(default_factory=list)

    @property
    def rate(self) -> float:
        """Frames per second of all streams, by the median step."""
        return self.streams / float(np.median(self.seconds))


def random_model(arch: str, size: int) -> OnlineTSM:
    """A one-way model whose random weights give logits of ordinary size: its norms have seen some frames."""
    torch.manual_seed(0)
    model = TSN.from_spec(ModelSpec(CLASSES, 2, arch=arch, shift=True, shift_direction="unidirectional",
                                    input_size=size))
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = None  # the mean of what it sees
            module.train()
    with torch.no_grad():
        for _ in range(2):
            model(torch.randn(4, 6, size, size))
    return OnlineTSM(model)


# ---- speed --------------------------------------------------------------------------------------------------

def measure(online: OnlineTSM, args: argparse.Namespace) -> None:
    """Print the rows of one model."""
    models = open_all(online, args)
    rows = [row for streams in sorted({1, *args.streams})
            for row in make_rows(models, streams, args.input_size) if streams in args.streams or row.name == EAGER]
    for _ in progress(range(args.rounds), desc=online.spec.arch, leave=False):
        for row in rows:
            sample(row)
    for row in rows:
        while len(row.seconds) < LEAST_STEPS:
            sample(row)
    base = rows[0].rate  # eager, one stream
    for row in rows:
        if row.streams in args.streams:
            p50, p95, p99 = (1000 * seconds for seconds in np.percentile(row.seconds, [50, 95, 99]))
            print(f"| {online.spec.arch} | {row.streams} | {row.name} | {len(row.seconds)} | {p50:.2f} | {p95:.2f}"
                  f" | {p99:.2f} | {row.rate:.1f} | {row.rate / base:.2f} | {row.error:.2g} |", flush=True)


def open_all(online: OnlineTSM, args: argparse.Namespace) -> dict[str, StepRuntime]:
    """Each way to step this model, the plain one first."""
    models: dict[str, StepRuntime] = {EAGER: online}
    steps = export_all(online, args)
    for backend, precision in args.ways:
        models[f"{backend} {precision}"] = (
            open_runtime("torch", online, device="cpu", precision=precision) if backend == "torch"
            else open_exported(backend, steps["int8" if precision == "int8" else "float32"], precision))
    if args.compile:
        models["torch.compile float32"] = Compiled(online)
    return models


def export_all(online: OnlineTSM, args: argparse.Namespace) -> dict[str, ExportedStep]:
    """The steps that the runtimes need: float32, and int8 calibrated on frames like those that are measured."""
    wanted = {precision for backend, precision in args.ways if runs_exported(backend)}
    if not wanted:
        return {}
    steps = {"float32": export_step(online, args.input_size, args.input_size)}
    if "int8" in wanted:
        frames = torch.randn(CALIBRATION_FRAMES, 1, 3, args.input_size, args.input_size,
                             generator=torch.Generator().manual_seed(2))
        steps["int8"] = quantize_step(steps["float32"], [frames])
    return steps


def can(backend: str, precision: str) -> bool:
    """Whether this machine has it; says why not."""
    try:
        check_backend(backend, precision)
    except UserError as error:
        log.info("left out: %s %s: %s", backend, precision, error)
        return False
    return True


class Compiled:
    """torch.compile of the plain step, weights frozen into it."""

    def __init__(self, online: OnlineTSM) -> None:
        self.spec, self.class_names = online.spec, online.class_names
        self.initial_state, self.prepare = online.initial_state, online.prepare
        self._forward = torch.compile(online, options={"freezing": True})

    @torch.no_grad()
    def step(self, frames: Tensor, state: Sequence[Tensor]) -> tuple[Tensor, State]:
        logits, *new_state = self._forward(frames, *state)
        return logits, tuple(new_state)


def make_rows(models: Mapping[str, StepRuntime], streams: int, size: int) -> Iterator[Row]:
    """A row for each model, the plain one first; all have stepped the same few frames already, for the error."""
    frames = torch.randn(COMPARED_FRAMES, streams, 3, size, size, generator=torch.Generator().manual_seed(1))
    wanted = logits_of(models[EAGER], frames)
    for name, model in models.items():
        error = 100 * float((logits_of(model, frames) - wanted).abs().max() / wanted.abs().max())
        yield Row(name, streams, stepper(model, frames[0]), error)


def stepper(model: StepRuntime, frames: Tensor) -> Callable[[], None]:
    """A call that steps this model once more with these frames."""
    state = [model.initial_state(*frames.shape[:1], *frames.shape[-2:])]

    def step() -> None:
        _, state[0] = model.step(frames, state[0])
    return step


def logits_of(model: StepRuntime, frames: Tensor) -> Tensor:
    """(T, streams, num_class) of frames (T, streams, 3, H, W), from a zero state."""
    state = model.initial_state(frames.shape[1], *frames.shape[-2:])
    rows = []
    for frame in frames:
        logits, state = model.step(frame, state)
        rows.append(logits.clone())
    return torch.stack(rows)


def sample(row: Row) -> None:
    """Time steps of one row for a slice of time; the first one, in another row's cache, does not count."""
    if not row.seconds or row.seconds[-1] < SLICE:
        row.step()
    end = time.perf_counter() + SLICE
    while True:
        begin = time.perf_counter()
        row.step()
        now = time.perf_counter()
        row.seconds.append(now - begin)
        if now >= end:
            return


# ---- memory -------------------------------------------------------------------------------------------------

def soak(backends: Sequence[str], steps: int) -> None:
    """Print the memory of this process while one stream after another takes `steps` frames."""
    resident_megabytes()  # before anything else: not every system tells
    marks = sorted({max(1, steps * part // 100) for part in SOAK_PERCENT})
    print(f"memory of the process in MB after so many frames through ops.streaming.stream.Stream (resnet18's first stage at"
          f" {SOAK_SIZE} x {SOAK_SIZE})\n")
    print(f"| backend | {' | '.join(f'{mark:,}' for mark in marks)} | from first to last |")
    print("|---" * (len(marks) + 2) + "|", flush=True)
    online = first_stage(SOAK_SIZE)
    with one_core():
        soak_each(backends, online, steps, marks)


def soak_each(backends: Sequence[str], online: OnlineTSM, steps: int, marks: Sequence[int]) -> None:
    """A row of the table per backend."""
    frames = torch.randint(0, 256, (8, 1, 3, SOAK_SIZE, SOAK_SIZE), dtype=torch.uint8)
    for backend in backends:
        stream = Stream(open_runtime(backend, online, device="cpu"))
        resident = []
        for step in progress(range(1, steps + 1), desc=backend, leave=False):
            stream.push(frames[step % len(frames)])
            if step in marks:
                resident.append(resident_megabytes())
        values = " | ".join(f"{value:.1f}" for value in resident)
        print(f"| {backend} | {values} | {resident[-1] - resident[0]:+.1f} |", flush=True)


@contextmanager
def one_core() -> Iterator[None]:
    """Several would only wait for each other over so small a model."""
    cores, threads = os.sched_getaffinity(0), torch.get_num_threads()
    os.sched_setaffinity(0, {min(cores)})
    torch.set_num_threads(1)
    try:
        yield
    finally:
        os.sched_setaffinity(0, cores)
        torch.set_num_threads(threads)


def first_stage(size: int) -> OnlineTSM:
    """ResNet-18 up to its first pair of blocks: quick, and with all that a stream does around a larger one."""
    model = TSN.from_spec(ModelSpec(CLASSES, 2, arch="resnet18", shift=True, shift_direction="unidirectional",
                                    input_size=size))
    net = model.base_model
    net.layer2, net.layer3, net.layer4 = nn.Identity(), nn.Identity(), nn.Identity()
    model.new_fc = nn.Linear(net.bn1.num_features, CLASSES)
    return OnlineTSM(model.eval())


def resident_megabytes() -> float:
    """What this process holds in memory now."""
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
    except OSError:
        raise UserError("--soak reads /proc/self/statm, which only Linux has") from None
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6
