"""archs/regnet.py: torchvision's RegNetY-400MF, and where it shifts."""
import torch
import torchvision

from archs.regnet import is_block, regnet_y_400mf


def test_it_is_torchvisions_network():
    torch.manual_seed(0)
    ours = regnet_y_400mf()
    torch.manual_seed(0)
    theirs = torchvision.models.regnet_y_400mf(weights=None)
    assert str(ours) == str(theirs)
    assert list(ours.state_dict()) == list(theirs.state_dict())
    assert all(map(torch.equal, ours.state_dict().values(), theirs.state_dict().values()))


def test_it_is_built_on_any_device():
    with torch.device("meta"):
        assert all(parameter.is_meta for parameter in regnet_y_400mf().parameters())


def test_every_block_shifts_the_input_of_a_1x1_convolution():
    blocks = [module for module in regnet_y_400mf().modules() if is_block(module)]
    assert len(blocks) == 16
    assert all(block.f.a[0].kernel_size == (1, 1) for block in blocks)
