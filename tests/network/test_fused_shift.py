"""ops/fused_shift.py and ops/residual_parts.py: the form for inference computes what the trained network computes."""
import pytest
import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from ops.backbones import BACKBONES
from ops.fused_shift import fuse_temporal_shift
from ops.residual_parts import PartsBlock
from ops.spec import ModelSpec
from tests.helpers.networks import on_meta

T, SIZE = 3, 32
CASES = [
    *((arch, {}) for arch in BACKBONES if arch not in ("resnet34", "resnet101", "resnet152")),
    ("resnet18", {"shift_place": "block", "modality": "Flow", "dropout": 0.0}),
    ("mobilenetv2", {"shift_place": "block", "shift_div": 4}),
    ("BNInception", {"shift_place": "010010010011", "modality": "RGBDiff", "shift_direction": "unidirectional"}),
    ("resnet18", {"shift_div": 2, "consensus_type": "identity", "modality": "RGBDiff"}),
    ("resnet18", {"shift_div": 3, "consensus_type": "rnn"}),
    ("resnet18", {"shift_direction": "unidirectional", "temporal_pool": True, "num_segments": 5}),
    ("resnet18", {"non_local": True, "temporal_pool": True, "before_softmax": False}),
    ("resnet18", {"non_local": True, "temporal_pool": True, "shift_place": "block", "non_local_type": "dot_product"}),
    ("resnet18", {"num_segments": 1, "shift_div": 16}),  # in parts from layer2 on: 8 channels would not fill a vector
    ("resnet18", {"shift": False, "temporal_pool": True, "non_local": True}),
    ("mobilenetv2", {"shift": False})]


def trained(arch, **options):
    """A network whose norms have statistics and factors of their own, as after training."""
    spec = ModelSpec(5, **{"num_segments": T, "shift": True, "input_size": SIZE, "arch": arch, **options})
    model = on_meta(spec).to_empty(device="cpu")  # its own random weights would take longer than the test
    torch.manual_seed(0)
    for value in model.parameters():
        nn.init.normal_(value, std=value[0].numel() ** -0.5 if value.dim() > 1 else 0.1)
    for norm in model.modules():
        if isinstance(norm, _BatchNorm):
            nn.init.uniform_(norm.weight, 0.5, 1.2)
            nn.init.uniform_(norm.bias, -0.2, 0.2)
            nn.init.uniform_(norm.running_mean, -0.1, 0.1)
            nn.init.uniform_(norm.running_var, 0.7, 1.4)
    return model.eval()


def clips_for(model, count=2):
    """(N, T*C, H, W), as the loader gives them."""
    images = model.num_segments * (model.frame_channels + 3 * (model.modality == "RGBDiff"))
    return torch.randn(count, images, SIZE, SIZE, generator=torch.Generator().manual_seed(1))


def error(found, expected):
    """The largest difference, relative to the largest value."""
    assert found.shape == expected.shape
    return float((found - expected).abs().max() / expected.abs().max())


def weights_of(model):
    return {name: value.clone() for name, value in model.state_dict().items()}


@torch.no_grad()
@pytest.mark.parametrize("arch, options", CASES)
def test_it_gives_the_logits_of_the_network(arch, options):
    model = trained(arch, **options)
    clips, before = clips_for(model), weights_of(model)
    fused = fuse_temporal_shift(model)
    assert not any(isinstance(module, _BatchNorm) for module in fused.modules())
    assert not any(parameter.requires_grad for parameter in fused.parameters())
    assert (fused.spec, fused.preprocessing) == (model.spec, model.preprocessing)
    assert model.state_dict().keys() == before.keys()
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert error(fused.train()(clips), model(clips)) < 1e-5
    assert error(fused.forward_features(clips), model.forward_features(clips)) < 1e-5
    # In double precision nothing but rounding is left: no term was approximated.
    model, clips = model.double(), clips.double()
    assert error(fuse_temporal_shift(model)(clips), model(clips)) < 1e-10


@pytest.mark.parametrize("arch, options, blocks", [
    ("resnet18", {}, 8), ("resnet50", {}, 16), ("resnet101", {}, 33), ("resnet18", {"non_local": True}, 8),
    ("resnet18", {"temporal_pool": True}, 8), ("resnet18", {"shift_direction": "unidirectional"}, 8),
    ("resnet18", {"shift_div": 16}, 8), ("resnet18", {"shift_div": 3}, 0),
    ("resnet18", {"shift_place": "block"}, 0), ("resnet18", {"shift": False}, 0),
    ("mobilenetv2", {}, 0)])
def test_which_blocks_work_on_parts(arch, options, blocks):
    """All of a ResNet's, also those between the shifts of every second block; none whose parts would not fill vectors."""
    fused = fuse_temporal_shift(on_meta(ModelSpec(5, T, arch=arch, **{"shift": True, **options})))
    assert sum(isinstance(module, PartsBlock) for module in fused.modules()) == blocks


@torch.no_grad()
@pytest.mark.parametrize("arch, options", [("resnet18", {"temporal_pool": True, "non_local": True})])
def test_it_exports_with_any_number_of_clips(arch, options):
    model = trained(arch, **options)
    fused, clips = fuse_temporal_shift(model), clips_for(model, 3)
    program = torch.export.export(fused, (clips[:2],), dynamic_shapes=({0: torch.export.Dim("clips", min=1, max=1024)},))
    for count in (1, 3):
        assert error(program.module()(clips[:count]), model(clips[:count])) < 1e-5


@torch.no_grad()
def test_it_computes_in_any_precision():
    model = trained("resnet18")
    clips = clips_for(model)
    fused = fuse_temporal_shift(model).to(torch.bfloat16).to(memory_format=torch.channels_last)
    assert 1e-6 < error(fused(clips.bfloat16()).float(), model(clips)) < 0.05
