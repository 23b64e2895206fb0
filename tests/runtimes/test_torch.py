"""The PyTorch runtime: batch norms folded into convolutions."""
import torch

from ops.runtimes.torch import TorchRuntime


def test_folding_leaves_no_norm_behind(onlines):
    for arch, online in onlines.items():
        folded = TorchRuntime(online, torch.device("cpu")).model
        kinds = [type(module).__name__ for module in folded.modules()]
        assert "BatchNorm2d" not in kinds and "BatchNorm2d" in [type(module).__name__ for module in online.modules()]
