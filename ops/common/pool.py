"""Work in several processes: one per core, all ended with the run, Ctrl-C handled by the parent alone."""
import multiprocessing
import os
import signal
import threading
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from itertools import islice
from multiprocessing import resource_tracker
from typing import Any, Callable, Generator, Iterator, Optional, Sequence, TypeVar

from ops.common.errors import UserError, shown

Job = TypeVar("Job")
Outcome = TypeVar("Outcome")
_stop: Any = None  # in a worker process: the event that is set when the run was interrupted


class Stopped(Exception):
    """Raised by a worker's job when `interrupted` is true: it gives up the file at hand."""


def cores() -> int:
    """The processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def run_jobs(work: Callable[[Job], Outcome], jobs: Sequence[Job], workers: Optional[int] = None, *,
             name: Callable[[Job], object] = str) -> Generator[tuple[Job, Outcome], None, None]:
    """Yield (job, work(job)) as they finish. Close the generator (`contextlib.closing`) to stop early.

    workers: processes (None: one per core); 1, or a single job, runs in this process. work and jobs are pickled; work
    may ask `interrupted` and raise Stopped. name: what a job is called in messages.
    An exception of work ends the run. UserError that names the jobs at hand when a process dies.
    """
    workers = min(cores() if workers is None else workers, len(jobs))
    return _run_in_processes(work, jobs, workers, name) if workers > 1 else ((job, work(job)) for job in jobs)


def _run_in_processes(work: Callable[[Job], Outcome], jobs: Sequence[Job], workers: int,
                      name: Callable[[Job], object]) -> Generator[tuple[Job, Outcome], None, None]:
    context = multiprocessing.get_context("spawn")  # fork would copy the locks of whatever threads run here
    stop = context.Event()
    pool = ProcessPoolExecutor(workers, context, _start_worker, (stop,))
    queue = iter(jobs)
    running: dict[Future, Job] = {}
    try:
        while True:
            for job in islice(queue, 2 * workers - len(running)):
                with without_interrupts():
                    running[pool.submit(work, job)] = job
            if not running:
                return
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                outcome = future.result()
                yield running.pop(future), outcome
    except BrokenProcessPool:
        names = ", ".join(sorted(shown(name(job)) for job in running.values()))
        raise UserError(f"a worker process died (out of memory?) while working on one of: {names}: start again to resume,"
                        " with fewer workers if memory is short", "workers") from None
    finally:
        stop.set()
        pool.shutdown(wait=True, cancel_futures=True)


@contextmanager
def without_interrupts() -> Iterator[None]:
    """Processes started in this context never see Ctrl-C, which a terminal sends to all: the parent ends them."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    resource_tracker.ensure_running()  # multiprocessing starts this process of its own on demand, and then unblocks SIGINT
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


# ---- in a worker process ----------------------------------------------------------------------------------------

def _start_worker(stop: Any) -> None:
    global _stop
    _stop = stop
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """A worker whose parent was killed would wait for work for ever: end it instead."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def interrupted() -> bool:
    """Whether the run that this worker process belongs to was interrupted; False in the main process."""
    return _stop is not None and _stop.is_set()
