"""A checkpoint can only be resumed with the options of its own model."""
import pytest
import torch

from ops.checkpoints.checkpoint import check_same_settings, load_checkpoint
from ops.common.errors import UserError
from ops.models import TSN
from ops.spec import ModelSpec

SETTINGS = ModelSpec(num_class=4, num_segments=2, arch="mobilenetv2", shift=True, shift_div=4)
RELEASED = "TSM_kinetics_RGB_mobilenetv2_shift4_blockres_avg_segment2_e100_dense.pth"


@pytest.fixture(scope="module")
def weights():
    return dict(TSN.from_spec(SETTINGS).state_dict())


def described(weights, tmp_path, settings=SETTINGS):
    return saved({"state_dict": weights, "settings": settings.to_dict()}, tmp_path / "ours.pth.tar")


def saved(content, path):
    torch.save(content, path)
    return load_checkpoint(path)


def refusal(function, *args):
    """The message of the UserError that a call raises, which must be one line."""
    with pytest.raises(UserError) as info:
        function(*args)
    assert "\n" not in str(info.value)
    return str(info.value)


def test_different_settings_are_refused_by_name(weights, tmp_path):
    found = described(weights, tmp_path)
    check_same_settings(found, SETTINGS)
    check_same_settings(found, SETTINGS.with_(shift_place="blockres"))  # the default, spelled out
    message = refusal(check_same_settings, found, SETTINGS.with_(num_segments=8, shift_div=8))
    assert "num_segments 2 there, 8 here" in message and "shift_div 4 there, 8 here" in message
    for change in (dict(shift=False), dict(shift_direction="unidirectional"), dict(num_class=9)):
        assert next(iter(change)) in refusal(check_same_settings, found, SETTINGS.with_(**change))


def test_shift_options_are_not_compared_without_a_shift(weights, tmp_path):
    still = SETTINGS.with_(shift=False)
    check_same_settings(described(weights, tmp_path, still), still.with_(shift_div=16))


def test_a_published_file_is_compared_by_what_its_name_gives(weights, tmp_path):
    """The name does not give dropout, input size or the type of the non-local blocks: any option for them is accepted."""
    found = saved({"state_dict": weights}, tmp_path / RELEASED)
    assert found.source == "file name"
    check_same_settings(found, SETTINGS.with_(dropout=0.8, input_size=64, non_local_type="dot_product",
                                              img_feature_dim=512))
    assert "dropout 'above 0' there, 0 here" in refusal(check_same_settings, found, SETTINGS.with_(dropout=0))
    for change in (dict(num_segments=8), dict(shift_div=8), dict(num_class=9), dict(arch="resnet50")):
        assert next(iter(change)) in refusal(check_same_settings, found, SETTINGS.with_(**change))


def test_the_unused_feature_dimension_is_not_compared(weights, tmp_path):
    found = described(weights, tmp_path)
    check_same_settings(found, SETTINGS.with_(img_feature_dim=512))
    assert "input_size 224 there, 64 here" in refusal(check_same_settings, found, SETTINGS.with_(input_size=64))
