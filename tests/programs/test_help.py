"""--help of every program: defaults, and groups where there are many flags; and suggestions for what is misspelled."""
import pytest

import opts
from ops.common import cli
from ops.common.errors import UserError
from tests.helpers.commands import PROGRAMS, options_of, parsers_of

UNGROUPED = 8  # flags at most


@pytest.mark.parametrize("program", PROGRAMS)
def test_help_has_a_text_for_every_flag_and_its_default(program):
    for parser in parsers_of(program):
        for action in options_of(parser):
            text = action.help or ""
            assert text, action.option_strings
            if action.default not in (None, False, "", []):
                assert "default" in text, action.option_strings
            assert action.default is not None or "%(default)" not in text, action.option_strings
        parser.format_help()  # every % in it is valid


@pytest.mark.parametrize("program", PROGRAMS)
def test_many_flags_are_in_groups(program):
    for parser in parsers_of(program):
        loose = [action for action in parser._optionals._group_actions if action in options_of(parser)]
        assert len(loose) <= 1 or len(options_of(parser)) <= UNGROUPED, [action.dest for action in loose]


# ---- what is misspelled ---------------------------------------------------------------------------------------

def refusal(parse, argv, capsys):
    """The one line that a program prints for these arguments."""
    with pytest.raises((UserError, SystemExit)) as info:
        parse(argv)
    return str(info.value) if isinstance(info.value, UserError) else capsys.readouterr().err


@pytest.mark.parametrize("argv, meant", [
    (["UCF-101", "RGB"], "ucf101"), (["somthing", "RGB"], "something"), (["ucf101", "RBG"], "RGB"),
    (["ucf101", "RGB", "--shfit"], "--shift"), (["ucf101", "RGB", "--learning_rate", "1"], "--learning-rate"),
    (["ucf101", "RGB", "--arch", "resnet-50"], "resnet50"), (["ucf101", "RGB", "--lr_type", "cosine"], "cos")])
def test_the_likely_meaning_is_suggested(argv, meant, capsys):
    assert f"; did you mean {meant}?" in refusal(opts.parse_train, argv, capsys)


@pytest.mark.parametrize("argv", [["imagenet", "RGB"], ["ucf101", "RGB", "--arch", "vit"], ["ucf101", "RGB", "--zzz"]])
def test_nothing_is_suggested_where_nothing_is_similar(argv, capsys):
    message = refusal(opts.parse_train, argv, capsys)
    assert "did you mean" not in message and message.count("\n") <= 1


def test_suggestions_know_the_flags_of_subcommands(capsys):
    parser = cli.Parser(prog="tool.py")
    parser.add_subparsers(dest="what").add_parser("measure").add_argument("--input_size")
    assert "; did you mean --input_size?" in refusal(parser.parse_args, ["measure", "--input-sise", "3"], capsys)


def test_upper_and_lower_case_are_alike(tmp_path):
    args = opts.parse_train(["SomethingV2", "rgbdiff", "--arch", "ResNet18", "--lr_type", "COS"])
    assert (args.dataset, args.modality, args.arch, args.lr_type) == ("somethingv2", "RGBDiff", "resnet18", "cos")
    own = tmp_path / "own.yaml"
    own.write_text("".join(f"{name}: {{root: ., train_list: t, val_list: v, num_class: 2}}\n" for name in ("Mine", "MINE")))
    assert opts.parse_test(["MINE", "--dataset_file", str(own), "--weights", "a"]).dataset == "MINE"
    with pytest.raises(UserError, match="unknown data set 'mine'"):  # two names are meant
        opts.parse_test(["mine", "--dataset_file", str(own), "--weights", "a"])
