"""Mixed precision: the number format of activations and gradients, chosen by name or for the device."""
import contextlib
from dataclasses import dataclass
from typing import ContextManager, Optional

import torch

from ops.common.choices import AMP
from ops.common.device import processor
from ops.common.errors import UserError

_DTYPES = {"off": None, "bf16": torch.bfloat16, "fp16": torch.float16}


@dataclass(frozen=True)
class Precision:
    """dtype: of the activations under autocast, None for float32 throughout. reason: why, in words for the log."""
    device: torch.device
    dtype: Optional[torch.dtype] = None
    reason: str = "asked for"

    @property
    def name(self) -> str:
        """bf16, fp16 or float32."""
        return next((name for name, dtype in _DTYPES.items() if dtype and dtype == self.dtype), "float32")

    def autocast(self) -> ContextManager:
        """The context of a forward pass."""
        return torch.autocast(self.device.type, self.dtype) if self.dtype else contextlib.nullcontext()

    def scaler(self) -> Optional[torch.amp.GradScaler]:
        """The scaler that keeps small fp16 gradients from vanishing; None for other formats."""
        return torch.amp.GradScaler(self.device.type) if self.dtype is torch.float16 else None


def choose_precision(amp: str, device: torch.device) -> Precision:
    """The precision called `amp`: off, bf16, fp16, or auto, which takes bf16 where the device computes with it.

    Raises UserError for another name, and for fp16 on a device other than a GPU.
    """
    if amp not in AMP:
        raise UserError(f"amp {amp!r}: choose {', '.join(AMP)}", "amp")
    if amp == "fp16" and device.type != "cuda":
        raise UserError(f"amp fp16 needs a GPU, this run is on {device.type}: choose bf16 or off", "amp")
    if amp != "auto":
        return Precision(device, _DTYPES[amp])
    if device.type == "cuda":
        return (Precision(device, torch.bfloat16, "this GPU computes in bf16") if torch.cuda.is_bf16_supported(False)
                else Precision(device, None, "this GPU does not compute in bf16"))
    if device.type == "cpu" and (units := bf16_units()):
        return Precision(device, torch.bfloat16, f"this CPU has {units}")
    return Precision(device, None, f"this {device.type} has no bf16 units")


def bf16_units() -> str:
    """The CPU's instructions for bf16, `amx_bf16` or `avx512_bf16`; "" if it has none, or does not show them."""
    flags = processor()[1]
    return next((flag for flag in ("amx_bf16", "avx512_bf16") if flag in flags), "")
