"""Inputs are tried in another process, so that an input that kills or stops the process is an outcome like any other."""
import importlib
import multiprocessing
import signal
import sys
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Generator, NamedTuple, Protocol

from ops.common.errors import UserError
from ops.common.pool import without_interrupts

LIMIT = 60  # seconds that an input may take


class Inputs(Protocol):
    """The inputs of one kind. A module of a kind has a function `make(directory, seed)` that returns them."""
    names: list[str]  # a refusal's message must contain one of them

    def __call__(self, number: int) -> list[str]:
        """Make and load input `number`. Returns what was loaded; UserError for a refusal, `Fault` for a wrong result."""


class Outcome(NamedTuple):
    """The outcome of input `number`. kind: loaded, refused or fault."""
    number: int
    kind: str
    message: str


class Fault(Exception):
    """The loader returned something wrong; the text says what."""


def try_input(inputs: Inputs, number: int) -> Outcome:
    try:
        return Outcome(number, "loaded", ", ".join(inputs(number)))
    except UserError as error:
        message = str(error)
        if len(message.splitlines()) != 1 or not message.isprintable():
            return Outcome(number, "fault", f"a message that is not one line: {message!r}")
        if not any(name in message for name in inputs.names):
            return Outcome(number, "fault", f"the message does not name the file: {message!r}")
        return Outcome(number, "refused", message)
    except Fault as error:
        return Outcome(number, "fault", str(error))
    except Exception as error:  # the very thing that fuzzing looks for
        return Outcome(number, "fault", f"{type(error).__name__}: {error}")


def run_inputs(kind: str, numbers: range, seed: int, *, directory: Path) -> Generator[Outcome, None, None]:
    """The outcomes of these inputs of a kind, in order. After a dead process, a new one continues with the next input.

    Close the generator (`contextlib.closing`) to stop early: it then ends its process.
    """
    context = multiprocessing.get_context("spawn")
    number = numbers.start
    while number < numbers.stop:
        ours, theirs = context.Pipe()
        process = context.Process(target=_serve, args=(kind, range(number, numbers.stop), seed, directory, theirs))
        with without_interrupts():
            process.start()
        theirs.close()
        try:
            ours.recv()  # the process has made its undamaged files
            while number < numbers.stop:
                outcome = _receive(ours, process, number)
                yield outcome
                number += 1
                if outcome.message.startswith("the process"):
                    break
        finally:
            if number < numbers.stop:  # else it ends by itself
                process.terminate()
            process.join(1)
            process.kill()
            ours.close()
            process.join()


def _receive(ours: Connection, process: Any, number: int) -> Outcome:
    if not ours.poll(LIMIT):
        return Outcome(number, "fault", f"the process takes over {LIMIT} seconds")
    try:
        return Outcome(*ours.recv())
    except EOFError:
        process.join()
        return Outcome(number, "fault", f"the process died with exit code {process.exitcode}")


def _serve(kind: str, numbers: range, seed: int, directory: Path, outcomes: Connection) -> None:
    signal.signal(signal.SIGTERM, lambda *_: sys.exit())  # ended early, it still frees what it holds
    inputs = importlib.import_module(f"tools.fuzzing.{kind}").make(directory / kind, seed)
    outcomes.send("ready")
    for number in numbers:
        outcomes.send(tuple(try_input(inputs, number)))
