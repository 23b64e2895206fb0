"""Peak activation memory and time of one training step; see `tools.benchmarks.flags.add_memory_flags`."""
import argparse
import gc
import json
import os
import tempfile
from pathlib import Path
from typing import Callable, Optional

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.profiler import ProfilerActivity, profile

from ops.common.device import pick_device
from ops.models import TSN
from ops.spec import ModelSpec
from tools.benchmarks.machine import interleaved_medians

KINDS = ("none", "plain", "inplace")
MODELS = (("resnet50", "blockres"), ("resnet50", "block"), ("resnet18", "blockres"), ("mobilenetv2", "blockres"),
          ("BNInception", "block"))


def run(args: argparse.Namespace) -> Optional[int]:
    device = pick_device(args.device)
    size = f"{args.batch_size} clips x {args.num_segments} frames x {args.input_size}^2"
    print(f"one training step of {size} on {device}")
    print(f"{'model':24}{'no shift MB':>12}{'plain MB':>10}{'in-place MB':>13}{'ratio':>7}{'plain s':>9}"
          f"{'in-place s':>12}{'ratio':>7}")
    for arch, place in MODELS:
        steps = {kind: training_step(arch, place, kind, args, device) for kind in KINDS}
        peaks = {kind: peak_bytes(step, device) / 1e6 for kind, step in steps.items()}
        times = interleaved_medians({kind: steps[kind] for kind in KINDS[1:]}, args.rounds)
        print(f"{arch + ' ' + place:24}{peaks['none']:12.1f}{peaks['plain']:10.1f}{peaks['inplace']:13.1f}"
              f"{peaks['inplace'] / peaks['plain']:7.3f}{times['plain']:9.3f}{times['inplace']:12.3f}"
              f"{times['inplace'] / times['plain']:7.3f}", flush=True)
    return None


def training_step(arch: str, place: str, kind: str, args: argparse.Namespace,
                  device: torch.device) -> Callable[[], None]:
    """A forward and a backward pass, after which the gradients are freed. kind: one of KINDS."""
    settings = ModelSpec(10, args.num_segments, arch=arch, shift=kind != "none", shift_place=place)
    model = TSN.from_spec(settings, inplace=kind == "inplace").to(device).train()
    clips = torch.randn(args.batch_size, args.num_segments * 3, args.input_size, args.input_size, device=device)
    return lambda: _step(model, clips)


def _step(model: TSN, clips: Tensor) -> None:
    labels = torch.zeros(len(clips), dtype=torch.long, device=clips.device)
    F.cross_entropy(model(clips), labels).backward()
    model.zero_grad(set_to_none=True)
    if clips.is_cuda:
        torch.cuda.synchronize()


def peak_bytes(step: Callable[[], None], device: torch.device) -> int:
    """The most memory that a step holds at a time, beyond what was held before it."""
    step()
    gc.collect()
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        step()
        return torch.cuda.max_memory_allocated() - before
    os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # silences the profiler's own messages
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as recorded:
        step()
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "trace.json"
        recorded.export_chrome_trace(str(path))
        events = json.loads(path.read_text())["traceEvents"]
    changes = sorted((event["ts"], event["args"]["Bytes"]) for event in events if event["name"] == "[memory]")
    held = peak = 0
    for _, change in changes:
        held += change
        peak = max(peak, held)
    return peak
