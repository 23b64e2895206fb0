"""Weight files of one small network, MobileNetV2 with a quarter of its channels shifted, for tests of reading them."""
import pytest
import torch

from ops.common.errors import UserError
from ops.models import TSN
from ops.spec import ModelSpec
from tests.helpers.golden_model import fill

SPEC = ModelSpec(num_class=4, num_segments=2, arch="mobilenetv2", shift=True, shift_div=4)
RELEASED = "TSM_kinetics_RGB_mobilenetv2_shift4_blockres_avg_segment2_e100_dense.pth"


def make_filled(**changes):
    """A model of SPEC, or of one that differs from it, with deterministic weights."""
    model = TSN.from_spec(SPEC.with_(**changes))
    model.load_state_dict(fill(model.state_dict()))
    return model


def save(content, path):
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save(content, path)
    return path


def save_described(weights, path, spec=SPEC, dataset="gestures", names=("a", "b", "c", "d")):
    """The weights with metadata as main.py writes them."""
    return save({"state_dict": weights, "settings": spec.to_dict(), "dataset": dataset,
                 "class_names": list(names) if names else None}, path)


def assert_equal_weights(found, wanted):
    assert found.keys() == wanted.keys()
    assert all(torch.equal(found[key], wanted[key]) for key in wanted)


def refusal(function, *args, **options):
    """The message of the UserError that a call raises, which must be one line."""
    with pytest.raises(UserError) as info:
        function(*args, **options)
    assert "\n" not in str(info.value)
    return str(info.value)
