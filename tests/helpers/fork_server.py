"""Programs that begin at once: forked from a process that has imported torch, torchvision and the library already.

Importing them costs a core four seconds, which the tests would otherwise spend hundreds of times. `Forked` is a
`subprocess.Popen` for commands of Python whose process comes from such a server. The server is a process of its own, not a
copy of pytest: started at the first need, without threads, ended with the process of the tests. Whatever Python or a
library reads when it starts or is imported (STARTUP) belongs to a server, so that other values of it start another server.

A forked program has its own session, descriptors, environment, arguments and `__main__`, Python's signal handlers, new
random numbers, and the exit status of a process; its own processes are ordinary ones. It differs from a started one in what
it finds imported, in sharing the order of sets and the parent process with others, and in ending without taking Python
apart, which takes a second with so many modules. What is about starting or ending Python starts it with `subprocess`.
"""
import atexit
import functools
import gc
import json
import os
import runpy
import signal
import socket
import subprocess
import sys
import threading
import time
import types
from multiprocessing import process
from pathlib import Path
from typing import Any, Optional, Sequence

ROOT = Path(__file__).parents[2]
STARTUP = ("PYTHON", "LANG", "LC_", "LD_", "OMP_", "MKL_", "KMP_", "PYTORCH_")  # how names of variables begin
PRELOADED = ("main", "test_models", "tools.predict", "tools.check_dataset", "tools.extract_flow", "tools.make_dataset",
             "tools.make_shards", "tools.vid2img_sthv2", "ops.remote.data", "s3fs", "tensorboardX",
             "torch.distributed.run")
MOST = 200_000  # bytes of a request: a command and its environment


class Forked(subprocess.Popen):
    """`python argv...` in a session of its own. env: all of its variables. For Linux."""

    def __init__(self, argv: Sequence[str], *, env: dict[str, str], **options: Any):
        self.server = _server(tuple(sorted((name, value) for name, value in env.items() if name.startswith(STARTUP))))
        super().__init__(argv, env=env, **options)

    def _execute_child(self, args, executable, preexec_fn, close_fds, pass_fds, cwd, env, startupinfo, creationflags, shell,
                       *others):
        pipes = others[:6]  # of standard input, output and error: (to read, to write) each; -1: as in this process
        descriptors = [own if given == -1 else given for own, given in enumerate((pipes[0], pipes[3], pipes[5]))]
        request = {"argv": args[1:], "environment": env, "directory": os.path.abspath(cwd or ".")}
        self.pid = self.server.ask(request, descriptors)
        self._child_created = True
        self._close_pipe_fds(*pipes)

    def _try_wait(self, wait_flags: int) -> tuple[int, int]:
        while (status := self.server.ask({"ended": self.pid})) is None:
            if wait_flags & os.WNOHANG:
                return 0, 0
            time.sleep(0.005)
        return self.pid, status

    def _internal_poll(self, *_, **__) -> Optional[int]:
        if self.returncode is None and self._waitpid_lock.acquire(False):
            try:
                pid, status = self._try_wait(os.WNOHANG)
                if pid:
                    self._handle_exitstatus(status)
            finally:
                self._waitpid_lock.release()
        return self.returncode


class _Server:
    """The process to fork from, as the tests see it."""

    def __init__(self, environment: dict[str, str]):
        self.lock = threading.Lock()
        self.socket, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        code = f"from tests.helpers import fork_server; fork_server.serve({other.fileno()})"
        streams = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)  # without a position, whatever replaces them
        with other:
            self.process = subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, env=environment, text=True,
                                            start_new_session=True, pass_fds=[other.fileno()], **streams)

    def ask(self, request: dict[str, Any], descriptors: Sequence[int] = ()) -> Any:
        with self.lock:
            socket.send_fds(self.socket, [json.dumps(request).encode()], descriptors)
            answer = self.socket.recv(MOST)
        assert answer, f"the fork server ended: {self.process.stderr.read()}"
        return json.loads(answer)


@functools.lru_cache(maxsize=None)
def _server(startup: tuple[tuple[str, str], ...]) -> _Server:
    others = {name: value for name, value in os.environ.items() if not name.startswith(STARTUP)}
    return _Server({**others, **dict(startup)})


# ---- in the server -------------------------------------------------------------------------------------------------

def serve(descriptor: int) -> None:
    """Answer requests until the tests have ended. In each forked process, run its program."""
    for name in PRELOADED:
        __import__(name)
    threads = os.listdir("/proc/self/task")
    assert len(threads) == 1, "a fork copies the locks of other threads, but not the threads"
    gc.collect()
    gc.freeze()
    connection = socket.socket(fileno=descriptor)
    while True:
        message, descriptors, _, _ = socket.recv_fds(connection, MOST, 3)
        if not message:
            return
        request = json.loads(message)
        if "ended" in request:  # only on request, so that until then a signal to the process finds it, as with Popen
            pid, status = os.waitpid(request["ended"], os.WNOHANG)
            answer = status if pid else None
        else:
            answer = os.fork()
            if not answer:
                connection.close()
                _set_up(descriptors, request["environment"], request["directory"])
                _end(_status_of(request["argv"]))
            for number in descriptors:
                os.close(number)
        connection.send(json.dumps(answer).encode())


def _set_up(descriptors: Sequence[int], environment: dict[str, str], directory: str) -> None:
    import numpy as np
    os.setsid()
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for number, given in enumerate(descriptors):
        os.dup2(given, number)
        os.close(given)
    os.chdir(directory)
    process.ORIGINAL_DIR = directory  # where processes of its own begin
    os.environ.clear()
    os.environ.update(environment)
    np.random.seed()


def _execute(argv: list[str]) -> None:
    """`python argv...`, for a file, -c or -m."""
    main = sys.modules["__main__"] = types.ModuleType("__main__")
    if argv[0] == "-m":
        sys.argv, sys.path[0] = argv[1:], os.getcwd()
        sys.modules.pop(argv[1], None)
        runpy.run_module(argv[1], run_name="__main__", alter_sys=True)
    elif argv[0] == "-c":
        sys.argv, sys.path[0] = ["-c", *argv[2:]], ""
        exec(compile(argv[1], "<string>", "exec"), vars(main))
    else:
        sys.argv, sys.path[0] = argv, str(Path(argv[0]).resolve().parent)
        main.__file__ = os.path.abspath(argv[0])
        exec(compile(Path(argv[0]).read_bytes(), argv[0], "exec"), vars(main))


def _status_of(argv: list[str]) -> int:
    """The exit status that Python has for this end of the program, whose exception it prints."""
    try:
        _execute(argv)
    except SystemExit as end:
        if isinstance(end.code, str):
            print(end.code, file=sys.stderr)
        return 1 if isinstance(end.code, str) else end.code or 0
    except BaseException as error:
        sys.excepthook(type(error), error, error.__traceback__)
        return -signal.SIGINT if isinstance(error, KeyboardInterrupt) else 1
    return 0


def _end(status: int) -> None:
    """What Python does at its end for threads, exit functions and output; negative: die by that signal."""
    threading._shutdown()
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    if status < 0:
        signal.signal(-status, signal.SIG_DFL)
        os.kill(os.getpid(), -status)
    os._exit(status)
