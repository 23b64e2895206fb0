"""What a checkpoint must be to go on from it: the same model, and a whole training state."""
from pathlib import Path

import pytest
import torch

from ops.checkpoints.checkpoint import (
    Checkpoint,
    check_same_settings,
    classifier_learnt_faster,
    load_checkpoint,
    restore,
)
from ops.common.errors import UserError
from ops.spec import ModelSpec, build_model

SETTINGS = ModelSpec(num_class=4, num_segments=2, arch="mobilenetv2", shift=True, shift_div=4)
RELEASED = "TSM_kinetics_RGB_mobilenetv2_shift4_blockres_avg_segment2_e100_dense.pth"


@pytest.fixture(scope="module")
def weights():
    return dict(build_model(SETTINGS).state_dict())


def described(weights, tmp_path, settings=SETTINGS):
    return saved({"state_dict": weights, "settings": settings.to_dict()}, tmp_path / "ours.pth.tar")


def saved(content, path):
    torch.save(content, path)
    return load_checkpoint(path)


def refusal(function, *args):
    """The message of the UserError that a call ends in: one line."""
    with pytest.raises(UserError) as info:
        function(*args)
    assert "\n" not in str(info.value)
    return str(info.value)


# ---- the same model --------------------------------------------------------------------------------------------

def test_other_settings_are_refused_by_name(weights, tmp_path):
    found = described(weights, tmp_path)
    check_same_settings(found, SETTINGS)
    check_same_settings(found, SETTINGS.with_(shift_place="blockres"))  # the default, spelled out
    message = refusal(check_same_settings, found, SETTINGS.with_(num_segments=8, shift_div=8))
    assert "num_segments 2 there, 8 here" in message and "shift_div 4 there, 8 here" in message
    for change in (dict(shift=False), dict(shift_direction="unidirectional"), dict(num_class=9)):
        assert next(iter(change)) in refusal(check_same_settings, found, SETTINGS.with_(**change))


def test_how_to_shift_says_nothing_where_nothing_shifts(weights, tmp_path):
    still = SETTINGS.with_(shift=False)
    check_same_settings(described(weights, tmp_path, still), still.with_(shift_div=16))


def test_a_published_file_is_judged_by_what_its_name_tells(weights, tmp_path):
    """Its dropout, input size and the kind of non-local block are nowhere: nothing is said against the flags."""
    found = saved({"state_dict": weights}, tmp_path / RELEASED)
    assert found.source == "file name"
    check_same_settings(found, SETTINGS.with_(dropout=0.8, input_size=64, non_local_type="dot_product",
                                              img_feature_dim=512))
    assert "dropout 'above 0' there, 0 here" in refusal(check_same_settings, found, SETTINGS.with_(dropout=0))
    for change in (dict(num_segments=8), dict(shift_div=8), dict(num_class=9), dict(arch="resnet50")):
        assert next(iter(change)) in refusal(check_same_settings, found, SETTINGS.with_(**change))


def test_a_dimension_that_no_layer_has_is_not_compared(weights, tmp_path):
    found = described(weights, tmp_path)
    check_same_settings(found, SETTINGS.with_(img_feature_dim=512))
    assert "input_size 224 there, 64 here" in refusal(check_same_settings, found, SETTINGS.with_(input_size=64))


# ---- a whole training state -----------------------------------------------------------------------------------

def small_optimizer(sizes=(3, 2)):
    """SGD as main.py makes it, after one step; the second group is the classifier's."""
    groups = [{"params": [torch.nn.Parameter(torch.ones(size))], "name": name, "lr_mult": 1, "decay_mult": 1}
              for size, name in zip(sizes, ("normal_weight", "lr5_weight"))]
    optimizer = torch.optim.SGD(groups, 0.1, momentum=0.9)
    sum(group["params"][0].sum() for group in groups).backward()
    optimizer.step()
    return optimizer


def resumable(**changes):
    content = {"epoch": 3, "best_prec1": 12.5, "optimizer": small_optimizer().state_dict(), **changes}
    content = {key: value for key, value in content.items() if value != "gone"}
    return Checkpoint(Path("x.pth"), {}, None, None, None, "nothing", content)


def group_without(key):
    state = small_optimizer().state_dict()
    del state["param_groups"][1][key]
    return state


def test_a_whole_training_state_is_restored():
    optimizer = small_optimizer()
    for group in optimizer.param_groups:
        group["lr"] = 7
    assert restore(resumable(best_prec1=torch.tensor(12.5)), optimizer) == (3, 12.5)
    assert [group["lr"] for group in optimizer.param_groups] == [0.1, 0.1]
    assert classifier_learnt_faster(resumable())


@pytest.mark.parametrize("changes, words", [
    (dict(epoch="gone"), "its epoch (None) or best_prec1 (12.5) is no number"),
    (dict(epoch="three"), "its epoch (three)"), (dict(epoch=-1), "its epoch (-1)"), (dict(epoch=[3]), "its epoch ([3])"),
    (dict(best_prec1="gone"), "best_prec1 (None) is no number"), (dict(best_prec1=float("nan")), "best_prec1 (nan)"),
    (dict(best_prec1=torch.ones(2)), "is no number"),
    (dict(optimizer="gone"), "holds no optimizer state"), (dict(optimizer=[1]), "optimizer state lacks"),
    (dict(optimizer={"state": {}}), "optimizer state lacks"),
    (dict(optimizer={"state": {}, "param_groups": 3}), "optimizer state lacks"),
    (dict(optimizer={"state": {}, "param_groups": [[]]}), "optimizer state lacks"),
    (dict(optimizer=group_without("lr_mult")), "decay_mult, lr, lr_mult, momentum"),
    (dict(optimizer=group_without("momentum")), "optimizer state lacks"),
    (dict(optimizer={"param_groups": small_optimizer().state_dict()["param_groups"]}), "its optimizer does not fit"),
    (dict(optimizer={**small_optimizer().state_dict(), "state": [1]}), "its optimizer does not fit"),
    (dict(optimizer=small_optimizer((3,)).state_dict()), "its optimizer does not fit"),
    (dict(optimizer=small_optimizer((3, 4)).state_dict()), "a momentum has another shape than its weight"),
])
def test_what_is_amiss_in_a_training_state_is_said(changes, words):
    message = refusal(restore, resumable(**changes), small_optimizer())
    assert message.startswith("--resume x.pth: ") and words in message
    classifier_learnt_faster(resumable(**changes))  # asked before, and says nothing
