"""Commands that run once: a file remembers what was run, when it began and when it ended, so that a run can resume."""
import json
import shlex
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Iterator, Optional, Sequence

from ops.common.errors import UserError
from ops.common.files import atomic_write, check_writable


class Steps:
    """The steps of a run, kept in a JSON file: name -> `command`, `begun`, and once it is done `ended` and `seconds`.

    begun and ended are in seconds since 1970; seconds is the duration.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.records: dict[str, dict[str, Any]] = json.loads(path.read_text()) if path.exists() else {}

    @property
    def seconds(self) -> float:
        """The duration of all steps together."""
        return sum(record.get("seconds", 0.0) for record in self.records.values())

    def forget(self, *names: str) -> None:
        for name in names:
            self.records.pop(name, None)
        self._write()

    def run(self, name: str, command: Sequence[Any], output: Path, *, after: Sequence[str] = (),
            stdout: Optional[Path] = None, partial: Optional[Path] = None) -> bool:
        """Run a program of this repository, unless the step is done. Returns whether it ran; UserError if it failed.

        A step is done if the same command ended after all the steps it depends on (`after`) and its `output` still
        exists. stdout: a file for the program's standard output. partial: the checkpoint that the program leaves when it
        is interrupted. It is resumed if the same command wrote it, after the same steps; any other is removed first.
        """
        words = [str(word) for word in command]
        typed = shlex.join(["python", *words]) + (f" > {shlex.quote(str(stdout))}" if stdout else "")
        record = self.records.get(name, {})
        same, newest = record.get("command") == typed, max((self.records[step]["ended"] for step in after), default=0.0)
        if same and output.exists() and newest <= record.get("ended", -1):
            print(f"[{name}] done before: {typed}", flush=True)
            return False
        resumable = same and newest <= record.get("begun", -1)
        resume = self._resume_flags(partial, resumable) if partial is not None else []
        self.records.pop(name, None)  # it moves to the end
        self._update(name, command=typed, begun=time.time())
        print(f"[{name}] {typed} {shlex.join(resume)}".rstrip(), flush=True)
        begin = time.perf_counter()
        status = execute([*words, *resume], stdout)
        if status:
            raise UserError(f"step {name} failed with status {status}: fix the cause and run the same command again;"
                            " it resumes with this step")
        self._update(name, seconds=round(time.perf_counter() - begin, 1), ended=time.time())
        return True

    def _resume_flags(self, partial: Path, resumable: bool) -> list[str]:
        if not resumable:  # the checkpoint of another recipe, or of other data
            with user_errors(partial):
                partial.unlink(missing_ok=True)
        return ["--resume", str(partial)] if partial.exists() else []

    def _update(self, name: str, **values: Any) -> None:
        self.records[name] = {**self.records.get(name, {}), **values}
        self._write()

    def _write(self) -> None:
        with atomic_write(self.path) as f:
            json.dump(self.records, f, indent=1)


def execute(words: Sequence[str], stdout: Optional[Path]) -> int:
    """Run a program of this repository; returns its exit status.

    stdout: a file for its standard output, which appears once the program has succeeded.
    """
    command = [sys.executable, *words]
    if stdout is None:
        return subprocess.run(command).returncode
    with user_errors(stdout):
        check_writable(stdout)
    done = subprocess.run(command, stdout=subprocess.PIPE)
    if not done.returncode:
        with user_errors(stdout), atomic_write(stdout, "wb") as f:
            f.write(done.stdout)
    return done.returncode


@contextmanager
def user_errors(path: Path) -> Iterator[None]:
    """Inside, an OSError becomes a UserError about this path."""
    try:
        yield
    except OSError as error:
        raise UserError(f"{path}: cannot write there ({error.strerror or error}): choose another --out") from None
