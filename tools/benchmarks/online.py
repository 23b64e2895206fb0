"""Latency of one step and frames per second of streaming, by backend, precision, model and number of streams.

Everything is set against the plain step of one stream: eager PyTorch, float32, NCHW, its default threads. One run
measures all of a model's rows, taking turns, so that what else the machine does meets each alike.
"""
import argparse
import itertools
import logging
import os
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Callable, Optional, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from online_demo.runtimes import BACKENDS, EXPORTED, PRECISIONS, open_exported, open_runtime
from ops.cli import progress
from ops.errors import UserError
from ops.export_onnx import export_step
from ops.online import OnlineTSM
from ops.settings import ModelSettings, build_model
from ops.stream import StepModel, Stream

log = logging.getLogger(__name__)

ARCHS = ("mobilenetv2", "resnet18", "resnet50")
CLASSES = 27  # Jester's
EAGER = "eager float32 NCHW"
COMPARED_FRAMES = 4
SLICE = 0.25  # seconds that a row gets in each round, or one step where that takes longer
SOAK_SIZE = 32  # pixels; the size changes nothing in what could leak
SOAK_PERCENT = (5, 25, 50, 75, 100)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--arch", nargs="+", default=list(ARCHS), help=f"random weights of these (default: {' '.join(ARCHS)})")
    add("--weights", type=Path, help="measure this online file or checkpoint instead")
    add("--backend", nargs="+", choices=BACKENDS, default=list(BACKENDS))
    add("--streams", type=int, nargs="+", default=[1, 4, 16])
    add("--input_size", type=int, default=224)
    add("--rounds", type=int, default=5)
    add("--compile", action="store_true", help="torch.compile too (needs a C++ compiler; compiles for a minute)")
    add("--soak", type=int, metavar="STEPS", help="instead: memory of the process over so many steps of a small model,"
        " by backend (100000: some minutes)")


def run(args: argparse.Namespace) -> Optional[int]:
    if min(args.rounds, args.input_size, *args.streams, args.soak or 1) < 1:
        raise UserError("--rounds, --input_size, --streams and --soak: choose 1 or more")
    pairs = itertools.product(args.backend, PRECISIONS)
    args.ways = [(backend, precision) for backend, precision in pairs if can(backend, precision)]
    if args.soak:
        soak([backend for backend, precision in args.ways if precision == "float32"], args.soak)
        return None
    print(f"steps of {args.input_size} x {args.input_size} frames; speed: frames per second of all streams, against one"
          f" stream in {EAGER}; error: largest difference of a logit from {EAGER}'s, in percent of the largest logit\n")
    print("| model | streams | backend | p50 ms | p95 ms | p99 ms | frames/s | speed | error % |")
    print("|---|---|---|---|---|---|---|---|---|", flush=True)
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
    model = build_model(ModelSettings(CLASSES, 2, arch=arch, shift=True, shift_direction="unidirectional",
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
    rows = [make_row(name, model, online, streams, args.input_size)
            for streams in sorted({1, *args.streams}) for name, model in models.items()]
    for _ in progress(range(args.rounds), desc=online.settings.arch, leave=False):
        for row in rows:
            sample(row)
    base = rows[0].rate  # eager, one stream
    for row in rows:
        if row.streams in args.streams:
            p50, p95, p99 = (1000 * seconds for seconds in np.percentile(row.seconds, [50, 95, 99]))
            print(f"| {online.settings.arch} | {row.streams} | {row.name} | {p50:.2f} | {p95:.2f} | {p99:.2f}"
                  f" | {row.rate:.1f} | {row.rate / base:.2f} | {row.error:.2g} |", flush=True)


def open_all(online: OnlineTSM, args: argparse.Namespace) -> dict[str, StepModel]:
    """Each way to step this model, the plain one first."""
    models: dict[str, StepModel] = {EAGER: online}
    size, exports = args.input_size, any(backend in EXPORTED for backend, _ in args.ways)
    exported = export_step(online, size, size) if exports else None
    for backend, precision in args.ways:
        models[f"{backend} {precision}"] = (
            open_runtime("torch", online, "cpu", precision=precision) if backend == "torch" or exported is None
            else open_exported(backend, exported, precision))
    if args.compile:
        models["torch.compile float32"] = Compiled(online)
    return models


def can(backend: str, precision: str) -> bool:
    """Whether this machine has it; says why not."""
    try:
        if backend in EXPORTED:
            EXPORTED[backend].check(precision)
    except UserError as error:
        log.info("left out: %s %s: %s", backend, precision, error)
        return False
    return True


class Compiled:
    """torch.compile of the plain step, weights frozen into it."""

    def __init__(self, online: OnlineTSM) -> None:
        self.settings, self.class_names = online.settings, online.class_names
        self.initial_state, self.prepare = online.initial_state, online.prepare
        self._forward = torch.compile(online, options={"freezing": True})

    @torch.no_grad()
    def step(self, frames: Tensor, state: Sequence[Tensor]) -> tuple[Tensor, tuple[Tensor, ...]]:
        logits, *after = self._forward(frames, *state)
        return logits, tuple(after)


def make_row(name: str, model: StepModel, online: OnlineTSM, streams: int, size: int) -> Row:
    """A row whose model has stepped some frames already: the same as `online`, for the error."""
    frames = torch.randn(COMPARED_FRAMES, streams, 3, size, size, generator=torch.Generator().manual_seed(1))
    wanted = logits_of(online, frames)
    error = 100 * float((logits_of(model, frames) - wanted).abs().max() / wanted.abs().max())
    state = [model.initial_state(streams, size, size)]

    def step() -> None:
        _, state[0] = model.step(frames[0], state[0])
    return Row(name, streams, step, error)


def logits_of(model: StepModel, frames: Tensor) -> Tensor:
    """(T, streams, num_class) of frames (T, streams, 3, H, W), from zero memories."""
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
    marks = sorted({max(1, steps * part // 100) for part in SOAK_PERCENT})
    print(f"memory of the process in MB after so many frames through ops.stream.Stream (resnet18 at {SOAK_SIZE})\n")
    print(f"| backend | {' | '.join(f'{mark:,}' for mark in marks)} | from first to last |")
    print("|---" * (len(marks) + 2) + "|", flush=True)
    online = random_model("resnet18", SOAK_SIZE)
    frames = torch.randint(0, 256, (8, 1, 3, SOAK_SIZE, SOAK_SIZE), dtype=torch.uint8)
    for backend in backends:
        stream = Stream(open_runtime(backend, online, "cpu"))
        resident = []
        for step in progress(range(1, steps + 1), desc=backend, leave=False):
            stream.push(frames[step % len(frames)])
            if step in marks:
                resident.append(resident_megabytes())
        values = " | ".join(f"{value:.1f}" for value in resident)
        print(f"| {backend} | {values} | {resident[-1] - resident[0]:+.1f} |", flush=True)


def resident_megabytes() -> float:
    """What this process holds in memory now."""
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
    except OSError:
        raise UserError("--soak reads /proc/self/statm, which only Linux has") from None
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6
