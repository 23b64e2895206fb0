"""Processes for work on many files: as many as cores, none left behind, Ctrl-C heard by the parent alone."""
import multiprocessing
import os
import signal
import threading
from contextlib import contextmanager
from typing import Any, Iterator

_stop: Any = None  # in a worker process: the event that says that the run was interrupted


class Stopped(Exception):
    """The run was interrupted: the file at hand is given up."""


def cores() -> int:
    """The processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@contextmanager
def without_interrupts() -> Iterator[None]:
    """Processes started inside never see Ctrl-C, which a terminal sends to all: ending them is our part."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def start_worker(stop: Any) -> None:
    """What a worker process begins with. stop: the event that makes `interrupted` true."""
    global _stop
    _stop = stop
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    end_with_parent()


def interrupted() -> bool:
    return _stop is not None and _stop.is_set()


def end_with_parent() -> None:
    """A worker whose parent was killed would wait for work for ever: from now on it ends then."""
    threading.Thread(target=_wait_for_parent, daemon=True).start()


def _wait_for_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
