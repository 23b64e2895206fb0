"""ops/backbones.py, row by row: where the network shifts, what its keys show, that all of it learns, and its name."""
import pytest
import torch
from torch import nn

from ops.backbones import BACKBONES, HEADS, find_backbone
from ops.checkpoints.store_name import parse_name, store_name
from ops.checkpoints.tensors import CLIP, file_kind, read_tensors, recognize
from ops.common.errors import UserError
from ops.models import TSN
from ops.runtimes.registry import open_runtime
from ops.spec import ModelSpec
from ops.streaming.online import OnlineTSM
from ops.temporal_shift import shift_layers
from ops.weights import head_keys, load_weights, pool_in_keys, shift_in_keys
from tests.helpers.golden_model import clip
from tests.helpers.networks import loop_shift, on_meta
from tests.helpers.online import assert_close, stream_logits
from tests.helpers.programs import make_somethingv2, run

T = 3
# One ResNet represents all five.
ARCHS = ["resnet18", *(arch for arch, backbone in BACKBONES.items() if not backbone.resnet)]
PLACES = [(arch, place) for arch in ARCHS for place in ("blockres", "block") if (arch, place) != ("BNInception", "blockres")]


def spec_of(arch, **options):
    return ModelSpec(5, T, arch=arch, **{"shift": True, "input_size": 32, **options})


@pytest.mark.parametrize("arch", ARCHS)
def test_a_row_describes_its_network(arch):
    backbone = find_backbone(arch)
    with torch.device("meta"):
        net = backbone.build()
    head = net.get_submodule(backbone.head)
    assert isinstance(head, nn.Linear) and head.out_features == 1000 and backbone.head in HEADS
    assert len(backbone.mean) == len(backbone.std) == 3
    backbone.shift.check(backbone.shift.default)


def test_the_input_of_bninception_is_bgr_0_255():
    backbone = find_backbone("BNInception")
    assert (backbone.color, backbone.value_range, backbone.mean, backbone.std) == ("BGR", 255, (104, 117, 128), (1, 1, 1))


@pytest.mark.parametrize("arch, place", PLACES)
def test_the_shift_is_in_front_of_the_listed_layers(arch, place):
    torch.manual_seed(0)
    spec = spec_of(arch, shift_place=place, input_size=64)
    shifting, plain = TSN.from_spec(spec).eval(), TSN.from_spec(spec.with_(shift=False)).eval()
    load_weights(plain, shifting.state_dict(), "the twin")
    names = [name for name, channels, moved in shift_layers(shifting)]
    for name in names:
        plain.get_submodule(name).register_forward_pre_hook(lambda module, inputs: (loop_shift(*inputs, T),))
    frames = clip(2, T, 3, 64)
    with torch.no_grad():
        assert names and torch.allclose(shifting(frames), plain(frames), atol=1e-6)


@pytest.mark.parametrize("arch, place", PLACES)
def test_keys_show_the_place(arch, place):
    spec, plain = spec_of(arch, shift_place=place), spec_of(arch, shift=False)
    state, without = on_meta(spec).state_dict(), on_meta(plain).state_dict()
    shows = find_backbone(arch).shift.in_keys
    assert shift_in_keys(state) == (place if shows else "") and shift_in_keys(without) == ""
    assert not pool_in_keys(state) and not pool_in_keys(without)
    assert (file_kind(state), recognize(state)) == (CLIP, (arch, 1))
    assert read_tensors(state, CLIP, arch).get("shift_place") == (place if shows else None)


@pytest.mark.parametrize("arch", ARCHS)
@pytest.mark.parametrize("dropout", [0.0, 0.5])
def test_the_head_is_known_by_its_keys(arch, dropout):
    model = on_meta(spec_of(arch, dropout=dropout))
    name = "new_fc" if dropout else f"base_model.{find_backbone(arch).head}"
    assert head_keys(model.state_dict()) == [f"{name}.weight", f"{name}.bias"]


@pytest.mark.parametrize("arch", ARCHS)
def test_every_parameter_learns(arch):
    torch.manual_seed(0)
    model = TSN.from_spec(spec_of(arch, dropout=0.0)).train()
    nn.functional.cross_entropy(model(clip(2, T, 3, 64)), torch.tensor([1, 4])).backward()
    grouped = {id(parameter) for group in model.get_optim_policies() for parameter in group["params"]}
    for name, parameter in model.named_parameters():
        assert id(parameter) in grouped and parameter.grad is not None and parameter.grad.abs().sum() > 0, name


@pytest.mark.parametrize("arch", ARCHS)
def test_a_run_is_named_after_its_backbone(arch, tmp_path):
    spec = spec_of(arch)
    dataset, options = parse_name(tmp_path / f"{store_name(spec, 'jester', 5)}.pth")
    assert dataset == "jester" and options["arch"] == arch and options["shift_place"] == spec.place


@pytest.mark.parametrize("option", ["temporal_pool", "non_local"])
@pytest.mark.parametrize("arch", ARCHS[1:])
def test_what_needs_the_stages_of_a_resnet_is_refused_elsewhere(arch, option):
    with pytest.raises(UserError, match=f"{option} works on ResNets, not on {arch}: leave it out") as found:
        spec_of(arch, **{option: True}).check()
    assert found.value.options == (option,)


def test_an_unknown_place_is_refused_by_the_spec():
    for arch in ARCHS:
        with pytest.raises(UserError, match="shift_place 'foo': choose block"):
            spec_of(arch, shift_place="foo").check()
        spec_of(arch, shift_place="foo", shift=False).check()  # nothing shifts


def test_unknown_backbone():
    with pytest.raises(UserError, match="arch 'resnet19': choose one of resnet18, "):
        find_backbone("resnet19")


# ---- the programs --------------------------------------------------------------------------------------------

def test_a_regnet_is_trained_inspected_and_exported(tmp_path, monkeypatch, capfd):
    """The backbone of docs/architecture.md's example, through the programs."""
    make_somethingv2(tmp_path)
    done = run(monkeypatch, capfd, "main", "somethingv2", "RGB", "--arch", "regnety400mf", "--shift", "--shift_direction",
               "unidirectional", "--num_segments", T, "--pretrain", "none", "--input_size", 32, "-b", 4, "--epochs", 1,
               "--debug", "-j", 0, "--device", "cpu", "--root_dataset", tmp_path, "--root_log", tmp_path / "log",
               "--root_model", tmp_path / "models")
    assert done.status == 0 and "shift: 16 layers" in done.err
    file, = (tmp_path / "models").glob("TSM_somethingv2_RGB_regnety400mf_shift8_blockres_uni_*/ckpt.pth.tar")
    inspected = run(monkeypatch, capfd, "tools.inspect_checkpoint", file)
    assert inspected.status == 0 and "regnety400mf" in inspected.out
    exported = run(monkeypatch, capfd, "tools.export", file, "--model", "online")
    assert exported.status == 0 and "16 state tensors, frames of 32x32" in exported.err
    online = OnlineTSM(file)
    onnx, frames = open_runtime("onnxruntime", online, weights=file), clip(2, 4, 3, 32)
    assert_close(stream_logits(onnx, frames, 4), stream_logits(online, frames, 4))
