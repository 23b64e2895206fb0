"""Command lines: checked values, one-line errors, exit statuses, and whole programs that fail, stop or are interrupted."""
import os
import signal
import subprocess
import sys
import time

import pytest

from ops.common import cli
from ops.common.cli import alternatives, number, one_of
from ops.common.errors import UserError
from tests.conftest import ROOT


def ending(main, capsys):
    """(status, standard error) of `run(main)`."""
    with pytest.raises(SystemExit) as end:
        cli.run(main)
    return end.value.code, capsys.readouterr().err


def raising(error):
    def main():
        raise error
    return main


# ---- values ---------------------------------------------------------------------------------------------------

def parsed(argument_type, text, *names):
    parser = cli.Parser(prog="tool.py")
    parser.add_argument(*(names or ("--size",)), type=argument_type)
    return vars(parser.parse_args([names[0] if names else "--size", text])).popitem()[1]


@pytest.mark.parametrize("argument_type, allowed, refused, words", [
    (number(int, 1), ["1", "99"], ["0", "-3"], "1 or more"),
    (number(int, 1, 100), ["1", "100"], ["0", "101"], "1 to 100"),
    (number(int, maximum=4), ["4", "-9"], ["5"], "4 or less"),
    (number(float), ["-1.5", "1e3"], ["nan", "inf"], "a finite number"),
    (number(float, 0), ["0.0", "2.5"], ["-0.1", "nan", "inf"], "0 or more"),
    (number(float, above=0), ["1e-9"], ["0.0", "nan", "inf"], "a number above 0"),
    (number(float, below=1), ["-2.0"], ["1.0"], "a number below 1"),
    (number(float, above=0, below=1), ["0.5"], ["0.0", "1.0"], "a number above 0 and below 1"),
    (number(float, above=0, maximum=1), ["1.0"], ["0.0", "1.5"], "a number above 0 and at most 1"),
    (number(float, 0, below=1), ["0.0"], ["1.0"], "0 to below 1"),
    (number(int, 1, words="1 or more classes"), ["1"], ["0"], "1 or more classes"),
])
def test_numbers_stay_within_their_limits(argument_type, allowed, refused, words):
    for text in allowed:
        assert parsed(argument_type, text) == float(text)
    for text in refused:
        with pytest.raises(UserError) as info:
            parsed(argument_type, text)
        assert str(info.value) == f"--size {text}: choose {words}"


@pytest.mark.parametrize("digits", [11, 20, 400])
def test_whole_numbers_end_somewhere(digits):
    with pytest.raises(UserError, match=f"^--size 9{{{digits}}}: choose 1 to 2147483647$"):
        parsed(number(int, 1), "9" * digits)
    assert parsed(number(int, 0, cli.LARGEST_SEED), str(2 ** 63 - 1)) == 2 ** 63 - 1


def test_choices_are_words():
    direction = one_of("left", "right", "up")
    assert parsed(direction, "up") == "up"
    with pytest.raises(UserError, match="^--size 'down': choose left, right or up$"):
        parsed(direction, "down")


def test_alternatives_in_words():
    assert [alternatives("abc"[:count]) for count in (1, 2, 3)] == ["a", "a or b", "a, b or c"]


def test_messages_name_the_long_flag_or_the_argument(capsys):
    for names in (("-b", "--batch-size"), ("--batch-size", "-b", "--bs")):
        with pytest.raises(UserError, match="^--batch-size 0: choose 1 or more"):
            parsed(number(int, 1), "0", *names)
    parser = cli.Parser(prog="tool.py")
    parser.add_argument("epochs", type=number(int, 1), nargs="+")
    with pytest.raises(UserError, match="^epochs 0: choose 1 or more"):
        parser.parse_args(["3", "0"])


def test_parser_errors_are_one_line(capsys):
    parser = cli.Parser(prog="tool.py")
    parser.add_argument("--size", type=int)
    parser.add_argument("--rate", type=number(float, 0))
    for argv, words in ((["--size", "x"], "argument --size: invalid int value: 'x'"),
                        (["--rate", "x"], "argument --rate: invalid float value: 'x'"),
                        (["--what"], "unrecognized arguments: --what")):
        with pytest.raises(SystemExit) as end:
            parser.parse_args(argv)
        assert end.value.code == 2
        assert capsys.readouterr().err == f"tool.py: error: {words} (see tool.py --help)\n"


def test_values_are_checked_in_subcommands_too():
    parser = cli.Parser(prog="tool.py")
    parser.add_subparsers().add_parser("make").add_argument("--size", type=number(int, 1))
    with pytest.raises(UserError, match="^--size 0: choose 1 or more"):
        parser.parse_args(["make", "--size", "0"])


# ---- flags ----------------------------------------------------------------------------------------------------

def test_shared_flags_and_their_defaults():
    parser = cli.Parser(prog="tool.py")
    cli.add_device_flag(parser)
    cli.add_gpus_flag(parser)
    cli.add_workers_flag(parser)
    cli.add_seed_flag(parser)
    cli.add_input_size_flag(parser.add_argument_group("frames"))
    cli.add_dataset_flags(parser, ("video", "auto"))
    assert vars(parser.parse_args([])) == {
        "device": "auto", "gpus": None, "workers": None, "seed": 0, "input_size": 224, "root_dataset": None,
        "dataset_file": None, "data_format": "auto"}
    args = parser.parse_args("-j 3 --gpus 1 0 --data_format video --seed 7".split())
    assert (args.workers, args.gpus, args.data_format, args.seed) == (3, [1, 0], "video", 7)
    for flag, value in (("--workers", "0"), ("--seed", "-1"), ("--input_size", "31"), ("--data_format", "'film'")):
        with pytest.raises(UserError, match=f"^{flag} {value}: choose "):
            parser.parse_args([flag, value.strip("'")])
    assert "one per core" in parser.format_help()


def test_warn_unused(caplog):
    parser = cli.Parser()
    parser.add_argument("--stride", default=1)
    parser.add_argument("--window")
    cli.warn_unused(parser, parser.parse_args(["--stride", "2"]), "the video has one frame", "stride", "window")
    assert caplog.messages == ["warning: --stride has no effect: the video has one frame"]


# ---- running --------------------------------------------------------------------------------------------------

def test_statuses(capsys, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["/some/where/tool.py"])
    assert ending(lambda: None, capsys) == (0, "")
    assert ending(lambda: 3, capsys) == (3, "")
    assert ending(raising(UserError("choose a or b")), capsys) == (2, "tool.py: error: choose a or b\n")
    assert ending(raising(KeyboardInterrupt()), capsys) == (130, "tool.py: interrupted\n")


def test_a_loaders_process_that_dies_at_any_moment_is_one_line(monkeypatch, capsys):
    """PyTorch's signal handler raises wherever the program is, which need not be in the loader."""
    def main():
        raise RuntimeError("DataLoader worker (pid 17569) is killed by signal: Killed. ")

    monkeypatch.setattr(sys, "argv", ["main.py"])
    with pytest.raises(SystemExit) as end:
        cli.run(main)
    errors = capsys.readouterr().err
    assert end.value.code == 2 and errors.startswith("main.py: error: a worker process") and errors.count("\n") == 1


def test_defects_keep_their_traceback():
    for error in (KeyError("x"), ValueError("y"), RuntimeError("z")):
        with pytest.raises(type(error)):
            cli.run(raising(error))


# ---- whole programs -------------------------------------------------------------------------------------------

PROGRAM = """
import sys
sys.path.insert(0, {root!r})
from ops.common.cli import run
{body}
if __name__ == "__main__":
    run(main)
"""

LOADING = """
import torch
from ops.common.errors import UserError

class Data(torch.utils.data.Dataset):
    def __len__(self):
        return 8
    def __getitem__(self, index):
        if index == 5:
            raise UserError("missing frame: my video/00005.jpg: extract it again")
        return index

def main():
    for batch in torch.utils.data.DataLoader(Data(), batch_size=2, num_workers=2):
        print(batch.tolist())
"""

WAITING = """
import time

def main():
    print("ready", flush=True)
    time.sleep(60)
"""

COUNTING = """
def main():
    for i in range(300_000):
        print(i)
"""


@pytest.fixture
def program(tmp_path):
    """program(body): the command that runs it."""
    def write(body):
        path = tmp_path / "program.py"
        path.write_text(PROGRAM.format(root=str(ROOT), body=body))
        return [sys.executable, str(path)]
    return write


def test_an_error_in_a_worker_is_one_line_and_status_2(program):
    done = subprocess.run(program(LOADING), capture_output=True, text=True, timeout=120)
    assert done.returncode == 2
    assert done.stdout == "[0, 1]\n[2, 3]\n"
    last = done.stderr.strip().splitlines()[-1]
    assert last == "program.py: error: missing frame: my video/00005.jpg: extract it again"
    assert "Traceback" not in done.stderr and "UserError" not in done.stderr


def test_interrupted_is_status_130(program):
    process = subprocess.Popen(program(WAITING), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "ready\n"
    start = time.monotonic()
    os.kill(process.pid, signal.SIGINT)
    _, errors = process.communicate(timeout=30)
    assert (process.returncode, errors) == (130, "program.py: interrupted\n")
    assert time.monotonic() - start < 20


def test_a_closed_pipe_is_not_an_error(program):
    process = subprocess.Popen(program(COUNTING), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "0\n"
    process.stdout.close()
    assert process.stderr.read() == "" and process.wait(timeout=60) == 0


@pytest.mark.parametrize("encoding", ["utf-8", "ascii"])
def test_names_that_standard_output_cannot_encode_are_escaped(program, encoding):
    printing = """
def main():
    print("caf\\udce9 手")
    return 5
"""
    environment = {**os.environ, "PYTHONIOENCODING": encoding}
    done = subprocess.run(program(printing), capture_output=True, timeout=60, env=environment)
    hand = "手".encode() if encoding == "utf-8" else rb"\u624b"
    assert (done.returncode, done.stdout, done.stderr) == (5, rb"caf\udce9 " + hand + b"\n", b"")
