"""archs/bn_inception.py: published logits, input, the points that can shift, and odd sizes."""
import pytest
import torch
from torch import nn

from archs.bn_inception import SHIFT_POINTS, BNInception, bninception, shift_points
from tests.helpers.golden_model import clip, fill
from tests.helpers.networks import LoopShift, check_golden


def test_logits_with_a_shift_are_the_published_ones(golden):
    """The rows of the other places are in test_models.py."""
    net = bninception(num_classes=11)
    net.install_shift("block", lambda channels: LoopShift())
    check_golden(net, "fc", "bninception_block", clip(1, 8, 3, 224), golden)


# The layer that first reads each point's input, and that input's channels.
READERS = {"conv1": ("conv1_7x7_s2", 3), "conv2": ("conv2_3x3_reduce", 64)}
READERS.update({f"inception_{name}": (f"inception_{name}_3x3_reduce", channels) for name, channels in [
    ("3a", 192), ("3b", 256), ("3c", 320), ("4a", 576), ("4b", 576), ("4c", 576), ("4d", 608), ("4e", 608),
    ("5a", 1056), ("5b", 1024)]})


class AddOne(nn.Module):
    """Keeps a copy of its output, because later ReLUs work in place."""

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


def test_a_shift_does_not_change_the_keys():
    net = bninception(num_classes=4)
    keys = list(net.state_dict())
    assert len(net.install_shift("block", lambda channels: LoopShift())) == 11
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
def test_places_that_do_not_exist(place, message):
    with pytest.raises(ValueError, match=message):
        bninception(num_classes=2).install_shift(place, lambda channels: LoopShift())


@pytest.mark.parametrize("size, left", [((96, 64), (3, 2)), ((112, 32), (4, 1)), ((75, 97), (3, 3)),
                                        ((33, 17), (1, 1))])
def test_takes_other_sizes(size, left):
    """The classifier reads the mean over the remaining positions."""
    torch.manual_seed(0)
    net, images = bninception(num_classes=3).eval(), torch.rand(2, 3, *size)
    with torch.inference_mode():
        features = net.features(images)
        assert features.shape == (2, 1024, *left)
        assert torch.allclose(net(images), net.fc(features.mean((2, 3))), atol=1e-6)


def test_halving_an_odd_side_pools_every_3x3_window():
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


def test_trains_every_parameter_and_keeps_the_published_momentum():
    torch.manual_seed(0)
    net = bninception(num_classes=3)
    x = torch.randn(4, 3, 64, 64)
    mean = net.conv1_7x7_s2(x).mean((0, 2, 3))
    net(x).square().sum().backward()
    biases_before_norm = {f"{name[:-3]}.bias" for name, m in net.named_modules() if isinstance(m, nn.BatchNorm2d)}
    still = {name for name, p in net.named_parameters() if not p.grad.abs().max() > 1e-12}
    assert still <= biases_before_norm  # in training, the norm removes a bias
    assert torch.allclose(net.conv1_7x7_s2_bn.running_mean, 0.9 * mean, atol=1e-6)


def test_no_weights_are_downloaded():
    with pytest.raises(ValueError, match="--pretrain PATH"):
        bninception(pretrained="imagenet")


def test_nothing_is_printed(capsys):
    bninception().install_shift("block", lambda channels: LoopShift())
    assert capsys.readouterr() == ("", "")
