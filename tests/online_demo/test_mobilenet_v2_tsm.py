"""The published online MobileNetV2: its keys, buffers and logits, and other widths, divs and sizes."""
import numpy as np
import pytest
import torch

from archs import mobilenet_v2
from online_demo.mobilenet_v2_tsm import MobileNetV2
from ops.backbones import find_backbone
from ops.streaming.online import OnlineTSM
from tests.helpers.golden_model import clip, fill
from tests.helpers.online import assert_equal_logits


@pytest.fixture(scope="module")
def published():
    model = MobileNetV2(27).eval()
    model.load_state_dict(fill(model.state_dict()))
    return model.requires_grad_(False)


def test_keys_shapes_and_logits_are_the_published_ones(published, golden):
    rows = [[key, list(value.shape)] for key, value in published.state_dict().items()]
    assert rows == golden("state_dict_keys")["online_mobilenetv2"]
    wanted = golden("online_mobilenetv2")
    buffers = published.initial_buffers()
    assert [list(buffer.shape) for buffer in buffers] == wanted["buffer_shapes"]
    for t, row in enumerate(np.asarray(wanted["logits"], np.float32).reshape(-1, 27)):
        frame = np.random.default_rng(100 + t).normal(0, 1, (1, 3, 224, 224)).astype(np.float32)
        logits, *buffers = published(torch.from_numpy(frame), *buffers)
        assert np.abs(logits.numpy()[0] - row).max() <= 1e-4 * np.abs(row).max()
    assert t == 3


def test_online_tsm_computes_what_the_published_class_computes(published, golden, tmp_path):
    torch.save(published.state_dict(), tmp_path / "mobilenetv2_jester_online.pth.tar")
    online = OnlineTSM(tmp_path / "mobilenetv2_jester_online.pth.tar")
    assert [list(tensor.shape) for tensor in online.initial_state()] == golden("online_mobilenetv2")["buffer_shapes"]
    assert len(online.class_names) == 27 and online.class_names[2] == "No gesture"
    frame, buffers, state = clip(1, 1, 3, 224), published.initial_buffers(), online.initial_state()
    for _ in range(3):
        logits, *buffers = published(frame, *buffers)
        got, state = online.step(frame, state)
        assert torch.equal(got, logits) and all(map(torch.equal, state, buffers))


@pytest.mark.parametrize("width, div, size", [(0.5, 8, 64), (1.4, 4, 97), (0.35, 2, 33), (1.0, 5, 160)])
def test_other_widths_divs_and_sizes(width, div, size):
    """Buffers have the right shapes, and the mean over a clip equals the clip network of the same width."""
    online = MobileNetV2(6, size, width, shift_div=div).eval().requires_grad_(False)
    online.load_state_dict(fill(online.state_dict()))
    offline = mobilenet_v2.MobileNetV2(6, size, width).eval().requires_grad_(False)
    offline.load_state_dict(online.state_dict())
    find_backbone("mobilenetv2").shift.insert(offline, 3, "blockres", n_div=div, direction="unidirectional")
    clips, buffers, total = clip(2, 3, 3, size), online.initial_buffers(batch=2), 0
    for t in range(3):
        logits, *new_buffers = online(clips[:, 3 * t:3 * t + 3], *buffers)
        assert [a.shape for a in new_buffers] == [b.shape for b in buffers]
        total, buffers = total + logits, new_buffers
    wanted = offline(clips.reshape(6, 3, size, size)).unflatten(0, (2, 3)).mean(dim=1)
    assert_equal_logits(total / 3, wanted)


def test_missing_buffers_are_refused(published):
    with pytest.raises(ValueError, match="0 buffers: this network has 10"):
        published(torch.zeros(1, 3, 64, 64))
