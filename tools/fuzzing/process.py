"""Trying inputs in a process of their own, so that one that kills or stops it is an outcome like others."""
import importlib
import multiprocessing
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Callable, Iterator, NamedTuple

from ops.common.errors import UserError

LIMIT = 60  # seconds that an input may take


class Outcome(NamedTuple):
    """What became of input `number`. kind: loaded, refused or fault; words: the message."""
    number: int
    kind: str
    words: str


class Fault(Exception):
    """Neither a loaded clip nor an honest refusal; the text says what."""


def attempt(number: int, work: Callable[[int], list[str]]) -> Outcome:
    """Outcome of `work(number)`, which loads an input or raises UserError, having told what its message may name.

    work: has an attribute `names`, of which one must stand in the message.
    """
    try:
        return Outcome(number, "loaded", ", ".join(work(number)))
    except UserError as error:
        words = str(error)
        names = work.names  # type: ignore[attr-defined]
        if len(words.splitlines()) != 1 or not words.isprintable():
            return Outcome(number, "fault", f"a message that is not one line: {words!r}")
        if not any(name in words for name in names):
            return Outcome(number, "fault", f"the message does not name the file: {words!r}")
        return Outcome(number, "refused", words)
    except Fault as error:
        return Outcome(number, "fault", str(error))
    except Exception as error:  # the very thing that is looked for
        return Outcome(number, "fault", f"{type(error).__name__}: {error}")


def attempts(kind: str, numbers: range, seed: int, directory: Path) -> Iterator[Outcome]:
    """The outcomes of the inputs `numbers` of a kind, in order."""
    context = multiprocessing.get_context("spawn")
    number = numbers.start
    while number < numbers.stop:
        ours, theirs = context.Pipe()
        process = context.Process(target=_serve, args=(kind, range(number, numbers.stop), seed, directory, theirs))
        process.start()
        theirs.close()
        try:
            ours.recv()  # it has made its real files
            while number < numbers.stop:
                outcome = _receive(ours, process, number)
                yield outcome
                number += 1
                if outcome.words.startswith("the process"):
                    break
        finally:
            ours.close()
            process.join(1)  # it ends by itself, unless it hangs
            process.kill()
            process.join()


def _receive(ours: Connection, process: Any, number: int) -> Outcome:
    if not ours.poll(LIMIT):
        return Outcome(number, "fault", f"the process takes over {LIMIT} seconds")
    try:
        return Outcome(*ours.recv())
    except EOFError:
        process.join()
        return Outcome(number, "fault", f"the process died with exit code {process.exitcode}")


def _serve(kind: str, numbers: range, seed: int, directory: Path, answers: Connection) -> None:
    work = importlib.import_module(f"tools.fuzzing.{kind}").make(directory / kind, seed)
    answers.send("ready")
    for number in numbers:
        answers.send(tuple(attempt(number, work)))
