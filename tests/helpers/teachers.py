"""Checkpoints of small networks that other networks can learn from."""
import torch

from ops.models import TSN
from ops.spec import ModelSpec
from ops.weights import save_checkpoint

NAMES = [f"Doing {i}" for i in range(4)]  # the classes of `tests.helpers.programs.make_somethingv2`


def make_teacher(path, seed=1, names=NAMES, dataset="somethingv2", **changes):
    """A ResNet-18 TSM of `names`, 2 frames of 40 pixels unless `changes` (of ModelSpec) say otherwise, in a file of ours."""
    torch.manual_seed(seed)
    spec = ModelSpec(len(names), **{"num_segments": 2, "arch": "resnet18", "shift": True, "input_size": 40, **changes})
    model = TSN.from_spec(spec)
    torch.nn.init.normal_(model.new_fc.weight)  # a fresh one is so small that all answers are the same
    path.parent.mkdir(parents=True, exist_ok=True)
    save_checkpoint({"settings": spec.to_dict(), "dataset": dataset, "class_names": names, "arch": spec.arch, "epoch": 1,
                     "state_dict": {f"module.{key}": value for key, value in model.state_dict().items()}}, path)
    return path
