"""Settings files: each option by its name, checked like a flag, written so that reading gives the same values."""
import argparse

import pytest

from ops.common import cli
from ops.common.config_file import read_config, write_config
from ops.common.errors import UserError


def small_parser():
    parser = cli.Parser(prog="program.py")
    parser.add_argument("dataset")
    parser.add_argument("-b", "--batch-size", type=cli.number(int, 1), default=8)
    parser.add_argument("--lr", "--learning-rate", type=cli.number(float, above=0), default=0.5)
    parser.add_argument("--lr_steps", type=cli.number(float, 0), nargs="+", default=[1])
    parser.add_argument("--amp", type=cli.one_of("off", "bf16"), default="bf16")
    parser.add_argument("--suffix", default=None)
    parser.add_argument("--shift", action="store_true")
    parser.add_argument("--channels_last", action=argparse.BooleanOptionalAction)
    cli.add_negations(parser)
    return parser


def parse(tmp_path, text, *argv):
    file = tmp_path / "settings.yaml"
    file.write_text(text)
    return vars(cli.parse_with(small_parser(), argv, read_config(file, small_parser())))


def test_each_option_by_its_name_in_any_spelling(tmp_path):
    text = "dataset: ucf101\nbatch_size: 4\nlearning-rate: 1e-3\nlr_steps: [2, 5]\namp: off\nsuffix: 007\n--shift: yes\n"
    assert parse(tmp_path, text) == {"dataset": "ucf101", "batch_size": 4, "lr": 0.001, "lr_steps": [2, 5], "amp": "off",
                                     "suffix": "007", "shift": True, "channels_last": None}


def test_the_command_line_wins(tmp_path):
    text = "dataset: ucf101\nlr: 0.1\nlr_steps: 3\nshift: true\namp: null\nsuffix:\n"
    found = parse(tmp_path, text, "hmdb51", "--lr", "0.5", "--no-shift")
    assert found == {"dataset": "hmdb51", "batch_size": 8, "lr": 0.5, "lr_steps": [3], "amp": "bf16", "suffix": None,
                     "shift": False, "channels_last": None}, "also a value that is the default"
    assert parse(tmp_path, "", "hmdb51", "--shift")["shift"]


@pytest.mark.parametrize("text, message", [
    ("lr: 0.1\nlearning_rat: 1\n", "2: there is no option 'learning_rat'; did you mean learning_rate?"),
    ("xyz: 1\n", "1: there is no option 'xyz'"), ("no-shift: 1\n", "1: there is no option 'no-shift'"),
    ("no_channels_last: true\n", "1: there is no option 'no_channels_last'"),
    ("help: true\n", "1: there is no option 'help'"),
    ("lr: 0\n", "1: lr 0.0: choose a number above 0"), ("lr: fast\n", "1: lr invalid float value: 'fast'"),
    ("\namp: fp8\n", "2: amp 'fp8': choose off or bf16"), ("shift: 2\n", "1: shift '2': choose true or false"),
    ("shift: [true]\n", "1: shift: choose a single value"), ("lr: {a: 1}\n", "1: lr: choose a single value"),
    ("lr_steps: []\n", "1: lr_steps: choose one or more values: [1, 2]"),
    ("lr: 1\nlearning_rate: 2\n", "2: 'learning_rate' is set twice: remove one"),
    ("lr: 1\nlr: 2\n", "2: 'lr' appears twice: remove one"), ("- lr\n", "1: the file must hold `name: value` lines"),
    ("lr: [1\n", "not yaml"), ("just text", "1: the file must hold `name: value` lines"),
])
def test_what_is_wrong_is_named_with_file_and_line(text, message, tmp_path):
    with pytest.raises(UserError) as info:
        parse(tmp_path, text)
    assert str(info.value).startswith(f"{tmp_path}/settings.yaml:") and message in str(info.value)
    assert "\n" not in str(info.value)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(UserError, match="cannot read the settings file .*gone.yaml: No such file or directory"):
        read_config(tmp_path / "gone.yaml", small_parser())


def test_what_is_written_is_read_back(tmp_path):
    values = {"dataset": "übung: # \udcff 'x'\n", "batch_size": 4, "lr": 1 / 3, "lr_steps": [1e-5, 7.0], "amp": "off",
              "suffix": "null", "shift": False, "channels_last": False}
    write_config(tmp_path / "settings.yaml", values)
    assert read_config(tmp_path / "settings.yaml", small_parser()) == values
