"""The PyTorch runtime: batch norms folded into convolutions."""
import torch

from ops.runtimes.torch import TorchRuntime, fold_norms
from ops.streaming.online import OnlineTSM
from tests.helpers.golden_model import clip
from tests.helpers.online import SIZE, assert_close, make_model, stream_logits


def test_folding_leaves_no_norm_behind(onlines):
    for arch, online in onlines.items():
        folded = TorchRuntime(online, torch.device("cpu")).model
        kinds = [type(module).__name__ for module in folded.modules()]
        assert "BatchNorm2d" not in kinds and "BatchNorm2d" in [type(module).__name__ for module in online.modules()]
    online = OnlineTSM(make_model("BNInception", 3, "block", input_size=SIZE))  # its convolutions have biases
    frames = clip(2, 3, 3, SIZE)
    wanted = stream_logits(online, frames, 3)
    fold_norms(online)
    assert_close(stream_logits(online, frames, 3), wanted)
