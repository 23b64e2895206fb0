"""ops/flops.py: published counts, a count by hand, and the shift, which costs nothing."""
import pytest
import torch
from torch import nn

from ops.flops import count_multiply_adds, count_parameters, gflops_per_view, view_shape
from ops.models import TSN
from ops.non_local import NonLocalBlock3D
from ops.spec import ModelSpec
from tests.helpers.networks import on_meta


def by_hand(model: nn.Module, *shape: int) -> int:
    """Multiply-adds from each layer's output: for each of its values, as many as a kernel has values."""
    total = 0

    def count(module, inputs, output):
        nonlocal total
        if isinstance(module, NonLocalBlock3D):  # theta phi^T and its product with g, per clip
            n, channels, t, h, w = inputs[0].shape
            inner = channels if module.non_local_type == "gaussian" else channels // 2
            total += n * (t * h * w) * (t * (h // 2) * (w // 2)) * (inner + channels // 2)
        elif isinstance(module, nn.Linear):
            total += output.numel() * module.in_features
        else:
            total += output.numel() * module.weight[0].numel()

    kinds = (nn.Conv2d, nn.Conv3d, nn.Linear, NonLocalBlock3D)
    for module in model.modules():
        if isinstance(module, kinds):
            module.register_forward_hook(count)
    with torch.no_grad():
        model.eval()(torch.empty(shape, device="meta"))
    return total


# ---- published numbers ---------------------------------------------------------------------------------------

RESNET50_CONVOLUTIONS = 4_089_184_256 - 2048 * 1000  # per image of 224 pixels: torchvision's 4.09 G less its head


@pytest.mark.parametrize("num_class, parameters", [(400, 24_327_632), (174, 23_864_558)])
def test_resnet50_has_the_published_parameters_and_multiply_adds(num_class, parameters):
    model = on_meta(ModelSpec(num_class, 8, shift=True))
    assert count_parameters(model) == parameters
    multiply_adds = 8 * (RESNET50_CONVOLUTIONS + 2048 * num_class)
    assert count_multiply_adds(model, view_shape(model, 224)) == multiply_adds
    assert gflops_per_view(model, 224) == multiply_adds / 1e9 == pytest.approx(32.7, abs=0.005)


def test_resnet50_stem_and_head_by_hand():
    model = on_meta(ModelSpec(400, 8))
    stem, head = 8 * 64 * 112 * 112 * (3 * 7 * 7), 8 * 2048 * 400
    assert count_multiply_adds(model.base_model.conv1, (8, 3, 224, 224)) == stem
    assert count_multiply_adds(model.new_fc, (8, 2048)) == head


@pytest.mark.parametrize("arch", ["resnet18", "resnet50", "resnet101", "mobilenetv2", "BNInception", "regnety400mf"])
def test_the_shift_adds_exactly_nothing(arch):
    tsn, tsm = on_meta(ModelSpec(400, 8, arch=arch)), on_meta(ModelSpec(400, 8, arch=arch, shift=True))
    assert count_parameters(tsm) == count_parameters(tsn)
    assert count_multiply_adds(tsm, (1, 24, 224, 224)) == count_multiply_adds(tsn, (1, 24, 224, 224)) > 0


# ---- how it counts -------------------------------------------------------------------------------------------

@pytest.mark.parametrize("options", [
    dict(arch="resnet18", shift=True, temporal_pool=True),
    dict(arch="resnet18", non_local=True), dict(arch="resnet18", non_local=True, non_local_type="gaussian"),
    dict(arch="mobilenetv2", shift=True, dropout=0.0), dict(arch="BNInception", modality="Flow"),
    dict(arch="regnety400mf", shift=True),
    dict(arch="resnet18", modality="RGBDiff", consensus_type="identity"),
])
def test_the_count_is_that_of_every_layer_by_hand(options):
    model = on_meta(ModelSpec(7, 3, **options))
    shape = view_shape(model, 32)
    assert count_multiply_adds(model, shape) == by_hand(model, *shape)


def test_counting_leaves_the_model_unchanged():
    model = TSN.from_spec(ModelSpec(7, 2, arch="resnet18", shift=True, dropout=0.5)).half()
    model.train()
    model.base_model.layer1.eval()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    modes, grads = [m.training for m in model.modules()], [p.requires_grad for p in model.parameters()]
    assert count_multiply_adds(model, (2, 6, 32, 32)) == 2 * count_multiply_adds(model, (1, 6, 32, 32))
    assert [m.training for m in model.modules()] == modes
    assert [p.requires_grad for p in model.parameters()] == grads
    assert all(value.equal(before[key]) and value.device.type == "cpu" for key, value in model.state_dict().items())


@pytest.mark.parametrize("modality, channels", [("RGB", 3), ("Flow", 10), ("RGBDiff", 18)])
def test_a_view_holds_every_image_of_every_segment(modality, channels):
    assert view_shape(on_meta(ModelSpec(5, 4, modality, arch="resnet18")), 96) == (1, 4 * channels, 96, 96)
