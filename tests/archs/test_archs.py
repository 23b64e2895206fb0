"""archs/: published keys and logits, torchvision's MobileNetV2 weights, the places where BNInception shifts."""
import pytest
import torch
import torchvision
from torch import nn

from archs.bn_inception import INPUT_MEAN, INPUT_SPACE, INPUT_STD, SHIFT_POINTS, BNInception, bninception, shift_points
from archs.mobilenet_v2 import InvertedResidual, from_torchvision, mobilenet_v2, round_channels
from tests.helpers.golden_model import clip, fill


class NaiveShift(nn.Module):
    """The contract's shift over eight frames, frame by frame, in front of `net`."""

    def __init__(self, net=None):
        super().__init__()
        self.net = net or nn.Identity()

    def forward(self, x):
        fold, frames = x.shape[1] // 8, x.shape[0]
        out = x.clone()
        for i in range(frames):
            last, first = i % 8 == 7, i % 8 == 0
            out[i, :fold] = 0 if last else x[i + 1, :fold]
            out[i, fold:2 * fold] = 0 if first else x[i - 1, fold:2 * fold]
        return self.net(out)


def published_key(key, head):
    """Ours -> the key in a published TSN, whose classifier lies outside the backbone."""
    return key.replace(head, "new_fc", 1) if key.startswith(head) else f"base_model.{key}"


def check_golden(net, head, name, frames, golden):
    """Keys, shapes, order and logits of a golden row; the mean over eight frames is the consensus."""
    keys = {key: published_key(key, head) for key in net.state_dict()}
    ours = [[keys[key], list(value.shape)] for key, value in net.state_dict().items()]
    assert ours == golden("state_dict_keys")[name]
    weights = fill({keys[key]: value for key, value in net.state_dict().items()})
    net.load_state_dict({key: weights[keys[key]] for key in keys})
    with torch.inference_mode():
        logits = net.eval()(frames.reshape(-1, 3, *frames.shape[-2:])).unflatten(0, (-1, 8)).mean(1)
    expected = torch.tensor(golden("logits")[name])
    assert (logits - expected).abs().max() <= 1e-4 * expected.abs().max()


# ---- MobileNetV2 ---------------------------------------------------------------------------------------------

def test_mobilenet_golden(golden):
    check_golden(mobilenet_v2(n_class=11), "classifier", "mobilenetv2_tsn", clip(2, 8, 3, 64), golden)


def test_mobilenet_golden_with_shift(golden):
    net = mobilenet_v2(n_class=11)
    for block in net.modules():
        if isinstance(block, InvertedResidual) and block.use_res_connect and len(block.conv) == 8:
            block.conv[0] = NaiveShift(block.conv[0])
    check_golden(net, "classifier", "mobilenetv2_shift", clip(2, 8, 3, 64), golden)


def test_blocks_that_shift():
    blocks = {i: m for i, m in enumerate(mobilenet_v2().features) if isinstance(m, InvertedResidual)}
    assert list(blocks) == list(range(1, 18))
    assert [i for i, m in blocks.items() if m.use_res_connect] == [3, 5, 6, 8, 9, 10, 12, 13, 15, 16]
    assert [i for i, m in blocks.items() if len(m.conv) != 8] == [1]


def test_residual_is_added_only_where_it_says_so():
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


def test_mobilenet_starts_from_the_published_distribution():
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
    (lambda: bninception(pretrained="imagenet"), "--pretrain PATH"),
])
def test_what_archs_refuse(make, message):
    with pytest.raises(ValueError, match=message):
        make()


# ---- BNInception ---------------------------------------------------------------------------------------------

def test_bninception_golden_with_shift(golden):
    """The rows of the other places are in test_models.py."""
    net = bninception(num_classes=11)
    net.install_shift("block", lambda channels: NaiveShift())
    check_golden(net, "fc", "bninception_block", clip(1, 8, 3, 224), golden)


def test_bninception_input_is_bgr_0_255():
    assert (INPUT_SPACE, INPUT_MEAN, INPUT_STD) == ("BGR", (104, 117, 128), (1, 1, 1))


# The layer that first reads each point's input, and that input's channels.
READERS = {"conv1": ("conv1_7x7_s2", 3), "conv2": ("conv2_3x3_reduce", 64)}
READERS.update({f"inception_{name}": (f"inception_{name}_3x3_reduce", channels) for name, channels in [
    ("3a", 192), ("3b", 256), ("3c", 320), ("4a", 576), ("4b", 576), ("4c", 576), ("4d", 608), ("4e", 608),
    ("5a", 1056), ("5b", 1024)]})


class AddOne(nn.Module):
    """Keeps a copy of what it gives; later ReLUs work in place."""

    def forward(self, x):
        self.given = (x + 1).clone()
        return x + 1


def test_every_point_is_the_input_of_its_block():
    torch.manual_seed(0)
    net = bninception(num_classes=4).eval()
    assert tuple(READERS) == SHIFT_POINTS
    report = net.install_shift("block", lambda channels: AddOne())
    assert report == [(point, READERS[point][1]) for point in SHIFT_POINTS[1:]]
    read = {}
    for point, (layer, _) in READERS.items():
        getattr(net, layer).register_forward_pre_hook(
            lambda _, args, point=point: read.__setitem__(point, args[0].clone()))
    image = clip(1, 1, 3, 48)
    with torch.inference_mode():
        net(image)
    assert torch.equal(read["conv1"], image)
    for point, channels in report:
        assert read[point].shape[1] == channels
        assert torch.equal(read[point], net.shift[point].given)


def test_a_mask_shifts_where_it_has_a_1_and_nowhere_else():
    net, widths = bninception(num_classes=4), []
    net.install_shift("block", lambda channels: AddOne())
    report = net.install_shift("010000000101", lambda channels: widths.append(channels) or AddOne())
    assert report == [("conv2", 64), ("inception_4e", 608), ("inception_5b", 1024)]
    assert widths == [64, 608, 1024]
    assert [point for point, module in net.shift.items() if isinstance(module, AddOne)] == [
        "conv2", "inception_4e", "inception_5b"]


def test_a_shift_leaves_the_keys_as_they_are():
    net = bninception(num_classes=4)
    keys = list(net.state_dict())
    assert len(net.install_shift("block", lambda channels: NaiveShift())) == 11
    assert list(net.state_dict()) == keys


def test_block_is_every_point_but_the_image():
    assert shift_points("block") == list(SHIFT_POINTS[1:])
    assert shift_points("1" * 12) == shift_points("0" + "1" * 11) == shift_points("block")


@pytest.mark.parametrize("place, message", [
    ("blockres", "does not work on BNInception.*choose block or a 12-digit mask"),
    ("foo", "'foo': choose block or a 12-digit mask"),
    ("1" * 11, "choose block or a 12-digit mask"),
    ("1" * 13, "choose block or a 12-digit mask"),
    ("012111111111", "choose block or a 12-digit mask"),
    ("100000000000", "shifts nothing"),
])
def test_places_that_bninception_refuses(place, message):
    with pytest.raises(ValueError, match=message):
        bninception(num_classes=2).install_shift(place, lambda channels: NaiveShift())


@pytest.mark.parametrize("size, left", [((96, 64), (3, 2)), ((112, 32), (4, 1)), ((75, 97), (3, 3)),
                                        ((33, 17), (1, 1))])
def test_bninception_takes_other_sizes(size, left):
    """The classifier reads the mean over whatever is left of the image."""
    torch.manual_seed(0)
    net, images = bninception(num_classes=3).eval(), torch.rand(2, 3, *size)
    with torch.inference_mode():
        features = net.features(images)
        assert features.shape == (2, 1024, *left)
        assert torch.allclose(net(images), net.fc(features.mean((2, 3))), atol=1e-6)


def test_halving_an_odd_side_looks_at_every_pixel_once_in_a_3x3_window():
    net = BNInception(2).eval()
    net.load_state_dict(fill(net.state_dict()))
    seen = {}
    net.inception_4e_3x3_reduce.register_forward_pre_hook(lambda _, args: seen.update(before=args[0]))
    net.inception_5a_1x1.register_forward_pre_hook(lambda _, args: seen.update(after=args[0]))
    with torch.inference_mode():
        net(clip(1, 1, 3, 112))
    x, pooled = seen["before"], seen["after"][:, -608:]  # the pool's branch comes last
    assert x.shape[-1] == 7 and pooled.shape[-1] == 4
    for i in range(4):
        for j in range(4):
            window = x[..., 2 * i:2 * i + 3, 2 * j:2 * j + 3]
            assert torch.equal(pooled[..., i, j], window.amax((2, 3)))


def test_bninception_trains_every_parameter_and_keeps_the_published_momentum():
    torch.manual_seed(0)
    net = bninception(num_classes=3)
    x = torch.randn(4, 3, 64, 64)
    mean = net.conv1_7x7_s2(x).mean((0, 2, 3))
    net(x).square().sum().backward()
    biases_before_norm = {f"{name[:-3]}.bias" for name, m in net.named_modules() if isinstance(m, nn.BatchNorm2d)}
    still = {name for name, p in net.named_parameters() if not p.grad.abs().max() > 1e-12}
    assert still <= biases_before_norm  # the norm takes a bias away again, in training
    assert torch.allclose(net.conv1_7x7_s2_bn.running_mean, 0.9 * mean, atol=1e-6)


def test_archs_print_nothing(capsys):
    mobilenet_v2()
    bninception().install_shift("block", lambda channels: NaiveShift())
    assert capsys.readouterr() == ("", "")
