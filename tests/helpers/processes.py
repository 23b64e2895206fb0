"""Programs as processes of their own: under torchrun, killed, interrupted."""
import os
import re
import signal
import socket
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.helpers.fork_server import Forked

ROOT = Path(__file__).parents[2]


def environment() -> dict[str, str]:
    """This process's variables, as they are now, with one thread per process."""
    return {**os.environ, "OMP_NUM_THREADS": "1"}


def start(*argv, **options) -> subprocess.Popen:
    """`python argv...` in the repository, in a process group of its own, with SIGINT as a terminal's child has it.

    On Linux forked (tests/helpers/fork_server.py), which saves the imports. env: variables on top of `environment()`.
    """
    options = {"cwd": ROOT, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, **options}
    options["env"] = {**environment(), **options.get("env", {})}
    command = [sys.executable, *map(str, argv)]
    if sys.platform == "linux":
        return Forked(command, **options)
    return subprocess.Popen(command, start_new_session=True,
                            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler), **options)


def finish(process: subprocess.Popen, timeout: float = 240) -> tuple[int, str, str]:
    """Wait for a process: (status, standard output, standard error). It is killed after `timeout` seconds."""
    try:
        out, err = process.communicate(timeout=timeout)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        raise
    return process.returncode, out, err


def messages(err: str) -> str:
    """Standard error without the lines of progress, which a busy machine makes a short step write too."""
    progress = re.compile(r"[^:]*: [\d.]+( of [\d.]+)? \w+( in [^,]*|, [\d.]+ (per second|s each).*)\n")
    return "".join(line for line in err.splitlines(keepends=True) if not progress.fullmatch(line))


def start_ranks(processes: int, *argv) -> list[subprocess.Popen]:
    """`python argv...` as so many processes of one run, without torchrun, by their ranks."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        place = {"WORLD_SIZE": f"{processes}", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": f"{free.getsockname()[1]}"}
    return [start(*argv, env={**place, "RANK": f"{rank}", "LOCAL_RANK": f"{rank}"}) for rank in range(processes)]


def ranks(processes: int, *argv) -> tuple[int, str, str]:
    """Run `python argv...` as so many processes of one run, without torchrun: (status, standard output, standard error).

    The output is that of rank 0, then that of rank 1 and so on; the status is the first one that is not 0.
    """
    started = start_ranks(processes, *argv)
    with ThreadPoolExecutor(processes) as threads:
        statuses, outputs, errors = zip(*threads.map(finish, started))
    return next(filter(None, statuses), 0), "".join(outputs), "".join(errors)


def torchrun(processes: int, *argv) -> subprocess.Popen:
    """`torchrun --nproc_per_node processes argv...` on this machine."""
    return start("-m", "torch.distributed.run", "--standalone", "--nproc_per_node", processes, *argv)


def children(process: subprocess.Popen) -> dict[int, int]:
    """{rank: process id} of the processes that `torchrun` has started."""
    found = {}
    for directory in Path("/proc").glob("[0-9]*"):
        try:
            parent = int((directory / "stat").read_text().rsplit(")", 1)[1].split()[1])
            entries = (directory / "environ").read_text().split("\0")
            environment = dict(entry.split("=", 1) for entry in entries if "=" in entry)
        except (OSError, UnicodeDecodeError):
            continue
        if parent == process.pid and "RANK" in environment:
            found[int(environment["RANK"])] = int(directory.name)
    return found


def worker_processes(process: subprocess.Popen) -> list[int]:
    """The ids of the processes that a program has started through multiprocessing (Linux)."""
    listed = [int(child) for child in Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()]
    return [child for child in listed if b"resource_tracker" not in Path(f"/proc/{child}/cmdline").read_bytes()]
