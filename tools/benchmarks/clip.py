"""Time of a clip in every runtime: the shift in its free form, in its plain form, and the network without it.

See `tools.benchmarks.flags.add_clip_flags`.
"""
import argparse
import copy
import itertools
import statistics
import time
from dataclasses import dataclass, field
from importlib.metadata import version
from typing import Any, Callable, Optional

import torch
from torch import Tensor, nn

from ops.common.pool import cores
from ops.common.progress import progress
from ops.models import TSN
from ops.spec import ModelSpec
from ops.training.execution import check_compiler
from tools.benchmarks.clip_runtimes import COMPILE, FREE, PLAIN, WITHOUT, ClipRuntimes
from tools.benchmarks.machine import describe_load, write_json
from tools.benchmarks.online import is_available
from tools.benchmarks.soak import soak_clips
from tools.benchmarks.train_worker import insert_published_shift

CLASSES = 174  # Something-Something-V2's
PUBLISHED = "published: eager float32"
PACKAGES = ("torch", "onnxruntime", "openvino")
SHORT = 0.1  # seconds: a faster run follows an untimed one, because other rows have filled the caches


@dataclass
class Job:
    """One way to classify the clips.

    error: the largest difference of a logit from the published way's, relative. seconds, cpu: of each round, by the clock
    and of processor time.
    """
    run: Callable[[], Tensor]
    error: float = 0.0
    seconds: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)

    def sample(self) -> None:
        """Time one run."""
        if not self.seconds or self.seconds[-1] < SHORT:
            self.run()
        begin, cpu = time.perf_counter(), time.process_time()
        self.run()
        self.seconds.append(time.perf_counter() - begin)
        self.cpu.append(time.process_time() - cpu)


def over(own: list[float], others: list[float]) -> float:
    """How many times as long, by the median over the rounds of the ratio within a round."""
    return statistics.median(a / b for a, b in zip(own, others))


Row = dict[str, Job]  # by the form of the shift


def run(args: argparse.Namespace) -> Optional[int]:
    if args.soak:
        soak_clips(["onnx", "openvino", "torch"], args.soak)
        return None
    torch.set_num_threads(cores())  # as the other runtimes
    pairs = itertools.product(args.backend, args.precision)
    args.ways = [(backend, precision) for backend, precision in pairs if is_available(backend, precision)]
    if args.compile:
        check_compiler()
        args.ways += [(COMPILE, precision) for backend, precision in args.ways if backend == "torch"]
    stages = f" shift in stages {args.shift_stages};" if args.shift_stages else ""
    print(f"clips of {args.num_segments} x {args.input_size} x {args.input_size};{stages} {cores()} threads in every"
          " runtime;"
          f" medians of {args.rounds} interleaved rounds; {', '.join(f'{name} {version(name)}' for name in PACKAGES)}")
    print(f"{describe_load()}\n")
    print("| model | clips | runtime | TSM ms | min-max | TSN ms | TSM / TSN | by processor time | plain / TSN"
          " | times published | error % |\n|---|---|---|---|---|---|---|---|---|---|---|", flush=True)
    found = []
    for arch, batch in itertools.product(dict.fromkeys(args.arch), sorted(set(args.batch_size))):
        rows = measure(arch, batch, args)
        found += [describe(arch, batch, name, row, rows[PUBLISHED][FREE]) for name, row in rows.items()]
        for row in found[-len(rows):]:
            print(table_row(row), flush=True)
    print(f"\n{describe_load()}")
    if args.json:
        write_json(args.json, args, found)
    return None


def measure(arch: str, batch: int, args: argparse.Namespace) -> dict[str, Row]:
    """All rows of a model, timed in turns."""
    tsm, tsn = (random_model(arch, shift, args) for shift in (True, False))
    size = args.num_segments * 3, args.input_size, args.input_size
    clips = torch.randint(0, 256, (batch, *size), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
    published = copy.deepcopy(tsm)
    insert_published_shift(published.base_model)
    runtimes = ClipRuntimes(tsm, tsn, clips)
    rows: dict[str, Row] = {PUBLISHED: {FREE: Job(lambda: without_gradients(published, runtimes.inputs))}}
    expected = rows[PUBLISHED][FREE].run()
    for backend, precision in args.ways:
        runs = runtimes.open(backend, precision)
        rows[f"{backend} {precision}"] = {form: Job(run, error(run(), expected)) for form, run in runs.items()}
    for _ in progress(range(args.rounds), desc=f"{arch} x {batch}", unit="round", leave=False):
        for job in (job for row in rows.values() for job in row.values()):
            job.sample()
    return rows


def random_model(arch: str, shift: bool, args: argparse.Namespace) -> TSN:
    """Random weights; the norms have seen some frames, so the logits have an ordinary size."""
    torch.manual_seed(0)
    spec = ModelSpec(CLASSES, args.num_segments, arch=arch, shift=shift, input_size=args.input_size,
                     shift_stages=args.shift_stages if shift else "")
    model = TSN.from_spec(spec)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = None  # the mean over all its batches
            module.train()
    without_gradients(model, torch.randn(1, args.num_segments * 3, args.input_size, args.input_size))
    return model.eval()


@torch.no_grad()
def without_gradients(model: nn.Module, clips: Tensor) -> Tensor:
    """The published evaluation: eager, without gradients."""
    return model(clips)


def error(found: Tensor, expected: Tensor) -> float:
    """The largest difference, relative to the largest value."""
    return float((found - expected).abs().max() / expected.abs().max())


def describe(arch: str, batch: int, name: str, row: Row, published: Job) -> dict[str, Any]:
    """A row, as it is written to JSON."""
    seconds, cpu = ({form: getattr(job, of) for form, job in row.items()} for of in ("seconds", "cpu"))
    ratios = {f"{form}_over_tsn{unit}": over(times[form], times[WITHOUT])
              for times, unit in ((seconds, ""), (cpu, "_cpu")) for form in row if WITHOUT in row}
    return {"arch": arch, "clips": batch, "runtime": name, "seconds": seconds, "cpu": cpu, "error": row[FREE].error,
            **ratios, "times_published": over(published.seconds, row[FREE].seconds)}


def table_row(row: dict[str, Any]) -> str:
    """Milliseconds of TSM and TSN, and the ratios."""
    tsm = row["seconds"][FREE]
    tsn = f"{1000 * statistics.median(row['seconds'][WITHOUT]):.1f}" if WITHOUT in row["seconds"] else ""
    ratios = [f"{row[key]:.3f}" if key in row else "" for key in (
        f"{FREE}_over_tsn", f"{FREE}_over_tsn_cpu", f"{PLAIN}_over_tsn")]
    return (f"| {row['arch']} | {row['clips']} | {row['runtime']} | {1000 * statistics.median(tsm):.1f}"
            f" | {1000 * min(tsm):.1f}-{1000 * max(tsm):.1f} | {tsn} | {' | '.join(ratios)}"
            f" | {row['times_published']:.2f} | {100 * row['error']:.2g} |")
