"""Latency and frames per second of streaming; see `tools.benchmarks.flags.add_online_flags`."""
import argparse
import itertools
import logging
import time
from dataclasses import dataclass, field
from typing import Callable, Iterator, Mapping, Optional, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from ops.common.errors import UserError
from ops.common.progress import progress
from ops.models import TSN
from ops.runtimes.export import ExportOptions, export_model
from ops.runtimes.exported_file import ExportedModel
from ops.runtimes.quantize import quantize_step
from ops.runtimes.registry import check_backend, open_exported, open_runtime, runs_exported
from ops.spec import ModelSpec
from ops.streaming.online import OnlineTSM
from ops.streaming.step_runtime import State, StepRuntime
from tools.benchmarks.soak import soak

log = logging.getLogger(__name__)

CLASSES = 27  # Jester's
EAGER = "eager float32 NCHW"
COMPARED_FRAMES = 4
CALIBRATION_FRAMES = 8
SLICE = 0.25  # seconds for a row in each round; one step if a step takes longer
MIN_STEPS = 5  # per row, however long they take


def run(args: argparse.Namespace) -> Optional[int]:
    pairs = itertools.product(args.backend, args.precision)
    args.ways = [(backend, precision) for backend, precision in pairs if is_available(backend, precision)]
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
    """One line of the table. error: percent, as `run` explains it. seconds: of each step so far."""
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
    """A unidirectional model with random weights. Its norms have seen some frames, so its logits have an ordinary size."""
    torch.manual_seed(0)
    model = TSN.from_spec(ModelSpec(CLASSES, 2, arch=arch, shift=True, shift_direction="unidirectional",
                                    input_size=size))
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = None  # the mean over all its batches
            module.train()
    with torch.no_grad():
        for _ in range(2):
            model(torch.randn(4, 6, size, size))
    return OnlineTSM(model)


# ---- speed --------------------------------------------------------------------------------------------------

def measure(online: OnlineTSM, args: argparse.Namespace) -> None:
    """Measure and print the rows of one model."""
    models = open_all(online, args)
    rows = [row for streams in sorted({1, *args.streams})
            for row in make_rows(models, streams, args.input_size) if streams in args.streams or row.name == EAGER]
    for _ in progress(range(args.rounds), desc=online.spec.arch, unit="round", leave=False):
        for row in rows:
            sample(row)
    for row in rows:
        while len(row.seconds) < MIN_STEPS:
            sample(row)
    base = rows[0].rate  # eager, one stream
    for row in rows:
        if row.streams in args.streams:
            p50, p95, p99 = (1000 * seconds for seconds in np.percentile(row.seconds, [50, 95, 99]))
            print(f"| {online.spec.arch} | {row.streams} | {row.name} | {len(row.seconds)} | {p50:.2f} | {p95:.2f}"
                  f" | {p99:.2f} | {row.rate:.1f} | {row.rate / base:.2f} | {row.error:.2g} |", flush=True)


def open_all(online: OnlineTSM, args: argparse.Namespace) -> dict[str, StepRuntime]:
    """Every way to step this model, the plain one first."""
    models: dict[str, StepRuntime] = {EAGER: online}
    steps = export_all(online, args)
    for backend, precision in args.ways:
        models[f"{backend} {precision}"] = (
            open_runtime("torch", online, device="cpu", precision=precision) if backend == "torch"
            else open_exported(backend, steps["int8" if precision == "int8" else "float32"], precision))
    if args.compile:
        models["torch.compile float32"] = Compiled(online)
    return models


def export_all(online: OnlineTSM, args: argparse.Namespace) -> dict[str, ExportedModel]:
    """The exported steps that the runtimes need: float32, and int8 calibrated on frames like the measured ones."""
    wanted = {precision for backend, precision in args.ways if runs_exported(backend)}
    if not wanted:
        return {}
    steps = {"float32": export_model(online, options=ExportOptions(args.input_size, args.input_size))}
    if "int8" in wanted:
        frames = torch.randn(CALIBRATION_FRAMES, 1, 3, args.input_size, args.input_size,
                             generator=torch.Generator().manual_seed(2))
        steps["int8"] = quantize_step(steps["float32"], [frames])
    return steps


def is_available(backend: str, precision: str) -> bool:
    """Whether this machine has it. Logs the reason if not."""
    try:
        check_backend(backend, precision)
    except UserError as error:
        log.info("left out: %s %s: %s", backend, precision, error)
        return False
    return True


class Compiled:
    """torch.compile of the plain step, with the weights frozen into it."""

    def __init__(self, online: OnlineTSM) -> None:
        self.spec, self.class_names, self.preprocessing = online.spec, online.class_names, online.preprocessing
        self.initial_state, self.prepare = online.initial_state, online.prepare
        self._forward = torch.compile(online, options={"freezing": True})

    @torch.no_grad()
    def step(self, frames: Tensor, state: Sequence[Tensor]) -> tuple[Tensor, State]:
        logits, *new_state = self._forward(frames, *state)
        return logits, tuple(new_state)


def make_rows(models: Mapping[str, StepRuntime], streams: int, size: int) -> Iterator[Row]:
    """A row per model, the plain one first. All models have stepped the same few frames, which gives the error."""
    frames = torch.randn(COMPARED_FRAMES, streams, 3, size, size, generator=torch.Generator().manual_seed(1))
    expected = logits_of(models[EAGER], frames)
    for name, model in models.items():
        error = 100 * float((logits_of(model, frames) - expected).abs().max() / expected.abs().max())
        yield Row(name, streams, stepper(model, frames[0]), error)


def stepper(model: StepRuntime, frames: Tensor) -> Callable[[], None]:
    """A function that steps this model with these frames, each time from the state of the previous call."""
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
    """Time one row's steps for a slice of time. A first step is not counted, because another row filled the caches."""
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
