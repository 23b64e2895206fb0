"""The processes of one run, under torchrun or alone: ranks, sums and lists over all of them, and what a lost process means.

Every function works in a run of one process too, where it costs nothing and never touches torch.distributed. Numbers and
objects travel over gloo, on the CPU, also where gradients travel over NCCL.
"""
import contextlib
import datetime
import logging
import os
import sys
import threading
import time
from dataclasses import dataclass
from typing import Any, Iterable, Iterator, Optional, Sequence

import torch
from torch import distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from ops.common.errors import UserError

log = logging.getLogger(__name__)

_store: Optional[dist.Store] = None  # of the joined group; each rank writes its last step there
_blocks = 0  # of `main_process_first` so far
_limit = 600.0  # seconds, of the joined group
_rounds = 0  # of one_per_machine_first
_on_its_own = False
BEAT, POLL = 5.0, 0.5  # seconds between two signs of life, and between two looks at those of others


class LostProcess(UserError):
    """Another process of the run died or stopped answering."""
    elsewhere = True


@dataclass(frozen=True)
class World:
    """This process among the `size` processes of the run: rank, 0-based, and local_rank, the rank on its machine."""
    rank: int = 0
    size: int = 1
    local_rank: int = 0

    @property
    def is_main(self) -> bool:
        """Whether this process writes files and messages: rank 0."""
        return self.rank == 0


def launched() -> bool:
    """Whether torchrun (or a launcher with the same environment variables) started this process."""
    return {"RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"} <= set(os.environ)


def world() -> World:
    """This process's place: from the joined group, else from the launcher's environment, else alone."""
    if _on_its_own:
        return World()
    if dist.is_available() and dist.is_initialized():
        return World(dist.get_rank(), dist.get_world_size(), int(os.environ.get("LOCAL_RANK", 0)))
    if launched():
        return World(*(int(os.environ.get(name, default)) for name, default in
                       (("RANK", "0"), ("WORLD_SIZE", "1"), ("LOCAL_RANK", "0"))))
    return World()


def quiet_others() -> None:
    """Log nothing but errors in any process but the first: the others would repeat its messages and warnings."""
    if not world().is_main:
        logging.getLogger().setLevel(logging.ERROR)


@contextlib.contextmanager
def joined(device: torch.device, timeout: float) -> Iterator[World]:
    """Join the processes that torchrun launched, and leave them at the end. Without torchrun: a run of one process.

    device: this process's; a CUDA device becomes the current one, and gradients there travel over NCCL. timeout: seconds
    that a collective operation waits for the slowest process.
    """
    global _store, _limit
    if device.type == "cuda":  # else pinned memory and kernels without a device of their own would open the first GPU too
        torch.cuda.set_device(device)
    if not launched():
        yield World()
        return
    limit, _limit = datetime.timedelta(seconds=timeout), timeout
    here = world()
    _store = next(iter(dist.rendezvous("env://", here.rank, here.size, timeout=limit)))[0]
    dist.init_process_group("cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo", store=_store, rank=here.rank,
                            world_size=here.size, timeout=limit)
    try:
        yield world()
    finally:
        with contextlib.suppress(RuntimeError):  # a group whose peer is gone cannot be left in order
            dist.destroy_process_group()
        _store = None


@contextlib.contextmanager
def on_its_own() -> Iterator[None]:
    """Inside, this process counts as a run of one process: it loads and evaluates everything it is given, for itself."""
    global _on_its_own
    before, _on_its_own = _on_its_own, True
    try:
        yield
    finally:
        _on_its_own = before


# ---- collective operations ------------------------------------------------------------------------------------------

def total(values: Sequence[float]) -> list[float]:
    """The sums of each value over all processes, in double precision. Every process must call it."""
    if world().size == 1 or not dist.is_initialized():
        return list(values)
    sums = torch.tensor(values, dtype=torch.float64)
    dist.all_reduce(sums)
    return sums.tolist()


def gather(value: Any) -> list[Any]:
    """Each process's `value` (anything that pickles), in the order of their ranks. Every process must call it."""
    if world().size == 1 or not dist.is_initialized():
        return [value]
    values: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(values, value)
    return values


def check_equal(value: Any, problem: str, *options: str) -> None:
    """UserError with the text `problem` unless all processes have the same value. Every process must call it."""
    if any(other != value for other in gather(value)):
        raise UserError(problem, *options)


def share_buffers(module: nn.Module) -> None:
    """Give the module's buffers (statistics of BatchNorm) those of rank 0, which writes the checkpoints."""
    if world().size > 1 and dist.is_initialized():
        for buffer in module.buffers():
            dist.broadcast(buffer, 0)


@contextlib.contextmanager
def main_process_first() -> Iterator[None]:
    """Rank 0 runs the block (download, preparation), then the first process of every other machine, then the others.

    Machines may share a disk, which then holds everything already, or have disks of their own. Every process must reach
    the block.
    """
    global _blocks
    here = world()
    if here.size == 1 or not dist.is_initialized():
        yield
        return
    _blocks += 1
    main, machine = (f"ready/{_blocks}/{rank}" for rank in (0, here.rank - here.local_rank))
    if here.local_rank:
        _wait_for(machine)
    elif not here.is_main:
        _wait_for(main)
    try:
        yield
    finally:
        if not here.local_rank and _store is not None:
            _store.set(machine, "yes")


def _wait_for(key: str) -> None:
    """Wait without a time limit: preparing a data set may take longer than any collective operation."""
    assert _store is not None
    while True:
        with contextlib.suppress(dist.DistStoreError):
            _store.wait([key], datetime.timedelta(seconds=60))
            return


@contextlib.contextmanager
def one_per_machine_first() -> Iterator[None]:
    """On each machine, local rank 0 runs the block (a download) while the machine's others wait; then these run it.

    Unlike with `main_process_first`, all machines work at the same time. Nobody leaves before all have finished, however
    long that takes. LostProcess when a process that others wait for has failed, or has given no sign of life for the time
    limit of `joined`.
    """
    if world().size == 1 or not dist.is_initialized():
        yield
        return
    global _rounds
    _rounds += 1
    first = [rank for rank, local_rank in enumerate(gather(world().local_rank)) if local_rank == 0]
    here, mark = world(), f"round/{_rounds}"
    with _reporting(f"{mark}/{here.rank}"):
        if here.rank not in first:
            _wait_for_ranks(mark, [max(rank for rank in first if rank <= here.rank)])
        yield
    _wait_for_ranks(mark, range(here.size))


@contextlib.contextmanager
def _reporting(key: str) -> Iterator[None]:
    """Tell the others that this process is at work, and then that it has finished or failed."""
    assert _store is not None
    store, ended = _store, threading.Event()

    def beat() -> None:
        count = 0
        while not ended.wait(BEAT):
            count += 1
            store.set(f"{key}/alive", str(count))

    thread = threading.Thread(target=beat, daemon=True)
    thread.start()
    outcome = "failed"
    try:
        yield
        outcome = "done"
    finally:
        ended.set()
        thread.join()
        with contextlib.suppress(dist.DistError):  # nobody is left to be told
            store.set(key, outcome)


def _wait_for_ranks(mark: str, ranks: Iterable[int]) -> None:
    """Wait until these processes have reported the end of their work. LostProcess if one cannot."""
    assert _store is not None
    for rank in ranks:
        key, seen, since = f"{mark}/{rank}", "", time.monotonic()
        while True:
            with naming_lost_processes():
                if _store.check([key]):
                    break
                alive = _store.get(f"{key}/alive").decode() if _store.check([f"{key}/alive"]) else ""
            if alive != seen:
                seen, since = alive, time.monotonic()
            if time.monotonic() - since > _limit:
                raise LostProcess(f"rank {rank} is lost: it gave no sign of life for {_limit:g} seconds (dist_timeout)",
                                  "dist_timeout")
            time.sleep(POLL)
        if _store.get(key) != b"done":
            raise LostProcess(f"rank {rank} could not do its part: its own message gives the reason")


def data_parallel(model: nn.Module, device: torch.device, sync_bn: bool = False) -> nn.Module:
    """The model as DistributedDataParallel in a run of several processes, else the model itself.

    sync_bn: BatchNorm over the clips of all processes. UserError on a CPU, where PyTorch's SyncBatchNorm does not work.
    """
    if sync_bn and device.type != "cuda":
        raise UserError(f"sync_bn works on GPUs only, this run is on {device.type}: leave it out", "sync_bn")
    if world().size == 1:
        return model
    if sync_bn:
        model = nn.SyncBatchNorm.convert_sync_batchnorm(model)
    return DistributedDataParallel(model, device_ids=[device.index] if device.type == "cuda" else None,
                                   gradient_as_bucket_view=True)


def unwrapped(model: nn.Module) -> nn.Module:
    """The network inside a DistributedDataParallel, or the model itself."""
    return model.module if isinstance(model, DistributedDataParallel) else model


# ---- messages -------------------------------------------------------------------------------------------------------

def tell(message: str) -> None:
    """Let every process find `message` with `told`. Without effect in a run of one process, and when the others are gone."""
    if _store is not None:
        with contextlib.suppress(RuntimeError):
            _store.set(message, "yes")


def told(message: str) -> bool:
    """Whether a process has told `message`; True too when rank 0, which keeps the messages, is gone."""
    if _store is None:
        return False
    try:
        return _store.check([message])
    except RuntimeError:  # DistError, or a broken connection
        return True


# ---- lost processes -------------------------------------------------------------------------------------------------

def mark_progress(step: int) -> None:
    """Record that this process has begun step `step` of the run, so that the others can name it if it is lost."""
    if _store is not None:
        _store.set(f"step/{world().rank}", str(step))


@contextlib.contextmanager
def naming_lost_processes() -> Iterator[None]:
    """Turn the error of a collective operation that another process left or did not reach in time into a LostProcess."""
    try:
        yield
    except RuntimeError as error:  # PyTorch's own errors are RuntimeErrors too
        if world().size == 1 or isinstance(error, UserError) or not _is_connection_error(error):
            raise
        raise LostProcess(f"{_slowest_rank()}: {_reason(error)}", "dist_timeout") from None


def _is_connection_error(error: Exception) -> bool:
    text = str(error).lower()
    return isinstance(error, dist.DistError) or any(word in text for word in (
        "connection closed by peer", "connection reset", "timed out waiting", "connection refused", "broken pipe",
        "gloo", "nccl"))


def _reason(error: Exception) -> str:
    timed_out = "timed out" in str(error).lower() or "timeout" in str(error).lower()
    return "it did not answer within the time limit (dist_timeout)" if timed_out else "its connection closed"


def _slowest_rank() -> str:
    """`rank 1 (last seen at step 12 of the run)`: of the other processes, the one that is furthest behind."""
    here = world()
    steps = {}
    try:
        for rank in range(here.size):
            key = f"step/{rank}"
            steps[rank] = int(_store.get(key)) if _store is not None and _store.check([key]) else -1
    except (RuntimeError, ValueError):
        return "rank 0, which connects the others, is lost"
    steps.pop(here.rank, None)
    rank = min(steps, key=lambda rank: (steps[rank], rank))
    seen = f" (last seen at step {steps[rank]} of the run)" if steps[rank] >= 0 else ""
    return f"rank {rank} is lost{seen}"


# ---- launching ------------------------------------------------------------------------------------------------------

def launch(gpus: Sequence[int]) -> int:
    """Run this command again as one process per GPU of this machine, as torchrun would; the status of the run.

    A process that fails ends the others; its status is returned. gpus: as this process numbers them, which may see a part
    of the machine's.
    """
    from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs, SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    visible = [name for name in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if name]
    os.environ["CUDA_VISIBLE_DEVICES"] = ",".join(visible[gpu] if visible else str(gpu) for gpu in gpus)
    config = LaunchConfig(1, 1, len(gpus), logs_specs=DefaultLogsSpecs(), run_id="main", rdzv_backend="c10d",
                          rdzv_endpoint="localhost:0", max_restarts=0)
    logging.disable(logging.CRITICAL)  # the processes report their own errors; PyTorch adds forty lines about each
    try:
        elastic_launch(config, sys.executable)(*sys.argv)
    except SignalException as stop:  # of this process, which has ended the others by the same signal
        return 128 + stop.sigval
    except ChildFailedError as error:
        status = next(iter(error.failures.values())).exitcode
        return status if status >= 0 else 128 - status
    return 0
