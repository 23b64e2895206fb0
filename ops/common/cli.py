"""What the command lines share: one-line errors with status 2, checked numbers and choices, common flags.

Numbers and choices are checked by the parser, through `type=`:

    add("--num_segments", type=number(int, minimum=1), default=8)   # --num_segments 0: choose 1 or more
    add("--lr", type=number(float, above=0), default=0.001)         # --lr 0.0: choose a number above 0
    add("--lr_type", type=one_of("step", "cos"), default="step")    # --lr_type 'fast': choose step or cos

`add_*_flags` define flags that several programs share; each takes a parser or one of its groups.
"""
import argparse
import io
import logging
import math
import os
import re
import signal
import sys
import time
from contextlib import nullcontext
from pathlib import Path
from typing import Any, Callable, Mapping, NoReturn, Optional, Sequence, TypeVar, Union

from ops.common.addresses import without_secret
from ops.common.choices import MOST, find_choice, suggestion
from ops.common.errors import Interrupted, UserError, worker_died
from ops.common.part import WHOLE, Part

log = logging.getLogger(__name__)
Result = TypeVar("Result")

Flags = Union[argparse.ArgumentParser, argparse._ArgumentGroup]


class Parser(argparse.ArgumentParser):
    """An ArgumentParser whose errors are one line instead of the whole usage text.

    Raises UserError for a value that `number` or `one_of` does not allow; exits with status 2 for other errors.
    """

    def error(self, message: str) -> NoReturn:
        problem = sys.exc_info()[1]  # argparse calls this method while it handles an ArgumentError
        if isinstance(problem, argparse.ArgumentError) and isinstance(problem.__context__, NotAllowed):
            raise UserError(f"{_flag(problem.argument_name or '')} {problem.__context__}") from None
        self.exit(2, f"{self.prog}: error: {message}{self._suggest_flag(message)} (see {self.prog} --help)\n")

    def _suggest_flag(self, message: str) -> str:
        """`; did you mean --flag?` after a complaint about an unknown flag."""
        unknown = re.search(r"unrecognized arguments:.*?(--[\w-]+)", message)
        parsers = [self, *(parser for action in self._actions if isinstance(action, argparse._SubParsersAction)
                           for parser in action.choices.values())]
        flags = [flag for parser in parsers for flag in parser._option_string_actions]
        return suggestion(unknown[1], flags, prefix="--") if unknown else ""

    def print_help(self, file: Any = None) -> None:
        """argparse's own hides that standard output cannot be written."""
        print(self.format_help(), end="", file=file)


def _flag(names: str) -> str:
    """`--batch-size`, from argparse's name `-b/--batch-size`: the first long spelling."""
    return next((name for name in names.split("/") if name.startswith("--")), names)


# ---- values ---------------------------------------------------------------------------------------------------

LARGEST = 2 ** 31 - 1  # of any count, size or time; larger numbers overflow in the libraries below
LARGEST_SEED = 2 ** 63 - 1
OTHERS_WAIT = 1.0  # seconds in which other processes of a run let the one with the reason speak first


class NotAllowed(argparse.ArgumentTypeError):
    """A well-formed value that an option does not allow. The text is `<value>: choose <what is allowed>`."""


def number(kind: type, minimum: Optional[float] = None, maximum: Optional[float] = None, *,
           above: Optional[float] = None, below: Optional[float] = None, words: str = "") -> Callable[[str], Any]:
    """An argparse type: a finite int or float (`kind`) within limits.

    minimum, maximum: inclusive limits. above, below: exclusive ones. words: what to choose, for the message, in place
    of a description of the limits ("1 or more classes"). Numbers without an upper limit end at LARGEST.
    """
    lowest = f"{minimum}" if minimum is not None else f"above {above}" if above is not None else ""
    highest = f"{maximum}" if maximum is not None else f"below {below}" if below is not None else ""
    limits = (f"{lowest} to {highest}" if minimum is not None and highest else f"{lowest} or more" if minimum is not None
              else f"a number {lowest} and {'at most ' * (maximum is not None)}{highest}" if lowest and highest
              else f"a number {lowest or highest}" if above is not None or below is not None
              else f"{highest} or less" if highest else "a finite number")

    def parse(text: str) -> Any:
        try:
            value = kind(text)
        except ValueError:
            raise argparse.ArgumentTypeError(f"invalid {kind.__name__} value: {text!r}") from None
        if maximum is None and below is None and (kind is int or math.isfinite(value)) and abs(value) > LARGEST:
            least = f"a number {lowest} and at most" if above is not None else f"{lowest or -LARGEST} to"
            raise NotAllowed(f"{value}: choose {least} {LARGEST}")
        allowed = ((kind is int or math.isfinite(value)) and (minimum is None or value >= minimum)
                   and (maximum is None or value <= maximum) and (above is None or value > above)
                   and (below is None or value < below))
        if not allowed:
            raise NotAllowed(f"{value}: choose {words or limits}")
        return value

    return parse


def one_of(*names: str, hidden: Sequence[str] = ()) -> Callable[[str], str]:
    """An argparse type: one of these words, in upper or lower case. hidden: words that are taken but not offered."""
    def parse(text: str) -> str:
        found = find_choice(text, (*names, *hidden))
        if found is None:
            raise NotAllowed(f"{text!r}: choose {alternatives(names)}{suggestion(text, names)}")
        return found

    return parse


def stage_numbers(text: str) -> str:
    """An argparse type: numbers of a network's stages with commas between them, which it puts in order; "" for all."""
    numbers = text.split(",") if text else []
    if not all(re.fullmatch("[1-9]", number) for number in numbers):
        raise NotAllowed(f"{text!r}: choose numbers of stages with commas between them, such as 3,4")
    return ",".join(sorted(set(numbers)))


def address(text: str) -> str:
    """An argparse type: an address such as s3://bucket/name, or a path. Passwords and signatures in it are refused."""
    hidden = without_secret(text)
    if hidden:
        raise NotAllowed(f"{hidden}: choose an address without a password or signature: the log would keep it; the libraries"
                         " find credentials in their own usual places")
    return text


def address_list(text: str) -> list[str]:
    """An argparse type: one or more addresses or paths with commas between them, each as `address` allows."""
    parts = [address(part) for part in text.split(",")]
    if not all(part.strip() for part in parts):
        raise NotAllowed(f"{text!r}: one of its names is empty: write them with single commas between them, A.pth,B.pth")
    return parts


def addresses(text: str) -> str:
    """An argparse type: the text of an `address_list`, or "" for none."""
    return ",".join(address_list(text)) if text else ""


def part(text: str) -> Part:
    """An argparse type: `2/8`, the second of 8 parts."""
    match = re.fullmatch(r"([0-9]{1,6})/([0-9]{1,6})", text)
    if match is None or not 1 <= int(match[1]) <= int(match[2]):
        raise NotAllowed(f"{text!r}: choose I/N with I from 1 to N, as in 2/8")
    return Part(int(match[1]), int(match[2]))


def image_file(*suffixes: str) -> Callable[[str], Path]:
    """An argparse type: the name of an image to write, which ends in one of these, such as ".png"."""
    def parse(text: str) -> Path:
        if Path(text).suffix.lower() not in suffixes:
            raise NotAllowed(f"{text}: choose a name that ends in {alternatives(suffixes)}")
        return Path(text)

    return parse


def alternatives(names: Sequence[str]) -> str:
    """`a`, `a or b`, or `a, b or c`."""
    return " or ".join(filter(None, (", ".join(names[:-1]), names[-1])))


# ---- flags ----------------------------------------------------------------------------------------------------

def add_device_flag(parser: Flags, note: str = "") -> None:
    """--device, for `ops.common.device.pick_device`. note: comes first in the help."""
    parser.add_argument("--device", default="auto", help=f"{note}auto, cpu, cuda, cuda:N or mps (default: %(default)s)")


def add_gpus_flag(parser: Flags) -> None:
    """--gpus, for `ops.common.device.pick_gpus`."""
    parser.add_argument("--gpus", type=number(int, 0, 1023), nargs="+", default=None, metavar="N",
                        help="numbers of the GPUs to use, one process for each (default: one GPU, if the device is one)")


def add_dist_timeout_flag(parser: Flags) -> None:
    """--dist_timeout, for `ops.common.distributed.joined`."""
    parser.add_argument("--dist_timeout", type=number(float, 1, 1e6), default=600.0, metavar="SECONDS",
                        help="time after which a run of several processes ends if one does not answer"
                        " (default: %(default)g)")


def add_workers_flag(parser: Flags, default: Optional[int] = None, *, what: str = "processes", minimum: int = 1,
                     without: str = "one per core") -> None:
    """-j/--workers. minimum: 0 where 0 means the main process. without: what a default of None means, for the help."""
    parser.add_argument("-j", "--workers", type=number(int, minimum, 1024), default=default, metavar="N",
                        help=f"{what} (default: {without if default is None else '%(default)s'})")


def add_part_flag(parser: Flags, note: str = "") -> None:
    """--part, for the jobs of a scheduler. note: what else to know, for the help."""
    parser.add_argument("--part", type=part, default=WHOLE, metavar="I/N", help="do only the I-th of N parts of the work, as"
                        f" one job of an array{note} (default: %(default)s, everything)")


def add_seed_flag(parser: Flags, default: Optional[int] = 0, help: str = "random seed (default: %(default)s)") -> None:
    """--seed, 0 or more."""
    parser.add_argument("--seed", type=number(int, 0, LARGEST_SEED), default=default, metavar="N", help=help)


def add_input_size_flag(parser: Flags, default: Optional[int] = 224, help: str = "height and width of the network's input,"
                        " pixels (default: %(default)s)") -> None:
    """--input_size, pixels."""
    pixels = number(int, 32, MOST, words=f"32 to {MOST} pixels (published: 224)")
    parser.add_argument("--input_size", type=pixels, default=default, metavar="PIXELS", help=help)


def add_root_dataset_flag(parser: Flags) -> None:
    """--root_dataset, for `ops.dataset_config`."""
    parser.add_argument("--root_dataset", default=None, metavar="DIR",
                        help="directory of the data sets (default: $TSM_ROOT, else data)")


def add_data_url_flag(parser: Flags) -> None:
    """--data_url, for `ops.remote.data.fetch_data`."""
    parser.add_argument("--data_url", type=address, default="", metavar="ADDRESS", help="archive (tar, zip) or directory to"
                        " fetch and unpack into --root_dataset first: s3://bucket/name.tar, gs://..., or a path")


def add_train_url_flag(parser: Flags, what: str) -> None:
    """--train_url. what: what is copied there."""
    parser.add_argument("--train_url", type=address, default="", metavar="ADDRESS", help=f"copy {what} there:"
                        " s3://bucket/directory, gs://..., or a path")


def add_dataset_flags(parser: Flags, formats: Sequence[str]) -> None:
    """--root_dataset, --dataset_file and --data_format. formats: the allowed data formats, `auto` among them."""
    add_root_dataset_flag(parser)
    parser.add_argument("--dataset_file", default=None, metavar="YAML",
                        help="your own data sets (default: datasets.yaml beside main.py)")
    parser.add_argument("--data_format", type=one_of(*formats), default="auto",
                        help="frames (directories of images), shards (made by tools/make_shards.py), video (files; only the"
                        " needed frames are decoded), or auto: the format that is found (default: %(default)s)")


# ---- running --------------------------------------------------------------------------------------------------

def warn_unused(parser: argparse.ArgumentParser, args: argparse.Namespace, why: str, *names: str) -> None:
    """Log a warning for each of these options that differs from its default: it has no effect, and why."""
    for name in names:
        if getattr(args, name) != parser.get_default(name):
            log.warning("warning: --%s has no effect: %s", name, why)


def parse_with(parser: argparse.ArgumentParser, argv: Sequence[str], settings: Mapping[str, Any]) -> argparse.Namespace:
    """What `argv` says, and where it says nothing, `settings` (destination -> value), for positional arguments too."""
    for action in parser._actions:
        if not action.option_strings and action.dest in settings:
            action.nargs, action.required, action.default = "?", False, settings[action.dest]
    return parser.parse_args(argv, argparse.Namespace(**settings))


def add_negations(parser: argparse.ArgumentParser) -> None:
    """A hidden `--no-NAME` for each flag without a value, to switch off on a command line what `settings` switch on."""
    for action in [*parser._actions]:
        if isinstance(action, argparse._StoreTrueAction):
            parser.add_argument(f"--no-{_flag('/'.join(action.option_strings))[2:]}", dest=action.dest, action="store_false",
                                default=argparse.SUPPRESS, help=argparse.SUPPRESS)


def given(argv: Sequence[str], flag: str) -> Optional[str]:
    """The last value of `--flag VALUE` or `--flag=VALUE` in a command line that is not parsed yet; None without one."""
    found = None
    for word, following in zip(argv, [*argv[1:], ""]):
        name, equals, value = word.partition("=")
        if name == flag:
            found = value if equals else following
    return found


def check_usage(parse: Callable[[], object]) -> None:
    """Read the command line before the slow imports, so that --help and mistakes end the program at once.

    Programs call it under `if __name__ == "__main__":`, after the imports that their flags need and before torch and
    other slow ones. parse: what `main` calls to parse sys.argv; here its result is dropped and its warnings are not logged.
    From here on, Ctrl-C during an import ends the program in one line too.
    """
    global _is_program
    _is_program = True
    _end_at_ctrl_c()
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        _call(parse)
    finally:
        logging.disable(before)


def run(main: Callable[[], Optional[int]]) -> NoReturn:
    """Run a program's `main()` and exit: 0 or what it returns, 2 for a user's error, 130 when interrupted."""
    logging.basicConfig(level=logging.INFO, format="%(message)s", handlers=[_AboveBars(sys.stderr)])
    if signal.getsignal(signal.SIGINT) is _interrupted:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    sys.exit(_call(main) or 0)


_is_program = False  # whether this process is a program of ours, and not a test or a notebook that calls `run`


def _call(function: Callable[[], Result]) -> Result:
    """function(), whose result is returned; a user's errors, Ctrl-C and a broken standard output end the program."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # names of files may hold bytes that are no text in its encoding
            stream.reconfigure(errors="backslashreplace")
    try:
        try:
            return function()
        finally:
            if sys.stdout is not None:  # None: the program was started with standard output closed
                sys.stdout.flush()
    except Interrupted as stop:
        _exit(stop.for_command_line(), stop.status)
    except UserError as error:
        if error.elsewhere:
            time.sleep(2 * OTHERS_WAIT)
        _exit(f"error: {error.for_command_line()}")
    except KeyboardInterrupt:
        _exit("interrupted", 130)
    except BrokenPipeError:  # the reader of our output (`| head`) has gone: nothing is wrong
        _drop_output()
        sys.exit(0)
    except OSError as error:
        if not _output_fails():
            raise
        _drop_output()
        _exit(f"error: cannot write standard output: {error.strerror or error}")
    except RuntimeError as error:  # when a loader's process dies, PyTorch raises this wherever the main program is
        if not (death := worker_died(error)):
            raise
        _exit(f"error: {death.for_command_line()}")


def _exit(line: str, status: int = 2) -> NoReturn:
    rank = os.environ.get("RANK", "0")
    if rank != "0":  # torchrun ends this process meanwhile if rank 0 has failed too, most likely by the same mistake
        time.sleep(OTHERS_WAIT)
        line = f"rank {rank}: {line}"
    print(f"{_program()}: {line}", file=sys.stderr)
    if _is_program:
        _end_at_ctrl_c()  # while Python shuts down
    sys.exit(status)


def _output_fails() -> bool:
    """Whether standard output cannot be written, as on a full disk. If it can, this writes a line break."""
    try:
        print(flush=True)
    except OSError:
        return True
    return False


def _drop_output() -> None:
    """Discard what standard output still holds; Python would try to write it at the end, and report an error of its own."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _end_at_ctrl_c() -> None:
    """Ctrl-C ends the process in one line, wherever it is: an import turns exceptions into other ones, or hides them."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # else the parent process had it ignored
        signal.signal(signal.SIGINT, _interrupted)


def _interrupted(number: int, frame: object) -> NoReturn:
    os.write(2, f"{_program()}: interrupted\n".encode())
    os._exit(130)


class _AboveBars(logging.StreamHandler):
    """Writes above the progress bar of a terminal, not into it."""

    def emit(self, record: logging.LogRecord) -> None:
        tqdm = sys.modules.get("tqdm")  # no bar, no import
        with tqdm.tqdm.external_write_mode(file=self.stream) if tqdm else nullcontext():
            super().emit(record)


def _program() -> str:
    return sys.argv[0].rsplit("/", 1)[-1]
