"""ClipRuntime: all that evaluation and prediction know of a network. TorchClip: one that PyTorch computes."""
from typing import Optional, Protocol, Sequence

import torch
from torch import Tensor

from ops.data.preprocessing import Preprocessing
from ops.models import TSN
from ops.spec import ModelSpec


class ClipRuntime(Protocol):
    """A network ready to score clips, whatever computes it. class_names: None where unknown."""

    @property
    def spec(self) -> ModelSpec: ...

    @property
    def preprocessing(self) -> Preprocessing: ...

    @property
    def class_names(self) -> Optional[Sequence[str]]: ...

    def __call__(self, clips: Tensor) -> Tensor:
        """uint8 (N, T*C, H, W), scaled, cropped and ordered by `preprocessing` -> logits (N, num_class), float32."""
        ...


class TorchClip:
    """A TSN as a `ClipRuntime`, on the device where it is.

    network: switched to evaluation mode when it scores clips.
    """

    def __init__(self, network: TSN, class_names: Optional[Sequence[str]] = None) -> None:
        self.spec, self.preprocessing = network.spec, network.preprocessing
        self.class_names = class_names
        self.network = network
        self.device = next(network.parameters()).device

    @torch.no_grad()
    def __call__(self, clips: Tensor) -> Tensor:
        if self.network.training:
            self.network.eval()
        return mean_over_segments(self.network(self.preprocessing.apply(clips, device=self.device))).float()


def mean_over_segments(output: Tensor) -> Tensor:
    """A TSN's output as (N, num_class): the identity consensus gives (N, T, num_class)."""
    return output.mean(dim=1) if output.dim() == 3 else output
