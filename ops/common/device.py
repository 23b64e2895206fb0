"""The device that a run uses, its random seeds, memory format and peak memory, and the versions of its code."""
import contextlib
import functools
import platform
import random
import re
import subprocess
import sys
from pathlib import Path
from typing import Iterator, Optional

import numpy as np
import torch
import torchvision

from ops.common import distributed
from ops.common.errors import UserError


def pick_devices(name: str, gpus: Optional[list[int]]) -> tuple[torch.device, list[int]]:
    """This process's device and the GPUs of the run ([] on other devices), for the options device and gpus.

    A process that torchrun launched uses the GPU of its local rank. Raises UserError, see `pick_device` and `pick_gpus`.
    """
    device = pick_device(name)
    if device.type == "cuda" and distributed.launched():
        if device.index is not None and distributed.world().size > 1:
            raise UserError(f"device {name} is one GPU, for {distributed.world().size} processes: choose cuda", "device")
        return torch.device("cuda", distributed.world().local_rank), []
    chosen = pick_gpus(gpus, device)
    return (torch.device("cuda", chosen[0]) if chosen else device), chosen


def pick_device(name: str) -> torch.device:
    """The device called `name`: auto (cuda, else mps, else cpu), cpu, cuda, cuda:N or mps. UserError if absent."""
    has = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if name == "auto":
        return torch.device(next(kind for kind in ("cuda", "mps", "cpu") if has[kind]))
    kind, _, number = name.partition(":")
    if not has.get(kind, False):
        available = ", ".join(kind for kind, present in has.items() if present)
        raise UserError(f"device {name!r} is not on this machine: choose auto or one of {available}", "device")
    if number and not (kind == "cuda" and number.isdecimal() and int(number) < torch.cuda.device_count()):
        count = torch.cuda.device_count()
        raise UserError(f"device {name!r}: this machine's GPUs are cuda:0 to cuda:{count - 1}" if count
                        else f"device {name!r}: this machine has no GPU: choose auto or cpu", "device")
    return torch.device(name)


def pick_gpus(gpus: Optional[list[int]], device: torch.device) -> list[int]:
    """The GPUs of a run, the model's own first: `gpus` if given, else the device itself. [] on other devices."""
    if gpus is None:
        return [device.index or 0] if device.type == "cuda" else []
    count = torch.cuda.device_count()
    absent = [gpu for gpu in gpus if not 0 <= gpu < count]
    given = f"gpus {' '.join(map(str, gpus))}"
    if absent or device.type != "cuda":
        raise UserError(f"{given}: this run is on {device.type} with {count} GPUs:"
                        " leave gpus out, or choose numbers below that count", "gpus")
    if len(set(gpus)) < len(gpus):
        raise UserError(f"{given}: name each GPU once", "gpus")
    if len(gpus) > 1 and device.index is not None:
        raise UserError(f"{given} name several GPUs and device {device} one: choose cuda", "gpus", "device")
    if device.index not in (None, gpus[0]):
        raise UserError(f"{given} begins with another GPU than device {device}: leave one of them out", "gpus", "device")
    return gpus


def seed_everything(seed: int) -> None:
    """Seed Python, NumPy and torch (every device)."""
    random.seed(seed)
    np.random.seed(seed % 2 ** 32)
    torch.manual_seed(seed)


def mix_seeds(*parts: int) -> int:
    """One 63-bit seed from several numbers; neighboring (seed, epoch, index) give unrelated seeds."""
    return int(np.random.SeedSequence((len(parts), *parts)).generate_state(1, np.uint64)[0] >> np.uint64(1))


@contextlib.contextmanager
def local_seed(seed: int) -> Iterator[None]:
    """Within this context, torch's CPU random state starts from `seed`; afterwards the old state is restored."""
    state = torch.random.get_rng_state()
    torch.random.default_generator.manual_seed(seed)
    try:
        yield
    finally:
        torch.random.set_rng_state(state)


@contextlib.contextmanager
def drawing_again(state: torch.Tensor) -> Iterator[None]:
    """Within this context, torch's CPU generator draws what it drew from `state` on; afterwards its state is restored."""
    before = torch.random.get_rng_state()
    torch.random.set_rng_state(state)
    try:
        yield
    finally:
        torch.random.set_rng_state(before)


def channels_last(model: torch.nn.Module) -> None:
    """Store the weights of 2D convolutions channels last, in place; activations follow. No value changes."""
    for parameter in model.parameters():
        if parameter.dim() == 4:
            # Not contiguous(): it keeps the strides of 1x1 kernels, which differ from those of their gradients then.
            parameter.data = torch.empty_like(parameter, memory_format=torch.channels_last).copy_(parameter.data)


@functools.cache
def git_commit() -> str:
    """The commit of this code, or "unknown" outside a checkout."""
    try:
        done = subprocess.run(["git", "describe", "--always", "--dirty"], capture_output=True, text=True,
                              cwd=Path(__file__).parent, timeout=5)
    except (OSError, subprocess.TimeoutExpired):
        return "unknown"
    return done.stdout.strip() or "unknown"


def versions(device: torch.device) -> dict[str, str]:
    """What a run's numbers depend on beside its options: commit, versions, and the device with its model's name."""
    return {"commit": git_commit(), "python": platform.python_version(), "torch": torch.__version__,
            "torchvision": torchvision.__version__, "hardware": f"{device} ({_model_name(device)})"}


def _model_name(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else processor()[0]


def processor(cpuinfo: Path = Path("/proc/cpuinfo")) -> tuple[str, list[str]]:
    """The name of this machine's processor and its flags, such as avx2; no flags where the system does not show them."""
    try:
        lines = cpuinfo.read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    rows = {name.strip(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    name = rows.get("model name") or platform.processor() or platform.machine()
    return name, rows.get("flags", rows.get("Features", "")).split()


def peak_memory(device: torch.device) -> Optional[float]:
    """The most memory that this process has held at once, bytes; None where that is unknown (Windows).

    On a GPU its tensors, elsewhere all of the process, without its loader's processes.
    """
    if device.type == "cuda":
        return float(torch.cuda.max_memory_allocated(device))
    status = Path("/proc/self/status")
    if status.exists() and (found := re.search(r"VmHWM:\s+(\d+) kB", status.read_text())):
        return 1024.0 * int(found[1])
    try:  # begins with what the process that started this one held
        import resource
    except ImportError:
        return None
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1.0 if sys.platform == "darwin" else 1024.0)
