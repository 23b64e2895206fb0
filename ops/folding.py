"""Batch norms folded into the convolutions in front of them, for networks that only infer."""
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvNd
from torch.nn.utils.fusion import fuse_conv_bn_eval


def fold_norms(net: nn.Module) -> None:
    """Fold every batch norm into the convolution in front of it, in place; an identity takes the norm's place.

    That convolution is the layer registered just before the norm, as in all our backbones. Computes in float64.
    """
    leaves = [(name, module) for name, module in net.named_modules() if not any(module.children())]
    for (conv_name, conv), (norm_name, norm) in zip(leaves, leaves[1:]):
        if isinstance(conv, _ConvNd) and isinstance(norm, _BatchNorm):
            dtype = conv.weight.dtype
            replace(net, conv_name, fuse_conv_bn_eval(conv.double(), norm.double()).to(dtype))
            replace(net, norm_name, nn.Identity())


def replace(net: nn.Module, name: str, module: nn.Module) -> None:
    """Put `module` in the place of the submodule of this name."""
    holder, _, attribute = name.rpartition(".")
    setattr(net.get_submodule(holder), attribute, module)
