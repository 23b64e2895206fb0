"""How a step is computed on a device: memory format, compilation, optimizer kernels, TF32. Only rounding differs."""
import ctypes
import logging
import os
import platform
import shlex
import shutil
from dataclasses import dataclass
from typing import Any, Iterable, Optional

import torch
from torch import nn

from ops.common.device import channels_last
from ops.common.errors import UserError
from ops.training.precision import Precision

log = logging.getLogger(__name__)

_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4  # of <malloc.h>
FUSED_DEVICES = ("cpu", "cuda")  # where PyTorch's SGD has a kernel for the whole update of a weight


@dataclass(frozen=True)
class Execution:
    """channels_last: memory format of weights and activations. compile: through torch.compile. fused: SGD's update in one
    kernel per weight. keep_memory: see `keep_freed_memory`. tf32: on GPUs, multiply float32 with 10 bits of mantissa; None:
    PyTorch's default, which does so in convolutions only. reason: why this memory format, in words for the log.
    """
    channels_last: bool = False
    compile: bool = False
    fused: bool = False
    keep_memory: bool = False
    tf32: Optional[bool] = None
    reason: str = "asked for"

    def prepare(self, model: nn.Module) -> None:
        """Change the memory format of the model in place, compile its next call, and set up this process."""
        if self.keep_memory:
            keep_freed_memory()
        if self.tf32 is not None:
            torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = self.tf32
        if self.channels_last:
            channels_last(model)
        if self.compile:
            model.compile()

    def sgd(self, groups: Iterable[dict[str, Any]], lr: float, *, momentum: float, weight_decay: float,
            nesterov: bool = False) -> torch.optim.SGD:
        """The optimizer for the groups of `TSN.get_optim_policies`."""
        return torch.optim.SGD(groups, lr, momentum=momentum, weight_decay=weight_decay, nesterov=nesterov,
                               fused=self.fused or None)

    def __str__(self) -> str:
        """For the log: `channels last (this CPU ...), fused SGD`."""
        parts = [f"{'channels last' if self.channels_last else 'channels first'} ({self.reason})"]
        parts += ["compiled"] * self.compile + ["fused SGD"] * self.fused + ["freed memory kept"] * self.keep_memory
        return ", ".join(parts + ([] if self.tf32 is None else [f"TF32 {'on' if self.tf32 else 'off'}"]))


def choose_execution(device: torch.device, precision: Precision, *, channels_last: Optional[bool] = None,
                     compile: bool = False, tf32: Optional[bool] = None) -> Execution:
    """The execution that the options of these names ask for; None: the device's own.

    Raises UserError if `compile` is asked for where nothing can compile.
    """
    if compile and device.type != "cuda":  # Triton, which compiles for CUDA, brings its own compiler
        check_compiler()
    if tf32 is not None and device.type != "cuda":
        log.warning("warning: tf32 has no effect on %s", device.type)
        tf32 = None
    chosen, reason = (channels_last, "asked for") if channels_last is not None else _memory_format(device, precision)
    return Execution(chosen, compile, device.type in FUSED_DEVICES, device.type == "cpu", tf32, reason)


def _memory_format(device: torch.device, precision: Precision) -> tuple[bool, str]:
    """Whether channels last is the faster format, and why."""
    if device.type == "cpu":
        return True, "convolutions on a CPU need no reordering then"
    if device.type == "cuda" and precision.dtype is not None:
        return True, f"tensor cores compute {precision.name} convolutions in it"
    return False, f"the usual format for {precision.name} on {device.type}"


def keep_freed_memory() -> None:
    """Keep the memory of freed tensors for the next ones, where the C library can be told (glibc); elsewhere do nothing.

    glibc returns large blocks to the system at once, which then fills each with zeros again, page by page, in every step.
    """
    if platform.libc_ver()[0] == "glibc":
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(_M_MMAP_MAX, 0)
        mallopt(_M_TRIM_THRESHOLD, 2 ** 31 - 1)


def check_compiler() -> None:
    """UserError unless this machine has the C++ compiler that torch.compile calls."""
    compiler = shlex.split(os.environ.get("CXX") or "g++")[0]
    if not shutil.which(compiler):
        raise UserError(f"compile needs a C++ compiler, and {compiler} is not installed: install g++, name another in the"
                        " environment variable CXX, or leave compile out", "compile")
