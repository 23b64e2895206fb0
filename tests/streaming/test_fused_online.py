"""ops/streaming/fused_online.py: the form for inference computes the same logits and states as the online model."""
import copy

import pytest
import torch
from torch.nn.modules.batchnorm import _BatchNorm

from ops.residual_parts import PartsBlock
from ops.streaming.fused_online import fuse_online
from ops.streaming.online import OnlineTSM
from tests.helpers.golden_model import clip
from tests.helpers.online import SIZE, make_model


@torch.no_grad()
@pytest.mark.parametrize("arch, place, blocks", [
    ("resnet18", "blockres", 8), ("resnet18", "block", 0), ("mobilenetv2", "blockres", 0),
    ("BNInception", "block", 0)])  # its convolutions have biases
def test_it_streams_like_the_online_model(arch, place, blocks):
    online = OnlineTSM(make_model(arch, 3, place, input_size=SIZE)).double()
    before = copy.deepcopy(online.state_dict())
    fused = fuse_online(online)
    assert sum(isinstance(module, PartsBlock) for module in fused.modules()) == blocks
    assert not any(isinstance(module, _BatchNorm) for module in fused.modules())
    state = online.initial_state(2)
    fused_state = fused.initial_state(2)
    for frame in clip(3, 2, 3, SIZE).unflatten(1, (2, 3)).double().unbind(0):
        logits, state = online.step(frame, state)
        found, fused_state = fused.step(frame, fused_state)
        torch.testing.assert_close(found, logits, rtol=1e-10, atol=1e-10)
        torch.testing.assert_close(fused_state, state, rtol=1e-10, atol=1e-10)
    assert all(torch.equal(value, before[name]) for name, value in online.state_dict().items())
