"""The online step in eager PyTorch, prepared for speed."""
import copy
from pathlib import Path
from typing import Callable, Optional, Sequence, Union

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from ops.common.device import pick_device
from ops.common.errors import UserError
from ops.runtimes.base import Runtime
from ops.streaming.online import OnlineTSM
from ops.streaming.step_runtime import State


class TorchRuntime(Runtime):
    """Eager PyTorch on any device: batch norms folded into convolutions, channels last in memory."""

    def __init__(self, online: OnlineTSM, device: torch.device, precision: str = "float32") -> None:
        super().__init__(online)
        self.model = copy.deepcopy(online).cpu()
        fold_norms(self.model)
        dtype = {"float32": torch.float32, "bfloat16": torch.bfloat16}[precision]
        self.model.to(device, dtype).to(memory_format=torch.channels_last)

    @classmethod
    def check(cls, precision: str) -> None:
        if precision == "int8":
            raise UserError("precision int8: PyTorch computes float32 and bfloat16 here: choose one of them, or another"
                            " backend", "precision", "backend")

    @classmethod
    def open(cls, online: OnlineTSM, *, device: Union[str, torch.device], weights: Optional[Path],
             precision: str) -> "TorchRuntime":
        return cls(online, pick_device(str(device)), precision)

    def initial_state(self, batch: int = 1, height: Optional[int] = None, width: Optional[int] = None) -> State:
        return self.model.initial_state(batch, height, width)

    @torch.no_grad()
    def step(self, frames: Tensor, state: Sequence[Tensor]) -> tuple[Tensor, State]:
        like = next(self.model.parameters())
        frames = frames.to(like.device, like.dtype, memory_format=torch.channels_last)
        logits, new_state = self.model.step(frames, state)
        return logits.float(), new_state


def fold_norms(online: OnlineTSM) -> None:
    """Fold each BatchNorm2d into the convolution before it, in place; the logits stay the same up to rounding."""
    for conv_name, norm_name in _find_norms(online).items():
        conv, norm = online.get_submodule(conv_name), online.get_submodule(norm_name)
        assert isinstance(conv, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d)
        _replace(online, conv_name, fuse_conv_bn_eval(conv, norm).requires_grad_(False))
        _replace(online, norm_name, nn.Identity())


def _find_norms(online: OnlineTSM) -> dict[str, str]:
    """Name of a convolution -> name of the batch norm that takes its output, found by running one frame."""
    outputs: dict[str, Tensor] = {}
    found: dict[str, str] = {}

    def keep(name: str) -> Callable:
        return lambda module, args, output: outputs.__setitem__(name, output)

    def match(name: str) -> Callable:
        return lambda module, args: found.update({conv: name for conv, output in outputs.items() if output is args[0]})

    state = online.initial_state()
    hooks = []
    for name, module in online.named_modules():
        if isinstance(module, nn.Conv2d):
            hooks.append(module.register_forward_hook(keep(name)))
        elif isinstance(module, nn.BatchNorm2d):
            hooks.append(module.register_forward_pre_hook(match(name)))
    size = online.spec.input_size
    online(state[0].new_zeros(1, 3, size, size) if state else torch.zeros(1, 3, size, size), *state)
    for hook in hooks:
        hook.remove()
    return found


def _replace(model: nn.Module, name: str, module: nn.Module) -> None:
    holder, _, attribute = name.rpartition(".")
    setattr(model.get_submodule(holder), attribute, module)
