"""The published online MobileNetV2: one frame and ten buffers in, logits and ten new buffers out (TSM, sec. 3.4).

Its parameter names and signature are those of the release, so that published files and code work. For other backbones,
and for models trained with this repository, use `ops.streaming.online.OnlineTSM`, which computes the same and calls the
buffers `state`.
"""
from typing import Iterator, Optional

import torch
from torch import Tensor, nn

from archs import mobilenet_v2
from archs.mobilenet_v2 import InvertedResidual, inverted_residuals


class MobileNetV2(mobilenet_v2.MobileNetV2):
    """Frames (B, 3, H, W) of B streams and their buffers in, logits (B, n_class) and new buffers out.

    input_size: default height and width of `initial_buffers`. width_mult: see `archs.mobilenet_v2`. shift_div: 1/div of
    the channels of each shifted block come from the previous frame (published: 8).
    """

    def __init__(self, n_class: int = 1000, input_size: int = 224, width_mult: float = 1.0, shift_div: int = 8) -> None:
        super().__init__(n_class, input_size, width_mult)
        self.width_mult = width_mult
        self.shift_div = shift_div

    def forward(self, x: Tensor, *shift_buffer: Tensor) -> tuple[Tensor, ...]:  # type: ignore[override]
        """Frames (B, 3, H, W), normalized, and the buffers of the previous call -> (logits, *new_buffers).

        Raises ValueError unless the number of buffers is that of `buffer_shapes`.
        """
        shifted = [block for block in self.features if _shifts(block)]
        if len(shift_buffer) != len(shifted):
            raise ValueError(f"{len(shift_buffer)} buffers: this network has {len(shifted)}: start with the zeros of"
                             " initial_buffers()")
        buffers, new_buffers = iter(shift_buffer), []
        for block in self.features:
            if _shifts(block):
                fold = x.shape[1] // self.shift_div
                new_buffers.append(x[:, :fold].clone())  # a view would keep the whole of x alive
                x = x + block.conv(torch.cat((next(buffers), x[:, fold:]), dim=1))
            else:
                x = block(x)
        return (self.classifier(x.mean((2, 3))), *new_buffers)

    def buffer_shapes(self, batch: int = 1, height: Optional[int] = None,
                      width: Optional[int] = None) -> list[tuple[int, int, int, int]]:
        """(batch, channels, height, width) of each buffer; height, width: of the frames, pixels (default:
        input_size)."""
        return [(batch, *rest) for rest in self._folds(height or self.input_size, width or self.input_size)]

    def initial_buffers(self, batch: int = 1, height: Optional[int] = None,
                        width: Optional[int] = None) -> tuple[Tensor, ...]:
        """The buffers before the first frame: zeros, on the model's device."""
        return tuple(self.classifier.weight.new_zeros(shape) for shape in self.buffer_shapes(batch, height, width))

    def _folds(self, height: int, width: int) -> Iterator[tuple[int, int, int]]:
        """(channels, height, width) of each shifted block's buffer; a stride of 2 halves a side, rounding up."""
        height, width = -(-height // 2), -(-width // 2)  # after the stem
        for channels, out_channels, stride, expansion in inverted_residuals(self.width_mult):
            if stride == 1 and channels == out_channels and expansion != 1:
                yield channels // self.shift_div, height, width
            height, width = -(-height // stride), -(-width // stride)


def _shifts(block: nn.Module) -> bool:
    """Whether this block is shifted: a residual block with expansion."""
    return isinstance(block, InvertedResidual) and block.use_res_connect and len(block.conv) == 8
