"""One way to make a training step, in a process of its own; the published step is written out here."""
import os
import time
from dataclasses import dataclass, replace
from functools import partial
from multiprocessing.connection import Connection
from typing import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ops.common import distributed
from ops.common.device import peak_memory
from ops.common.meters import accuracy
from ops.data.tsn_dataset import Batch
from ops.models import TSN
from ops.spec import ModelSpec
from ops.temporal_shift import TemporalShift
from ops.training.execution import Execution
from ops.training.precision import choose_precision
from ops.training.state import TrainState
from ops.training.step import StepOptions, train_step

CLASSES = 174  # Something-Something-V2's
CLIP_GRADIENT, MOMENTUM, WEIGHT_DECAY = 20.0, 0.9, 5e-4  # of the published recipe
Step = Callable[[], object]


@dataclass(frozen=True)
class Mode:
    """How a step is made. published: as in the published code, for which the other fields have no meaning."""
    name: str
    published: bool = False
    channels_last: bool = False
    amp: str = "off"
    inplace: bool = False
    fused: bool = False
    keep_memory: bool = False
    compile: bool = False

    def plus(self, name: str, **changes: object) -> "Mode":
        """This mode with something more."""
        return replace(self, name=f"{self.name}, {name}", **changes)  # type: ignore[arg-type]


@dataclass(frozen=True)
class Job:
    """What a process measures: the step of a mode, with or without shift, on clips of this size.

    rank, size, port: its place among the processes that make the step together, with `batch_size` clips each. threads: of
    this process.
    """
    mode: Mode
    shift: bool
    arch: str
    batch_size: int
    num_segments: int
    input_size: int
    device: str
    threads: int
    rank: int = 0
    size: int = 1
    port: int = 0

    def changed(self, **changes: object) -> "Job":
        """This job with other values of some fields."""
        return replace(self, **changes)  # type: ignore[arg-type]


def serve(job: Job, pipe: Connection) -> None:
    """Answer each request of the benchmark: "step" with the seconds of one step, "peak" with the peak memory in bytes."""
    torch.set_num_threads(job.threads)
    device = torch.device(job.device)
    if job.size > 1:
        os.environ.update(RANK=str(job.rank), WORLD_SIZE=str(job.size), LOCAL_RANK=str(job.rank),
                          MASTER_ADDR="127.0.0.1", MASTER_PORT=str(job.port))
    before = int(peak_memory(torch.device("cpu")) or 0)
    with distributed.joined(device, 600):
        step = make_step(job, device)
        while (request := pipe.recv()) != "end":
            pipe.send(seconds(step, device) if request == "step" else peak_bytes(device, before))


def seconds(step: Step, device: torch.device) -> float:
    """The time of a step."""
    begin = time.perf_counter()
    step()
    if device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - begin


def peak_bytes(device: torch.device, before: int) -> int:
    """The most that this process has held so far: of the GPU's memory, or of the machine's beyond `before`."""
    return int(peak_memory(device) or 0) - (0 if device.type == "cuda" else before)


# ---- steps ---------------------------------------------------------------------------------------------------

def make_step(job: Job, device: torch.device) -> Step:
    """A function that makes one training step, the same clips each time."""
    torch.manual_seed(0)
    spec = ModelSpec(CLASSES, job.num_segments, arch=job.arch, shift=job.shift, input_size=job.input_size)
    model = TSN.from_spec(spec, fc_lr5=True, inplace=job.mode.inplace).train()
    clips = torch.randint(0, 256, (job.batch_size, job.num_segments * 3, job.input_size, job.input_size), dtype=torch.uint8)
    labels = torch.arange(job.batch_size) % CLASSES
    if job.mode.published:
        insert_published_shift(model.base_model)
        return published_step(model.to(device), model.preprocessing.apply(clips), labels, device)
    return our_step(job.mode, model, Batch(clips, labels, []), device)


def our_step(mode: Mode, model: TSN, batch: Batch, device: torch.device) -> Step:
    """The step of main.py, from the uint8 clips of its loader."""
    execution = Execution(mode.channels_last, mode.compile, mode.fused, mode.keep_memory)
    execution.prepare(model)
    model.to(device)
    optimizer = execution.sgd(model.get_optim_policies(), 0.01, momentum=MOMENTUM, weight_decay=WEIGHT_DECAY)
    state = TrainState(distributed.data_parallel(model, device), optimizer)
    options = StepOptions(partial(model.preprocessing.apply, device=device),
                          precision=choose_precision(mode.amp, device), clip_gradient=CLIP_GRADIENT)
    return lambda: train_step(state, [batch], options)


def published_step(model: TSN, clips: Tensor, labels: Tensor, device: torch.device) -> Step:
    """The step of the published main.py, from the normalised float32 clips of its loader."""
    optimizer = torch.optim.SGD(model.get_optim_policies(), 0.01, momentum=MOMENTUM, weight_decay=WEIGHT_DECAY,
                                foreach=False)

    def step() -> None:
        target = labels.to(device)
        output = model(clips.to(device))
        loss = F.cross_entropy(output, target)
        top1, top5 = accuracy(output.detach(), target, topk=(1, 5))
        loss.item(), top1.item(), top5.item()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), CLIP_GRADIENT, foreach=False)
        optimizer.step()
        optimizer.zero_grad()
    return step


class PublishedShift(nn.Module):
    """The published shift, into zeros with three copies, in front of a convolution."""

    def __init__(self, net: nn.Module, n_segment: int, fold_div: int = 8) -> None:
        super().__init__()
        self.net, self.n_segment, self.fold_div = net, n_segment, fold_div

    def forward(self, x: Tensor) -> Tensor:
        frames, channels, height, width = x.size()
        clips = x.view(frames // self.n_segment, self.n_segment, channels, height, width)
        fold = channels // self.fold_div
        out = torch.zeros_like(clips)
        out[:, :-1, :fold] = clips[:, 1:, :fold]
        out[:, 1:, fold:2 * fold] = clips[:, :-1, fold:2 * fold]
        out[:, :, 2 * fold:] = clips[:, :, 2 * fold:]
        return self.net(out.view(frames, channels, height, width))


def insert_published_shift(net: nn.Module) -> None:
    """Replace every shift of ours by the published one, in place."""
    for name, shift in list(net.named_modules()):
        if isinstance(shift, TemporalShift):
            holder, _, attribute = name.rpartition(".")
            setattr(net.get_submodule(holder), attribute, PublishedShift(shift.net, shift.n_segment, shift.fold_div))
