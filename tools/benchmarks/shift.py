"""The shift on a GPU: with and without the kernels of `ops.shift_kernels`, no shift, and the published way."""
import argparse
import gc
import statistics
from typing import Callable, Optional

import torch
from torch.nn import functional as F

from ops.common.device import channels_last, pick_device
from ops.common.errors import UserError
from ops.models import TSN
from ops.spec import ModelSpec
from ops.temporal_shift import TemporalShift
from tools.benchmarks.machine import describe_load, write_json
from tools.benchmarks.train_worker import CLASSES, MOMENTUM, WEIGHT_DECAY, insert_published_shift

Way = Callable[[], object]
TSN_ROW, TSM_ROW, PLAIN_ROW, PUBLISHED_ROW = "TSN", "TSM", "TSM, shifted copies", "TSM, published: float32, NCHW, eager"


def run(args: argparse.Namespace) -> Optional[int]:
    device = pick_device(args.device)
    if device.type != "cuda":
        raise UserError(f"device {device}: this benchmark measures NVIDIA GPUs: the subjects train and online measure CPUs",
                        "device")
    print(f"{args.arch}: {args.batch_size} clips x {args.num_segments} frames x {args.input_size}^2 on {device}, bf16,"
          f" channels last{', compiled' if args.compile else ''}; {args.rounds} interleaved rounds\n{describe_load()}")
    torch.backends.cudnn.benchmark = True  # every way with the fastest of its library's algorithms
    rows = {}
    for what, make in (("inference", inference), ("training step", training)):
        rows[what] = measure(make(args, device), args.rounds)
        print(f"\n| {what} | ms | min-max | over TSN | times published |\n|---|---|---|---|---|")
        for name, times in rows[what].items():
            print(f"| {name} | {statistics.median(times):.2f} | {min(times):.2f}-{max(times):.2f}"
                  f" | {ratio(times, rows[what][TSN_ROW]):.3f} | {ratio(rows[what][PUBLISHED_ROW], times):.2f} |",
                  flush=True)
        gc.collect()
        torch.cuda.empty_cache()
    if args.json:
        write_json(args.json, args, rows)
    return None


def ratio(times: list[float], others: list[float]) -> float:
    """The median over the rounds of the ratio within a round."""
    return statistics.median(own / other for own, other in zip(times, others))


def measure(ways: dict[str, Way], rounds: int) -> dict[str, list[float]]:
    """Milliseconds of two calls of each way, halved, in each round; three calls come first, untimed."""
    times: dict[str, list[float]] = {name: [] for name in ways}
    fuse = TemporalShift.fuse
    try:
        for i in range(rounds + 1):
            for name, way in ways.items():
                TemporalShift.fuse = name == TSM_ROW
                if i == 0:
                    way(), way(), way()
                else:
                    times[name].append(milliseconds(way))
    finally:
        TemporalShift.fuse = fuse
    return times


def milliseconds(way: Way) -> float:
    begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    begin.record()
    way(), way()
    end.record()
    end.synchronize()
    return begin.elapsed_time(end) / 2


def network(args: argparse.Namespace, device: torch.device, *, shift: bool, published: bool = False) -> TSN:
    """A network with random weights."""
    spec = ModelSpec(CLASSES, args.num_segments, arch=args.arch, shift=shift and not published, input_size=args.input_size)
    model = TSN.from_spec(spec).to(device)
    if published:
        insert_published_shift(model.base_model, args.num_segments)
    else:
        channels_last(model)
    return model


def inputs(args: argparse.Namespace, device: torch.device) -> torch.Tensor:
    """Normalised clips."""
    return torch.randn(args.batch_size, args.num_segments * 3, args.input_size, args.input_size, device=device)


def inference(args: argparse.Namespace, device: torch.device) -> dict[str, Way]:
    """Forward passes in evaluation mode, in bf16 throughout."""
    clips = inputs(args, device)
    half = clips.bfloat16()

    def forward(model: TSN, given: torch.Tensor) -> Way:
        run = torch.compile(model) if args.compile and given is half else model
        return torch.no_grad()(lambda: run(given))

    ways = {name: forward(network(args, device, shift=name != TSN_ROW).eval().bfloat16(), half)
            for name in (TSN_ROW, TSM_ROW, PLAIN_ROW)}
    return {**ways, PUBLISHED_ROW: forward(network(args, device, shift=True, published=True).eval(), clips)}


def training(args: argparse.Namespace, device: torch.device) -> dict[str, Way]:
    """Steps of SGD in mixed precision."""
    clips, labels = inputs(args, device), torch.arange(args.batch_size, device=device) % CLASSES

    def step(model: TSN, published: bool) -> Way:
        optimizer = torch.optim.SGD(model.parameters(), 1e-3, momentum=MOMENTUM, weight_decay=WEIGHT_DECAY,
                                    **({"foreach": False} if published else {"fused": True}))
        run = torch.compile(model) if args.compile and not published else model

        def way() -> None:
            with torch.autocast("cuda", torch.bfloat16, enabled=not published):
                loss = F.cross_entropy(run(clips).float(), labels)
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
        return way

    ways = {name: step(network(args, device, shift=name != TSN_ROW).train(), False)
            for name in (TSN_ROW, TSM_ROW, PLAIN_ROW)}
    return {**ways, PUBLISHED_ROW: step(network(args, device, shift=True, published=True).train(), True)}
