"""TSN.forward_features: what the classifier sees of each frame."""
import pytest
import torch

from ops.backbones import find_backbone
from ops.models import TSN
from ops.spec import ModelSpec
from ops.streaming.online import OnlineTSM
from tests.helpers.golden_model import clip
from tests.helpers.online import assert_equal_logits, make_model
from tests.network.test_backbones import ARCHS


def build(arch="resnet18", **changes):
    torch.manual_seed(0)
    return TSN.from_spec(ModelSpec(5, 4, arch=arch, shift=True, **{"input_size": 64, **changes})).eval()


@pytest.mark.parametrize("arch, changes", [
    *((arch, {}) for arch in ARCHS), ("resnet18", {"dropout": 0.0}), ("mobilenetv2", {"dropout": 0.0}),
    ("resnet18", {"temporal_pool": True, "non_local": True}), ("resnet18", {"consensus_type": "identity"}),
    ("resnet18", {"before_softmax": False})], ids=str)
def test_the_head_makes_the_networks_output_of_them(arch, changes):
    model, clips = build(arch, **changes), clip(2, 4, 3, 64)
    with torch.inference_mode():
        features = model.forward_features(clips)
        classifier = model.new_fc or model.get_submodule(f"base_model.{find_backbone(arch).head}")
        assert features.shape == (2, 2 if changes.get("temporal_pool") else 4, classifier.in_features)
        assert torch.equal(model.forward_head(features), model(clips))
        frames = clips.unflatten(1, (4, 3)).flatten(0, 1)
        assert torch.equal(model.forward_features(frames, no_reshape=True), features)


def test_they_have_no_dropout_and_a_gradient():
    model = build(dropout=0.9)
    model.base_model.fc.train()
    features = model.forward_features(clip(1, 4, 3, 64))
    assert torch.equal(features, model.forward_features(clip(1, 4, 3, 64)))
    features.sum().backward()
    assert model.base_model.conv1.weight.grad.abs().sum() > 0 and model.new_fc.weight.grad is None


def test_the_network_is_unchanged():
    model = build(dropout=0.0)
    names = [name for name, _ in model.named_modules()]
    model.forward_features(clip(1, 4, 3, 64))
    assert [name for name, _ in model.named_modules()] == names and model.base_model.fc.out_features == 5


@pytest.mark.parametrize("arch, dropout", [("resnet18", 0.5), ("mobilenetv2", 0.0)])
def test_features_of_a_stream(arch, dropout):
    """The head makes the step's logits of them, the state goes on alike, and they are the clip's own."""
    model = make_model(arch, 4, input_size=32, dropout=dropout)
    online, clips = OnlineTSM(model), clip(2, 4, 3, 32)
    state, rows = online.initial_state(2), []
    for frames in clips.unflatten(1, (4, 3)).unbind(1):
        logits, wanted_state = online.step(frames, state)
        features, state = online.step_features(frames, state)
        assert torch.equal(online.forward_head(features), logits)
        assert all(map(torch.equal, state, wanted_state))
        rows.append(features)
    with torch.inference_mode():
        assert_equal_logits(torch.stack(rows, 1), model.forward_features(clips))
