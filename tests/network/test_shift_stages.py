"""--shift_stages: a shift in some stages of the network only, from the network to its keys, names, files and streams."""
import pytest
import torch
from torch import nn

from ops.backbones import BACKBONES, find_backbone
from ops.checkpoints import load_checkpoint, load_streamable
from ops.checkpoints.online_format import bare_content, online_content
from ops.checkpoints.store_name import parse_name, store_name
from ops.checkpoints.tensors import CLIP, read_tensors
from ops.fused_shift import fuse_temporal_shift
from ops.models import TSN
from ops.spec import ModelSpec
from ops.streaming.online import OnlineTSM
from ops.temporal_shift import shift_layers
from ops.weights import load_weights
from opts import parse_train
from tests.helpers.golden_model import clip
from tests.helpers.networks import on_meta
from tests.helpers.online import assert_equal_logits, make_model, stream_logits
from tests.helpers.weight_files import refusal, save

LIKE_OTHERS = ("resnet34", "resnet50", "resnet152")
CHOSEN = [("resnet18", "3,4"), ("mobilenetv2", "3,4"), ("regnety400mf", "2,4")]


def spec_of(arch, stages="", **options):
    return ModelSpec(5, 4, arch=arch, shift=True, shift_stages=stages, **{"input_size": 32, **options})


def shifted(spec):
    return [name.removeprefix("base_model.") for name, _, _ in shift_layers(on_meta(spec))]


@pytest.mark.parametrize("place", ["blockres", "block"])
@pytest.mark.parametrize("arch", [arch for arch, row in BACKBONES.items() if row.shift.stages and arch not in LIKE_OTHERS])
def test_each_stage_of_the_table_shifts_by_itself_and_all_of_them_as_without_the_option(arch, place):
    backbone = find_backbone(arch)
    found = {number: shifted(spec_of(arch, str(number), shift_place=place)) for number in backbone.shift.stages}
    for number, names in found.items():
        stage = backbone.numbered_stages(str(number))
        assert names and all(backbone.in_stages(name, stage) for name in names)
    assert sum(found.values(), []) == shifted(spec_of(arch, shift_place=place))


def test_the_numbers_are_those_of_the_layers():
    assert shifted(spec_of("resnet18", "2,4")) == [f"layer{i}.{j}.conv1" for i in (2, 4) for j in (0, 1)]
    assert shifted(spec_of("mobilenetv2", "4")) == [f"features.{i}.conv.0" for i in (8, 9, 10)]
    assert len(shifted(spec_of("resnet101", "3"))) == 12  # every second of 23


@pytest.mark.parametrize("place", ["blockres", "block"])
@pytest.mark.parametrize("arch, stages", CHOSEN)
def test_keys_show_the_stages(arch, stages, place):
    wrapped = {"temporal_pool": True, "non_local": True} if arch == "resnet18" else {}
    for options in ({}, wrapped):
        shown = read_tensors(on_meta(spec_of(arch, stages, shift_place=place, **options)).state_dict(), CLIP, arch)
        assert (shown["shift_place"], shown["shift_stages"]) == (place, stages)
    assert "shift_stages" not in read_tensors(on_meta(spec_of(arch, shift_place=place)).state_dict(), CLIP, arch)


def test_a_name_tells_the_stages(tmp_path):
    spec = spec_of("resnet18", "3,4", shift_direction="unidirectional")
    name = store_name(spec, "jester", 5)
    assert name == "TSM_jester_RGB_resnet18_shift8_blockres_uni_stages34_avg_segment4_e5"
    assert parse_name(tmp_path / f"{name}.pth")[1]["shift_stages"] == "3,4"


def test_a_file_without_a_description_and_a_model_that_shifts_elsewhere(tmp_path, caplog):
    weights = TSN.from_spec(spec_of("resnet18", "3,4")).state_dict()
    found = load_checkpoint(save(weights, tmp_path / "x.pth"), arch="resnet18", num_segments=4, input_size=32)
    assert found.spec == spec_of("resnet18", "3,4", shift_place="blockres")
    found.build()
    assert not caplog.records
    load_weights(TSN.from_spec(spec_of("resnet18")), weights, "the file")
    assert "it shifts in other layers than this model: the option shift_stages" in caplog.text


@pytest.mark.parametrize("arch, stages, words", [
    ("resnet18", "5", "resnet18 can shift in stages 1, 2, 3, 4: choose some of them"), ("resnet18", "4,3", "in this order"),
    ("mobilenetv2", "1,3", "mobilenetv2 can shift in stages 2, 3, 4, 5, 6"), ("resnet18", "layer3", "'layer3'"),
    ("BNInception", "3", "choose them by a 12-digit mask as shift_place")])
def test_stages_that_cannot_shift_are_refused(arch, stages, words):
    assert words in refusal(spec_of(arch, stages).check)


def test_stages_need_a_shift():
    assert "this network has none" in refusal(spec_of("resnet18", "3").with_(shift=False).check)


def test_the_flag_puts_the_numbers_in_order():
    line = ["somethingv2", "RGB", "--arch", "resnet18", "--shift", "--shift_stages"]
    assert ModelSpec.from_options(vars(parse_train([*line, "4,3"])), num_class=5).shift_stages == "3,4"
    for wrong in ("3,,4", "0", "layer3"):
        assert "choose numbers of stages with commas between them" in refusal(parse_train, [*line, wrong])


@pytest.mark.parametrize("arch, stages", CHOSEN)
def test_it_streams(arch, stages, tmp_path):
    """The mean of the online file's logits over a clip equals the clip model's."""
    model = make_model(arch, 4, input_size=32, shift_stages=stages)
    saved = save({"state_dict": model.state_dict(), "settings": model.spec.to_dict()}, tmp_path / "clip.pth")
    online = OnlineTSM(save(online_content(load_streamable(saved)), tmp_path / "online.pth"))
    assert len(online.initial_state()) == len(list(shift_layers(model))) > 0
    clips = clip(1, 4, 3, 32)
    with torch.inference_mode():
        assert_equal_logits(stream_logits(online, clips, 4).mean(1), model(clips))
    if arch == "mobilenetv2":
        assert "1/8 blockres in stages 3,4" in refusal(bare_content, load_streamable(saved))


def test_every_layer_learns():
    model = TSN.from_spec(spec_of("resnet18", "3")).train()
    nn.functional.cross_entropy(model(clip(2, 4, 3, 32)), torch.tensor([1, 4])).backward()
    assert all(parameter.grad is not None for parameter in model.parameters())


@pytest.mark.parametrize("arch, stages", CHOSEN)
def test_it_is_fused_for_inference_and_export(arch, stages):
    model = make_model(arch, 4, input_size=32, shift_stages=stages, shift_direction="bidirectional")
    clips = clip(2, 4, 3, 32)
    with torch.inference_mode():
        assert_equal_logits(fuse_temporal_shift(model)(clips), model(clips), relative=2e-5)
