"""UserError, for problems that the user can fix, and Interrupted, for work that a signal ended."""
import re
from typing import Optional


class UserError(ValueError):
    """A wrong input, option or file. The text is one line: what was got, what is allowed, what to do.

    options: names of the options that the text mentions. Python callers read them without dashes (`num_segments 0:
    choose 1 or more`); `for_command_line` adds the dashes.
    Programs print that line and exit with status 2 (`ops.common.cli.run`). Any other exception is a bug of ours
    and keeps its traceback.
    """

    elsewhere = False  # whether the cause is in another process, which gives the reason itself

    def __init__(self, message: str, *options: str) -> None:
        # A DataLoader worker's error arrives with the worker's whole traceback around it and our own line at its
        # end; a user needs only that line.
        super().__init__(shown(str(message).rsplit("UserError: ", 1)[-1].strip()))
        self.options = options

    def for_command_line(self) -> str:
        """The text with `--` in front of the options it mentions."""
        if not self.options:
            return str(self)
        return re.sub(rf"(?<![\w./-])({'|'.join(map(re.escape, self.options))})(?![\w.])", r"--\1", str(self))


def shown(name: object) -> str:
    """Text for a message, such as a file name: line breaks and undecodable bytes as escapes, so that it stays one line."""
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in str(name))


class Interrupted(UserError):
    """A signal ended the work after it was saved. The text says how to continue; status: 130 (Ctrl-C) or 143 (SIGTERM)."""

    def __init__(self, message: str, signal_number: int, *options: str) -> None:
        super().__init__(message, *options)
        self.signal, self.status = signal_number, 128 + signal_number


class WorkerDied(UserError):
    """A process that loads data was killed or ended by itself."""


def worker_died(error: Exception) -> Optional[WorkerDied]:
    """PyTorch's error about a dead loader process as one line; None for other errors."""
    died = re.search(r"worker \(pid.*\) (is killed by signal: [\w ]+|exited unexpectedly)", str(error))
    return WorkerDied(f"a worker process of the loader {died[1]}: if memory (or /dev/shm) is short, choose fewer workers or"
                      " a smaller batch; with workers 0 the error itself is shown", "workers") if died else None
