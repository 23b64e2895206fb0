"""Jobs measured side by side, each in a process of its own, so that peak memory and settings belong to one job alone."""
import multiprocessing
import socket
import statistics
from multiprocessing.connection import Connection
from typing import Any, NamedTuple, Optional, Sequence

from ops.common.errors import UserError
from ops.common.pool import without_interrupts
from ops.common.progress import progress
from tools.benchmarks.train_worker import Job, serve


class Measured(NamedTuple):
    """The seconds of each round of a job's step, and the peak memory of its first process in bytes."""
    seconds: list[float]
    peak: int

    @property
    def median(self) -> float:
        return statistics.median(self.seconds)

    def over(self, other: "Measured") -> float:
        """How many times as long as the other's step, by the median over the rounds of the ratio within a round."""
        return statistics.median(own / others for own, others in zip(self.seconds, other.seconds))

    def describe(self) -> dict[str, Any]:
        """For JSON."""
        return {"seconds": self.seconds, "median": self.median, "peak_bytes": self.peak}


class Worker:
    """The processes that make a job's step together."""

    def __init__(self, job: Job) -> None:
        context = multiprocessing.get_context("spawn")
        port = _free_port() if job.size > 1 else 0
        self.job, self.pipes, self.processes = job, [], []
        for rank in range(job.size):
            ours, theirs = context.Pipe()
            process = context.Process(target=serve, args=(job.changed(rank=rank, port=port), theirs), daemon=True)
            with without_interrupts():  # else Ctrl-C reaches the process, too, which then prints a traceback
                process.start()
            theirs.close()
            self.pipes.append(ours)
            self.processes.append(process)

    def ask(self, request: str) -> float:
        """The largest answer of the processes."""
        for pipe in self.pipes:
            pipe.send(request)
        return max(self._answer(pipe) for pipe in self.pipes)

    def _answer(self, pipe: Connection) -> float:
        try:
            return pipe.recv()
        except EOFError:
            raise UserError(f"the process that measures {self.job.mode.name!r} ended early: see its message above") from None

    def end(self) -> None:
        for process in self.processes:
            process.terminate()
        for process in self.processes:
            process.join()


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def measure(jobs: Sequence[Job], rounds: int, warm_up: int, words: Optional[str] = None) -> list[Measured]:
    """Every job's step, in turns: `warm_up` untimed rounds, then `rounds` timed ones. words: of the progress bar."""
    workers: list[Worker] = []
    seconds: list[list[float]] = [[] for _ in jobs]
    try:
        for job in jobs:  # one at a time: their warm-up would need the memory of all of them at once
            workers.append(Worker(job))
            for _ in range(warm_up):
                workers[-1].ask("step")
        for _ in progress(range(rounds), desc=words, leave=False):
            for values, worker in zip(seconds, workers):
                values.append(worker.ask("step"))
        return [Measured(values, int(worker.ask("peak"))) for values, worker in zip(seconds, workers)]
    finally:
        for worker in workers:
            worker.end()
