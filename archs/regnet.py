"""RegNet (arXiv:2003.13678) as torchvision has it, keys included. Input: RGB in 0-1, normalized like MobileNetV2's."""
from functools import partial

import torch
from torch import nn
from torchvision.models import RegNet
from torchvision.models.regnet import BlockParams, ResBottleneckBlock


def regnet_y_400mf() -> RegNet:
    """RegNetY-400MF from random weights; 1000 classes."""
    with torch.device("cpu"):  # the widths are computed with tensors, which hold no values on the meta device
        widths = BlockParams.from_init_params(depth=16, w_0=48, w_a=27.89, w_m=2.09, group_width=8, se_ratio=0.25)
    return RegNet(widths, norm_layer=partial(nn.BatchNorm2d, eps=1e-5, momentum=0.1))


def is_block(module: nn.Module) -> bool:
    """Whether a module is one of the residual blocks that TSM shifts: `f.a.0`, 1x1, begins their residual branch."""
    return isinstance(module, ResBottleneckBlock)
