"""Checkpoints with random weights, as members of an ensemble."""
import torch

from ops.models import TSN
from ops.spec import ModelSpec
from ops.weights import save_checkpoint


def member(path, *, dataset="somethingv2", class_names=tuple(f"Doing {i}" for i in range(4)), **options):
    """A checkpoint with the metadata of ours: ResNet-18, 3 frames, unless `options` (of ModelSpec) differ."""
    settings = ModelSpec(**{"num_class": 4, "num_segments": 3, "arch": "resnet18", "input_size": 32, **options})
    torch.manual_seed(len(path.name))
    model = TSN.from_spec(settings)
    torch.nn.init.normal_(model.new_fc.weight, 0, 0.1)
    weights = {f"module.{key}": value for key, value in model.state_dict().items()}
    save_checkpoint({"epoch": 1, "arch": "resnet18", "state_dict": weights, "settings": settings.to_dict(),
                     "dataset": dataset, "class_names": list(class_names)}, path)
    return path


def bare(path, named):
    """Only the weights of the checkpoint `named`, in a file whose name describes nothing."""
    save_checkpoint({"state_dict": torch.load(named, weights_only=True)["state_dict"]}, path)
    return path
