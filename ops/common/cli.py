"""What every command line here shares: one-line errors with status 2, and progress bars."""
import argparse
import importlib
import logging
import sys
from typing import Any, Callable, Iterable, NoReturn, Optional

from tqdm import tqdm

from ops.common.errors import UserError, worker_died

log = logging.getLogger(__name__)


class Parser(argparse.ArgumentParser):
    """An ArgumentParser whose errors are one line instead of the whole usage text."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: error: {message} (see {self.prog} --help)\n")


def warn_unused(parser: argparse.ArgumentParser, args: argparse.Namespace, why: str, *names: str) -> None:
    """A warning for each of these options that is not at its default: it changes nothing, and why."""
    for name in names:
        if getattr(args, name) != parser.get_default(name):
            log.warning("warning: --%s has no effect: %s", name, why)


def run(main: Callable[[], Optional[int]]) -> NoReturn:
    """Run a program's `main()` and exit: 0 or what it returns, 2 for a user's error, 130 when interrupted."""
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    try:
        sys.exit(main() or 0)
    except UserError as error:
        print(f"{_program()}: error: {error.for_command_line()}", file=sys.stderr)
        sys.exit(2)
    except RuntimeError as error:  # PyTorch raises it wherever the main program is when a loader's process dies
        if not (death := worker_died(error)):
            raise
        print(f"{_program()}: error: {death}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print(f"{_program()}: interrupted", file=sys.stderr)
        sys.exit(130)
    except BrokenPipeError:  # the reader of our output (`| head`) has gone: nothing is wrong
        sys.stderr.close()
        sys.exit(0)


def _program() -> str:
    return sys.argv[0].rsplit("/", 1)[-1]


def progress(items: Optional[Iterable] = None, **options: Any) -> tqdm:
    """A tqdm bar over `items`, off when standard error is not a terminal; `options` go to tqdm."""
    return tqdm(items, disable=not sys.stderr.isatty(), dynamic_ncols=True, **options)


def import_extra(name: str) -> Any:
    """A package that only some programs need. UserError with the way to get it when it is missing."""
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise UserError(f"this needs the package {name}, which cannot be imported ({error}):"
                        " pip install -r requirements-runtimes.txt") from None
