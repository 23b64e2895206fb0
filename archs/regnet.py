"""RegNet (arXiv:2003.13678), torchvision's own, keys included.

Input: RGB in 0-1, normalized by mean 0.485/0.456/0.406 and std 0.229/0.224/0.225.
"""
from functools import partial

import torch
from torch import nn
from torchvision.models import RegNet
from torchvision.models.regnet import BlockParams, ResBottleneckBlock


def regnet_y_400mf() -> RegNet:
    """RegNetY-400MF with random weights and 1000 classes."""
    with torch.device("cpu"):  # the widths are computed with tensors, which hold no values on the meta device
        widths = BlockParams.from_init_params(depth=16, w_0=48, w_a=27.89, w_m=2.09, group_width=8, se_ratio=0.25)
    return RegNet(widths, norm_layer=partial(nn.BatchNorm2d, eps=1e-5, momentum=0.1))


def is_block(module: nn.Module) -> bool:
    """Whether a module is one of the residual blocks that TSM shifts. The 1x1 `f.a.0` begins its residual branch."""
    return isinstance(module, ResBottleneckBlock)
