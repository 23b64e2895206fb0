"""tools/inspect_checkpoint.py: every form of weight file, by metadata, by name and by tensors alone."""
import json
from functools import lru_cache

import pytest
import torch
import torchvision

from ops.backbones import BACKBONES
from ops.checkpoints.inspect import inspect_file
from ops.checkpoints.online_format import to_online_names
from ops.checkpoints.store_name import parse_name
from ops.checkpoints.tensors import CLIP, IMAGE, ONLINE
from ops.models import TSN
from ops.spec import ModelSpec
from tests.helpers.programs import assert_refused, run
from tools.inspect_checkpoint import loads_into

SPEC = ModelSpec(5, 4, arch="resnet18", shift=True, shift_div=4, shift_place="blockres")
RELEASED_NAMES = [
    "TSM_kinetics_RGB_resnet50_avg_segment5_e50.pth",
    "TSM_kinetics_RGB_resnet50_shift8_blockres_avg_segment8_e100_dense_nl.pth",
    "TSM_kinetics_RGB_mobilenetv2_shift8_blockres_avg_segment8_e100_dense.pth",
    "TSM_kinetics_Flow_resnet50_shift8_blockres_avg_segment8_e50.pth",
    "TSM_something_RGB_resnet101_shift8_blockres_avg_segment8_e45.pth",
    "TSM_somethingv2_RGB_resnet50_shift8_blockres_avg_segment16_e45.pth",
]


def flat(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    """The model's keys and shapes, each tensor one number repeated: files of a few kB."""
    return {key: torch.full((), 0.5).to(value.dtype).expand(value.shape) for key, value in model.state_dict().items()}


@lru_cache(maxsize=None)
def _weights(spec: ModelSpec) -> dict[str, torch.Tensor]:
    with torch.device("meta"):
        model = TSN.from_spec(spec)
    return flat(model)


def weights(spec: ModelSpec = SPEC) -> dict[str, torch.Tensor]:
    return dict(_weights(spec))


def ours(spec: ModelSpec = SPEC, **more) -> dict:
    """The content of a checkpoint as main.py writes it."""
    state = {f"module.{key}": value for key, value in weights(spec).items()}
    return {"version": 1, "epoch": 7, "arch": spec.arch, "state_dict": state, "best_prec1": 61.5, "optimizer": None,
            "settings": spec.to_dict(), "dataset": "gestures", "class_names": list("abcde"), **more}


def saved(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save(content, path)
    return path


def values(report) -> dict:
    return {key: fact.value for key, fact in report.facts.items()}


# ---- files ---------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("name", RELEASED_NAMES)
def test_released_files_by_their_names(tmp_path, name):
    dataset, options = parse_name(tmp_path / name)
    path = saved(tmp_path / "temporal-shift-module" / name,
                 {"state_dict": {f"module.{k}": v for k, v in weights(ModelSpec(6, **options)).items()}})
    report = inspect_file(path)
    assert report.kind == CLIP and report.loads and report.named and not report.notes
    assert values(report).items() >= {"dataset": dataset, "num_class": 6, "arch": options["arch"],
                                      "num_segments": options["num_segments"], "shift": options["shift"],
                                      "non_local": name.endswith("nl.pth"), "modality": options["modality"]}.items()
    assert report.facts["arch"].source == "file name and tensors" and report.facts["num_class"].source == "tensors"


def test_our_checkpoint_describes_itself_completely(tmp_path, monkeypatch, capfd):
    path = saved(tmp_path / "ckpt.pth.tar", ours())
    report = inspect_file(path)
    facts = values(report)
    assert facts.items() >= {**SPEC.to_dict(), "epoch": 7, "best_prec1": 61.5, "dataset": "gestures",
                             "class_names": list("abcde")}.items()
    assert report.facts["shift_div"].source == "metadata" and report.facts["arch"].source == "metadata and tensors"
    words = run(monkeypatch, capfd, "tools.inspect_checkpoint", path).out
    assert "video model, 122 tensors" in words and "shift_div        4 (by its metadata)" in words
    assert "class_names      5: a, b, c, ... (by its metadata)" in words and "unknown" not in words
    assert "loads into: test_models.py, tools/predict.py, main.py --tune_from" in words


def test_metadata_wins_over_the_name(tmp_path):
    path = saved(tmp_path / RELEASED_NAMES[0], ours())
    report = inspect_file(path)
    assert values(report)["arch"] == "resnet18" and report.facts["arch"].source == "metadata and tensors"
    assert report.loads and not report.notes


@pytest.mark.parametrize("form", ["bare", "wrapped", "module", "without .net", "published checkpoint"])
def test_a_renamed_file_is_known_by_its_tensors(tmp_path, monkeypatch, capfd, form):
    state = weights()
    content = {
        "bare": state, "wrapped": {"state_dict": state}, "module": {f"module.{k}": v for k, v in state.items()},
        "without .net": {k.replace(".net.", "."): v for k, v in state.items()},
        "published checkpoint": {"epoch": 45, "arch": "resnet18", "state_dict": {
            f"module.{k}": v for k, v in state.items()}, "optimizer": {}, "best_prec1": torch.tensor(45.5)},
    }[form]
    path = saved(tmp_path / "foo.pth", content)
    report = inspect_file(path)
    shift = {"shift": False} if form == "without .net" else {"shift": True, "shift_place": "blockres"}
    assert values(report).items() >= {"arch": "resnet18", "num_class": 5, "modality": "RGB", **shift}.items()
    assert "shift_div" not in report.facts and "num_segments" not in report.facts
    if form == "published checkpoint":
        assert values(report).items() >= {"epoch": 45, "best_prec1": 45.5}.items()
    name = f"TSM_<dataset>_RGB_resnet18{'_shift<div>_blockres' * shift['shift']}_<consensus>_segment<frames>_e<epochs>"
    assert report.loads and not report.named
    words = run(monkeypatch, capfd, "tools.inspect_checkpoint", path).out
    assert "num_segments     unknown" in words and ("shift_div        unknown" in words) == shift["shift"]
    assert f"loads into: main.py --tune_from; test_models.py and tools/predict.py once it is named {name}.pth" in words


def test_a_name_that_is_wrong_is_noticed(tmp_path, monkeypatch, capfd):
    path = saved(tmp_path / "TSM_kinetics_RGB_resnet50_shift8_blockres_avg_segment8_e50.pth", weights())
    done = run(monkeypatch, capfd, "tools.inspect_checkpoint", path)
    assert done.status == 0
    assert "note: arch is 'resnet50' by its file name, 'resnet18' by its tensors" in done.out
    assert "note: it fits a model as its tensors show it, not as its file name describes it" in done.out
    assert "does not load: " in done.out and "base_model.layer1.0.conv1.net.weight is (64, 64, 3, 3)" in done.out


def test_keys_without_net_do_not_contradict_a_shift(tmp_path):
    content = ours()
    content["state_dict"] = {key.replace(".net.", "."): value for key, value in content["state_dict"].items()}
    report = inspect_file(saved(tmp_path / "ckpt.pth.tar", content))
    assert values(report)["shift"] is True and report.loads and not report.notes


def test_tensors_that_do_not_fit_are_named(tmp_path):
    state = weights()
    state["base_model.layer1.0.conv2.weight"] = torch.zeros(64, 64, 5, 5)
    del state["base_model.layer4.1.bn2.bias"]
    report = inspect_file(saved(tmp_path / "foo.pth", state))
    assert report.notes == ["resnet18 is a guess: 98% of the tensors are resnet18's"] and not report.loads
    assert "1 shapes differ: base_model.layer1.0.conv2.weight is (64, 64, 5, 5), the model's is" in report.problem
    assert "1 keys missing: base_model.layer4.1.bn2.bias" in report.problem


def test_values_that_are_not_finite_are_noticed(tmp_path):
    state = weights()
    state["new_fc.bias"] = torch.tensor([0, 1, float("nan"), 2, float("inf")])
    report = inspect_file(saved(tmp_path / "foo.pth", state))
    assert report.notes == ["1 tensors hold NaN or Inf, the first is new_fc.bias"]
    assert not report.loads and "tensors hold NaN or Inf, the first is new_fc.bias" in report.problem


# ---- online models and image networks ------------------------------------------------------------------------

def test_the_released_online_file(tmp_path, golden):
    rows = golden("state_dict_keys")["online_mobilenetv2"]
    state = {key: torch.zeros(()).to(torch.long if key.endswith("tracked") else torch.float32).expand(shape)
             for key, shape in rows}
    report = inspect_file(saved(tmp_path / "mobilenetv2_jester_online.pth.tar", state))
    assert report.kind == ONLINE and report.loads
    assert values(report) == {"arch": "mobilenetv2", "modality": "RGB", "num_class": 27, "dataset": "jester",
                              "shift": True, "shift_place": "blockres", "shift_div": 8,
                              "shift_direction": "unidirectional"}


@pytest.mark.parametrize("arch", ["mobilenetv2", "resnet18", "regnety400mf"])
def test_our_online_files(tmp_path, arch):
    spec = ModelSpec(5, 8, arch=arch, shift=True, shift_direction="unidirectional")
    content = ours(spec, online=True, state_dict=to_online_names(weights(spec), spec))
    report = inspect_file(saved(tmp_path / "online.pth.tar", content))
    assert report.kind == ONLINE and report.loads and not report.notes
    assert report.facts["arch"].source == "metadata and tensors"


@pytest.mark.parametrize("arch, model", [("resnet34", "resnet34"), ("mobilenetv2", "mobilenet_v2"),
                                         ("regnety400mf", "regnet_y_400mf")])
def test_imagenet_files_of_torchvision(tmp_path, arch, model):
    with torch.device("meta"):
        network = BACKBONES[arch].build() if "regnet" in arch else torchvision.models.get_model(model, weights=None)
    state = flat(network)
    report = inspect_file(saved(tmp_path / "image.pth", state))
    assert (report.kind, values(report)["arch"], values(report)["num_class"]) == (IMAGE, arch, 1000)
    assert report.loads and loads_into(report) == f"main.py --arch {arch} --pretrain"


def test_the_public_file_of_bninception(tmp_path):
    with torch.device("meta"):
        network = BACKBONES["BNInception"].build()
    state = {key.replace("fc.", "last_linear."): value[None] if "_bn." in key and value.dim() else value
             for key, value in flat(network).items()}
    report = inspect_file(saved(tmp_path / "bn_inception.pth", state))
    assert (report.kind, loads_into(report)) == (IMAGE, "main.py --arch BNInception --pretrain")
    assert values(report) == {"arch": "BNInception", "modality": "RGB", "num_class": 1000}


# ---- refusals ------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("content, words", [
    ({"0.weight": torch.zeros(64, 3, 3, 3), "0.bias": torch.zeros(64)}, ["not of any network known", "0.weight"]),
    ({}, ["no weights"]),
    ({"epoch": 3, "loss": 0.5}, ["no weights", "epoch, loss"]),
    ([1, 2], ["not a dict"]),
])
def test_other_content_is_refused(tmp_path, monkeypatch, capfd, content, words):
    path = saved(tmp_path / "other.pth", content)
    done = run(monkeypatch, capfd, "tools.inspect_checkpoint", path)
    assert_refused(done, str(path), *words)
    assert len(done.err.strip().splitlines()) == 1


@pytest.mark.parametrize("content", [b"", b"hello", b"root:x:0:0:root:/root\n" * 9, b"PK\x03\x04" + bytes(99),
                                     b"\x80\x02"], ids=["empty", "word", "text", "zip", "pickle"])
def test_other_files_are_refused(tmp_path, monkeypatch, capfd, content):
    (tmp_path / "file.pth").write_bytes(content)
    assert_refused(run(monkeypatch, capfd, "tools.inspect_checkpoint", tmp_path / "file.pth"), "file.pth")


def test_code_in_a_file_is_not_run(tmp_path, monkeypatch, capfd):
    class Trap:
        def __reduce__(self):
            return (tmp_path.joinpath("ran").write_text, ("yes",))
    path = saved(tmp_path / "trap.pth", {"state_dict": weights(), "trap": Trap()})
    assert_refused(run(monkeypatch, capfd, "tools.inspect_checkpoint", path), "safely")
    assert not (tmp_path / "ran").exists()


def test_one_bad_file_does_not_hide_the_others(tmp_path, monkeypatch, capfd):
    good = saved(tmp_path / "good.pth", weights())
    done = run(monkeypatch, capfd, "tools.inspect_checkpoint", tmp_path / "none.pth", good, "--json")
    assert_refused(done, "no such checkpoint", "none.pth")
    [report] = json.loads(done.out)
    assert report["file"] == str(good) and report["loads"] is True
    assert report["facts"]["arch"] == {"value": "resnet18", "source": "tensors"}
    assert report["parameters"] == sum(p.numel() for p in TSN.from_spec(SPEC).parameters())
