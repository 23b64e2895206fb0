"""check_options: every option of main.py has a decided effect on a resumed run, which is applied, logged or refused."""
from pathlib import Path

import pytest

from ops.common.errors import UserError
from ops.spec import ModelSpec
from ops.training.resuming import APPLIED, EFFECTS, FREE, SAME, UNUSED, check_options
from opts import parse_train, train_parser

FILE = Path("x.pth")


def names(*effects):
    return [name for name in EFFECTS if EFFECTS[name] in effects]


def options(**changes):
    return {**vars(parse_train(["ucf101", "RGB"])), **changes}


def before(**changes):
    """The entry `train` of a checkpoint: what was None is left out."""
    return {name: value for name, value in options(**changes).items() if value is not None}


def test_every_option_has_an_effect():
    assert EFFECTS.keys() == {action.dest for action in train_parser()._actions} - {"help"}
    spec = {field for field in vars(ModelSpec(2, 2)) if field in EFFECTS}
    assert spec - {"img_feature_dim"} <= set(names(SAME))


def test_the_same_options_and_those_of_a_published_checkpoint_are_no_news(caplog):
    caplog.set_level("INFO")
    check_options(before(), options(), FILE)
    check_options(before(lr_steps=[50.0, 100.0]), options(), FILE)
    check_options({}, options(momentum=0.5, no_partialbn=True), FILE)
    assert not caplog.records


@pytest.mark.parametrize("name", names(APPLIED))
def test_an_option_that_takes_effect_is_logged(name, caplog):
    caplog.set_level("INFO")
    check_options(before(), options(**{name: "other"}), FILE)
    assert caplog.messages == [f"resumed with other options than before: {name} other (was {options()[name]})"]


def test_a_limit_of_the_gradient_that_is_left_out_is_logged(caplog):
    caplog.set_level("INFO")
    check_options(before(clip_gradient=20.0), options(), FILE)
    assert caplog.messages == ["resumed with other options than before: clip_gradient None (was 20.0)"]


@pytest.mark.parametrize("name, value", [("no_partialbn", "False"), ("freeze", "not given")])
def test_an_option_that_resuming_cannot_change_is_refused(name, value):
    older = before()
    older.pop("freeze")  # a checkpoint from before this option
    for first in [before(), older]:
        with pytest.raises(UserError) as info:
            check_options(first, options(**{name: "other"}), FILE)
        assert info.value.for_command_line().startswith(f"--resume x.pth: --{name} was {value}, is other, ")
    check_options(older, options(), FILE)


def test_an_option_without_effect_is_a_warning(caplog):
    check_options(before(), options(pretrain="none"), FILE)
    assert caplog.messages == ["warning: pretrain has no effect: the checkpoint holds what it decides"]


@pytest.mark.parametrize("name", sorted({*names(FREE, UNUSED, SAME)} - {"no_partialbn", "freeze", "pretrain"}))
def test_other_options_are_free_or_checked_elsewhere(name, caplog):
    caplog.set_level("INFO")
    check_options(before(), options(**{name: "other"}), FILE)
    assert not caplog.records
