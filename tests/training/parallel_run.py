"""A short training run for test_parallel.py, alone or as two processes: parallel_run.py "OUT=BATCH ACCUMULATE [WAY]"...

Writes the weights after each run and the validation's results to its OUT, from rank 0. All BatchNorm layers are frozen,
because each process would normalise over its own clips. WAY: skip, some videos are unreadable; balanced, draws, smoothed
labels and class weights; teacher, a teacher; precise, BatchNorm statistics are estimated again, and instead of them the
weights are frozen.
"""
import logging
import sys
from functools import partial
from pathlib import Path

import torch
from torch.utils.data import Dataset

from ops.common import distributed
from ops.data.loader import make_loader
from ops.data.tsn_dataset import BadVideo
from ops.evaluation.clip_runtime import TorchClip
from ops.models import TSN
from ops.spec import ModelSpec
from ops.training.distillation import Distillation, Teacher
from ops.training.loop import LoopOptions, fit
from ops.training.losses import make_criterion
from ops.training.state import TrainState
from ops.training.step import StepOptions

CPU = torch.device("cpu")


class Noise(Dataset):
    """Clips of their key alone; the videos in `bad` are unreadable. views: also the last frame, as a view."""

    def __init__(self, length, bad=(), views=False):
        self.length, self.bad, self.views = length, bad, views

    def __len__(self):
        return self.length

    def __getitem__(self, key):
        epoch, index, *repeat = key if isinstance(key, tuple) else (0, key)
        if index in self.bad:
            return BadVideo(f"video {index}", "no frames")
        noise = torch.Generator().manual_seed(100 * epoch + index + 10000 * sum(repeat))
        clip = torch.randint(0, 256, (2 * 3, 32, 32), generator=noise, dtype=torch.uint8)
        return (clip, index % 3, [clip[3:]]) if self.views else (clip, index % 3)


def frozen_norms(model):
    """`model`, whose BatchNorm layers never learn."""
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.requires_grad_(False)
            module.eval()
            module.train = lambda mode=True, module=module: module
    return model


def main():
    logging.basicConfig(level=logging.WARNING)
    torch.use_deterministic_algorithms(True)
    with distributed.joined(CPU, 60):
        for job in sys.argv[1:]:
            out, _, words = job.rpartition("=")
            batch, accumulate, *way = words.split()
            train(Path(out), int(batch), int(accumulate), way)


def train(out, batch, accumulate, way):
    balanced, precise = "balanced" in way, "precise" in way
    draws = torch.tensor([0.5 + i % 3 for i in range(26)]) if balanced else None
    criterion = make_criterion(3, "smooth" if balanced else "nll", 0.1, torch.tensor([0.5, 1, 2]) if balanced else None)
    torch.manual_seed(0)
    model = TSN.from_spec(ModelSpec(3, 2, arch="resnet18", shift=True, dropout=0, input_size=32), partial_bn=False)
    rate = 1e-12 if precise else 0.01
    model = model if precise else frozen_norms(model)
    optimizer = torch.optim.SGD(model.get_optim_policies(), 0.01, momentum=0.9)
    state = TrainState(distributed.data_parallel(model, CPU), optimizer)
    validations, distillation = [], None
    if "teacher" in way:
        torch.manual_seed(1)
        master = TSN.from_spec(ModelSpec(3, 1, arch="resnet18", input_size=32)).eval().requires_grad_(False)
        torch.nn.init.normal_(master.new_fc.weight)
        distillation = Distillation([Teacher(Path("teacher"), "", master)], model, 0.8, 2.0)
    videos = Noise(26, (5, 9) if "skip" in way else (), views=distillation is not None)
    fit(state, make_loader(videos, batch, workers=0, train=True, accumulate=accumulate, draws=draws),
        make_loader(Noise(7), 2, workers=0, train=False),
        options=LoopOptions(epochs=2, lr=rate, eval_freq=1, precise_bn=2 if precise else 0),
        steps=StepOptions(partial(model.preprocessing.apply, device=CPU), criterion, clip_gradient=5.0,
                          distillation=distillation),
        runtime=TorchClip(state.validated), directory=out.parent / f"{out.name}.checkpoints",
        on_validation=validations.append)
    if distributed.world().is_main:
        torch.save({"weights": model.state_dict(), "logits": [scores.logits for scores in validations],
                    "labels": validations[-1].labels}, out)


if __name__ == "__main__":
    main()
