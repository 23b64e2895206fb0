"""Preprocessing: one record for training, testing, prediction and streaming, and its form in files."""
import json

import pytest
import torch

from ops.data.preprocessing import Preprocessing
from ops.models import TSN
from ops.spec import ModelSpec

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
IMAGENET = Preprocessing(MEAN, STD)
CAFFE = Preprocessing((104.0, 117.0, 128.0), (1.0,), "BGR", 255.0, 73, 64)


def pixels(*shape):
    return torch.randint(0, 256, shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("preprocessing, divisor", [(IMAGENET, 255), (CAFFE, 1)])
def test_apply_scales_and_normalizes_each_channel_of_each_frame(preprocessing, divisor):
    frames = pixels(2, 4 * 3, 5, 6)
    before = frames.clone()
    found = preprocessing.apply(frames)
    assert found.dtype == torch.float32 and torch.equal(frames, before)
    for channel in range(12):
        mean, std = (torch.tensor(v[channel % len(v)]) for v in (preprocessing.mean, preprocessing.std))
        assert torch.equal(found[:, channel], (frames[:, channel] / torch.tensor(divisor) - mean) / std)
    assert torch.equal(preprocessing.apply(frames, "cpu"), found)
    assert preprocessing.apply(frames, torch.device("meta")).device.type == "meta"


@pytest.mark.parametrize("preprocessing", [IMAGENET, CAFFE])
def test_invert_gives_the_frames_back(preprocessing):
    frames = pixels(2, 4 * 3, 5, 6)
    assert torch.equal(preprocessing.invert(preprocessing.apply(frames)), frames)


def test_the_form_in_files():
    assert IMAGENET.to_dict() == {"color": "RGB", "range": 1.0, "mean": list(MEAN), "std": list(STD), "scale_size": 256,
                                  "crop_size": 224, "resize": "PIL bilinear, shorter side", "crop": "center"}
    for preprocessing in (IMAGENET, CAFFE):
        assert Preprocessing.from_dict(json.loads(json.dumps(preprocessing.to_dict()))) == preprocessing


@pytest.mark.parametrize("change", [{"color": "rgb"}, {"range": 2}, {"mean": 1}, {"std": ["x"]}])
def test_damaged_entries_of_files_are_refused(change):
    with pytest.raises((ValueError, TypeError)):
        Preprocessing.from_dict({**IMAGENET.to_dict(), **change})
    with pytest.raises(KeyError):
        Preprocessing.from_dict({})


@pytest.mark.parametrize("arch, modality, wanted", [
    ("resnet18", "RGB", Preprocessing(MEAN, STD, "RGB", 1.0, 73, 64)),
    ("resnet18", "Flow", Preprocessing((0.5,), (sum(STD) / 3,), "RGB", 1.0, 73, 64)),
    ("resnet18", "RGBDiff", Preprocessing((0.0,), (1.0,), "RGB", 1.0, 73, 64)),
    ("BNInception", "RGB", Preprocessing((104.0, 117.0, 128.0), (1.0, 1.0, 1.0), "BGR", 255.0, 73, 64)),
    ("BNInception", "Flow", Preprocessing((128.0,), (1.0,), "BGR", 255.0, 73, 64)),
    ("BNInception", "RGBDiff", Preprocessing((0.0,), (1.0,), "BGR", 255.0, 73, 64)),
])
def test_every_network_has_its_own(arch, modality, wanted):
    with torch.device("meta"):
        assert TSN.from_spec(ModelSpec(3, 2, modality, arch, input_size=64)).preprocessing == wanted
