"""archs/mobilenet_v2.py: published keys and logits, and torchvision's weights."""
import pytest
import torch
import torchvision

from archs.mobilenet_v2 import InvertedResidual, from_torchvision, is_expanded_residual, mobilenet_v2, round_channels
from tests.helpers.golden_model import clip, fill
from tests.helpers.networks import LoopShift, check_golden


def test_keys_and_logits_are_the_published_ones(golden):
    check_golden(mobilenet_v2(n_class=11), "classifier", "mobilenetv2_tsn", clip(2, 8, 3, 64), golden)


def test_logits_with_a_shift_are_the_published_ones(golden):
    net = mobilenet_v2(n_class=11)
    for block in net.modules():
        if is_expanded_residual(block):
            block.conv[0] = LoopShift(block.conv[0])
    check_golden(net, "classifier", "mobilenetv2_shift", clip(2, 8, 3, 64), golden)


def test_blocks_that_shift():
    blocks = {i: m for i, m in enumerate(mobilenet_v2().features) if isinstance(m, InvertedResidual)}
    assert list(blocks) == list(range(1, 18))
    assert [i for i, m in blocks.items() if m.use_res_connect] == [3, 5, 6, 8, 9, 10, 12, 13, 15, 16]
    assert [i for i, m in blocks.items() if len(m.conv) != 8] == [1]


def test_the_input_is_added_only_with_use_res_connect():
    torch.manual_seed(0)
    x = torch.randn(2, 16, 9, 9)
    with_residual, without = InvertedResidual(16, 16, 1, 6).eval(), InvertedResidual(16, 24, 1, 6).eval()
    assert torch.equal(with_residual(x), x + with_residual.conv(x))
    assert torch.equal(without(x), without.conv(x))


@pytest.mark.parametrize("width, asked, got", [(1.0, 24, 24), (0.75, 24, 24), (0.35, 16, 8), (0.5, 96, 48),
                                               (1.4, 24, 32), (1.4, 32, 48), (0.1, 32, 8)])
def test_rounded_channels(width, asked, got):
    # 0.75 * 24 = 18: 16 would lose more than 10%, so 24; 1.4 * 32 = 44.8: 48 is the nearest.
    assert round_channels(width * asked) == got


@pytest.mark.parametrize("width", [1.0, 0.5, 1.4])
def test_from_torchvision_gives_equal_outputs(width):
    theirs = torchvision.models.mobilenet_v2(num_classes=7, width_mult=width).eval()
    theirs.load_state_dict(fill(theirs.state_dict()))
    ours = mobilenet_v2(n_class=7, width_mult=width).eval()
    mapped = from_torchvision(theirs.state_dict(), width)
    assert list(mapped) == list(ours.state_dict())
    ours.load_state_dict(mapped)
    images = clip(1, 2, 3, 101).reshape(2, 3, 101, 101)[..., :75]
    with torch.inference_mode():
        expected = theirs(images)
        assert (ours(images) - expected).abs().max() <= 1e-5 * expected.abs().max()


@pytest.fixture(scope="module")
def torchvision_weights():
    return torchvision.models.mobilenet_v2(num_classes=5).state_dict()


def spoil(weights, key, value):
    spoiled = dict(weights)
    spoiled.pop(key, None)
    return spoiled if value is None else {**spoiled, key: value}


@pytest.mark.parametrize("key, value, message", [
    ("features.4.conv.1.0.weight", None, "missing: features.4.conv.1.0.weight"),
    ("classifier.1.weight", None, "missing: classifier.1.weight"),
    ("features.4.conv.1.0.weight", torch.zeros(3), r"features.4.conv.1.0.weight \(3,\) instead of \(144, 1, 3, 3\)"),
    ("features.19.weight", torch.zeros(3), "unknown: features.19.weight"),
])
def test_from_torchvision_names_what_does_not_fit(torchvision_weights, key, value, message):
    with pytest.raises(ValueError, match=message):
        from_torchvision(spoil(torchvision_weights, key, value))


def test_from_torchvision_refuses_another_width_and_our_own_keys(torchvision_weights):
    with pytest.raises(ValueError, match="width 0.5.* instead of .* more$"):
        from_torchvision(torchvision_weights, 0.5)
    with pytest.raises(ValueError, match="not torchvision's"):
        from_torchvision(mobilenet_v2().state_dict())


def test_from_torchvision_reads_files_without_batch_counters(torchvision_weights):
    old = {key: value for key, value in torchvision_weights.items() if not key.endswith("num_batches_tracked")}
    net = mobilenet_v2(n_class=5)
    net.load_state_dict(from_torchvision(old))
    assert torch.equal(net.features[17].conv[6].weight, old["features.17.conv.2.weight"])


def test_weights_start_from_the_published_distribution():
    torch.manual_seed(0)
    net = mobilenet_v2()
    last = net.features[18][0].weight  # 1280 filters of 1x1: std sqrt(2 / 1280)
    assert last.std().item() == pytest.approx((2 / 1280) ** 0.5, rel=0.02)
    assert net.classifier.weight.std().item() == pytest.approx(0.01, rel=0.02)
    assert not net.classifier.bias.any()


@pytest.mark.parametrize("make, message", [
    (lambda: mobilenet_v2(pretrained=True), "--pretrain imagenet"),
    (lambda: mobilenet_v2(width_mult=0), "width_mult 0"),
    (lambda: InvertedResidual(8, 8, 3, 6), "stride 3"),
])
def test_wrong_options_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_nothing_is_printed(capsys):
    mobilenet_v2()
    assert capsys.readouterr() == ("", "")
