"""Commands that are done once: what was typed, when it began and ended; an interrupted one is known as such."""
import json
import shlex
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Iterator, Optional, Sequence

from ops.common.errors import UserError
from ops.common.files import atomic_write


class Steps:
    """Commands by name, kept in a file: the `command` typed, when it `begun`; once it is done also when it `ended`
    (seconds since 1970) and the `seconds` it took.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.done: dict[str, dict[str, Any]] = json.loads(path.read_text()) if path.exists() else {}

    @property
    def seconds(self) -> float:
        return sum(step.get("seconds", 0.0) for step in self.done.values())

    def forget(self, *names: str) -> None:
        for name in names:
            self.done.pop(name, None)
        self._write()

    def run(self, name: str, command: Sequence[Any], makes: Path, after: Sequence[str] = (),
            to: Optional[Path] = None, partial: Optional[Path] = None) -> bool:
        """Run a program of this repository, unless it was done: the same command, after all the steps that it builds
        on (`after`), and the file that it `makes` is still there. Whether it ran; UserError if it failed.

        to: the file that gets its standard output. partial: the checkpoint that the program leaves when interrupted,
        resumed if the same command left it, begun after the same steps; any other at that place is removed.
        """
        words = [str(word) for word in command]
        shown = shlex.join(["python", *words]) + (f" > {shlex.quote(str(to))}" if to else "")
        before = self.done.get(name, {})
        same, newest = before.get("command") == shown, max((self.done[step]["ended"] for step in after), default=0.0)
        if same and makes.exists() and newest <= before.get("ended", -1):
            print(f"[{name}] done before: {shown}", flush=True)
            return False
        goes_on = same and newest <= before.get("begun", -1)
        resume = self._resume(partial, goes_on) if partial is not None else []
        self.done.pop(name, None)  # to stand last
        self._note(name, command=shown, begun=time.time())
        print(f"[{name}] {shown} {shlex.join(resume)}".rstrip(), flush=True)
        begin = time.perf_counter()
        status = execute([*words, *resume], to)
        if status:
            raise UserError(f"step {name} ended with status {status}: mend that and start again; it goes on from there")
        self._note(name, seconds=round(time.perf_counter() - begin, 1), ended=time.time())
        return True

    def _resume(self, partial: Path, goes_on: bool) -> list[str]:
        if not goes_on:  # another recipe's, or other data's
            with writing(partial):
                partial.unlink(missing_ok=True)
        return ["--resume", str(partial)] if partial.exists() else []

    def _note(self, name: str, **facts: Any) -> None:
        self.done[name] = {**self.done.get(name, {}), **facts}
        self._write()

    def _write(self) -> None:
        with atomic_write(self.path) as f:
            json.dump(self.done, f, indent=1)


def execute(words: Sequence[str], to: Optional[Path]) -> int:
    """The exit status of a program of this repository. to: gets its standard output, once it has ended well."""
    command = [sys.executable, *words]
    if to is None:
        return subprocess.run(command).returncode
    unfinished = to.with_name(f".{to.name}.part")
    with writing(to):
        with open(unfinished, "w") as f:
            status = subprocess.run(command, stdout=f).returncode
        if not status:
            unfinished.replace(to)
    return status


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Makes an unwritable place a UserError."""
    try:
        yield
    except OSError as error:
        raise UserError(f"{path}: cannot write there ({error.strerror or error}): choose another --out") from None
