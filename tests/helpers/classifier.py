"""A small checkpoint for prediction: deterministic weights that give every class another score."""
from ops.models import TSN
from ops.spec import ModelSpec
from ops.weights import save_checkpoint
from tests.helpers.golden_model import fill

NAMES = ["walking", "running, fast", "öffnen", "d", "e", "f"]


def make_classifier(path, class_names=NAMES, dataset="mine", **changes):
    """A checkpoint with the metadata of ours: ResNet-18 TSM, 4 frames of 56 pixels, unless `changes` (of ModelSpec)."""
    spec = ModelSpec(num_class=len(NAMES), **{"num_segments": 4, "arch": "resnet18", "shift": True, "input_size": 56,
                                              **changes})
    model = TSN.from_spec(spec)
    model.load_state_dict(fill(model.state_dict()))
    path.parent.mkdir(parents=True, exist_ok=True)
    save_checkpoint({"settings": spec.to_dict(), "dataset": dataset, "class_names": class_names, "arch": spec.arch,
                     "epoch": 1, "state_dict": {f"module.{key}": value for key, value in model.state_dict().items()}}, path)
    return path
