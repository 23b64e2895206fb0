"""Every number that a program takes has a range: a walk over all numeric flags of all programs."""
import argparse
import math

import pytest

from ops.common import cli
from ops.common.errors import UserError
from tests.helpers.commands import PROGRAMS, parsers_of

NO_NUMBERS = ["nan", "inf", "-inf", "1e999", "", "0x10", "1,nan"]
TOO_LARGE = ["9" * 23, "1" + "0" * 400, "1e23", "1e300", "-1e23"]
# What 0 means where it is taken; -1 means "all" for one flag, and is a weight like any other for another.
ZERO = {
    "workers": "the main process", "seed": "a seed", "epoch": "the first", "start_epoch": "the first",
    "lr_steps": "the first", "only": "the first", "gpus": "the first GPU", "momentum": "none", "weight_decay": "none",
    "dropout": "none", "mixup": "off", "label_smoothing": "off", "patience": "no limit", "precise_bn": "off",
    "warmup_epochs": "none", "max_drop": "int8 may cost nothing",
    "ema": "none", "cutmix": "off", "random_erasing": "never", "threshold": "show all",
    "min_frames": "no video is too short", "height": "the video's own", "coeff": "left out of the mean"}
MINUS_ONE = ("max_num", "coeff")


def numbers(value):
    return value if isinstance(value, list) else [value]


def convert(action, text):
    """What the flag makes of a text; None if it refuses it in one line."""
    parser = cli.Parser(prog="program.py")
    parser.add_argument(*action.option_strings, dest=action.dest, type=action.type)
    try:
        return vars(parser.parse_args([f"{action.option_strings[-1]}={text}"]))[action.dest]
    except UserError as error:
        assert "\n" not in str(error) and str(error).startswith("--")
    except SystemExit as error:
        assert error.code == 2
    return None


def numeric_flags(program):
    """The flags of a program that take numbers, by what they make of some."""
    return [action for parser in parsers_of(program) for action in parser._actions
            if action.option_strings and action.type not in (None, str) and action.nargs != 0
            and any(isinstance(number, (int, float)) for text in ("8", "0.5", "224", "1000")
                    for number in numbers(convert(action, text)))]


FLAGS = [pytest.param(action, id=f"{program} {action.option_strings[-1]}")
         for program in PROGRAMS for action in numeric_flags(program)]


def test_the_walk_finds_the_flags():
    found = {flag.id for flag in FLAGS}
    assert len(found) > 90 and {"main.py --batch-size", "tools/predict.py --window", "test_models.py --coeff",
                                "tools/benchmark.py --streams", "tools/vid2img_sthv2.py --quality"} <= found


@pytest.mark.parametrize("action", FLAGS)
def test_what_is_no_number_or_too_large_is_refused_in_one_line(action, capsys):
    for text in [*NO_NUMBERS, *TOO_LARGE]:
        assert convert(action, text) is None, text
        errors = capsys.readouterr().err
        assert errors.count("\n") <= 1 and "Traceback" not in errors


@pytest.mark.parametrize("action", FLAGS)
def test_what_is_taken_has_a_meaning(action):
    assert convert(action, "0") is None or ZERO.get(action.dest)
    assert convert(action, "-1") is None or action.dest in MINUS_ONE
    largest = cli.LARGEST_SEED if action.dest == "seed" else cli.LARGEST
    for text in ("8", "0.5", "1000", str(2 ** 31 - 1), "1e9"):
        value = convert(action, text)
        assert value is None or all(math.isfinite(number) and abs(number) <= largest for number in numbers(value))


def test_a_flag_without_a_range_would_be_found():
    for kind in (int, float):
        action = argparse.ArgumentParser().add_argument("--size", type=kind)
        assert any(convert(action, text) is not None for text in [*NO_NUMBERS, *TOO_LARGE])
