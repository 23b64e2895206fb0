"""save_pretrained, from_pretrained and hubconf.py: directories with weights, config and model card."""
import json
import sys

import pytest
import torch

from ops.checkpoints import load_checkpoint
from ops.models import TSN
from ops.spec import ModelSpec
from tests.conftest import ROOT
from tests.helpers.golden_model import clip
from tests.helpers.weight_files import SPEC, assert_equal_weights, make_filled, refusal, save_described

NAMES = ["up", "down", "left", "sinistra è"]


@pytest.fixture(scope="module")
def model():
    return make_filled(input_size=32)


@pytest.fixture
def folder(model, tmp_path):
    model.save_pretrained(tmp_path / "saved", class_names=NAMES)
    return tmp_path / "saved"


def test_a_directory_gives_the_same_network(model, folder):
    loaded = TSN.from_pretrained(folder)
    assert (loaded.spec, loaded.class_names, loaded.training) == (model.spec, NAMES, False)
    assert_equal_weights(loaded.state_dict(), model.state_dict())
    assert loaded.preprocessing == model.preprocessing
    clips = clip(2, 2, 3, 32)
    with torch.inference_mode():
        assert torch.equal(loaded(clips), model.eval()(clips))


def test_its_files_are_those_of_the_hub(model, folder):
    assert sorted(path.name for path in folder.iterdir()) == ["README.md", "config.json", "model.safetensors"]
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    assert ModelSpec.from_dict(config["settings"]) == model.spec and config["class_names"] == NAMES
    assert config["preprocessing"] == model.preprocessing.to_dict()
    card = (folder / "README.md").read_text(encoding="utf-8")
    assert card.startswith("---\nlibrary_name: pytorch\n") and "3. sinistra è" in card and "TSN.from_pretrained(" in card


def test_it_is_written_again_with_its_own_class_names(folder, tmp_path):
    TSN.from_pretrained(folder).save_pretrained(folder)
    TSN.from_pretrained(folder).save_pretrained(tmp_path / "copy")
    assert TSN.from_pretrained(tmp_path / "copy").class_names == NAMES
    for name in ("config.json", "README.md", "model.safetensors"):
        assert (tmp_path / "copy" / name).read_bytes() == (folder / name).read_bytes()


def test_programs_take_the_directory_as_a_checkpoint(model, folder):
    found = load_checkpoint(folder)
    assert (found.source, found.spec, found.class_names) == ("metadata", model.spec, NAMES)
    assert_equal_weights(found.build().state_dict(), model.state_dict())


def damage(folder, name, change):
    config = json.loads((folder / "config.json").read_text())
    change(config)
    (folder / name).write_text(json.dumps(config))


@pytest.mark.parametrize("change, words", [
    (lambda folder: (folder / "config.json").write_text("{"), "config.json is damaged"),
    (lambda folder: (folder / "config.json").write_text("[1]"), "no entry settings"),
    (lambda folder: (folder / "config.json").unlink(), "holds no config.json"),
    (lambda folder: (folder / "model.safetensors").unlink(), "holds no model.safetensors"),
    (lambda folder: (folder / "model.safetensors").write_bytes(b"\x08" + bytes(7) + b"not json"), "not a readable"),
    (lambda folder: (folder / "model.safetensors").write_bytes((folder / "model.safetensors").read_bytes()[:-9]),
     "not a readable safetensors file"),
    (lambda folder: damage(folder, "config.json", lambda config: config.pop("settings")), "no entry settings"),
    (lambda folder: damage(folder, "config.json", lambda config: config["settings"].update(num_class=10 ** 9)), "num_class"),
    (lambda folder: damage(folder, "config.json", lambda config: config["settings"].update(arch="resnet18")), "do not fit"),
    (lambda folder: damage(folder, "config.json", lambda config: config.update(class_names=["a"])), "class_names"),
])
def test_damage_is_one_line(change, words, folder):
    change(folder)
    assert words in refusal(TSN.from_pretrained, folder)
    if "do not fit" not in words:
        refusal(load_checkpoint, folder)


def test_other_names_than_a_directorys(tmp_path, monkeypatch):
    assert "no such directory" in refusal(TSN.from_pretrained, tmp_path / "nowhere")
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)  # as if it were not installed
    assert refusal(TSN.from_pretrained, "user/name").endswith("pip install huggingface_hub")


def test_class_names_must_be_as_many_as_the_classes(model, tmp_path):
    assert "3 names for 4 classes" in refusal(lambda: model.save_pretrained(tmp_path / "x", class_names=list("abc")))
    assert not (tmp_path / "x").exists()


# ---- torch.hub ------------------------------------------------------------------------------------------------

def hub(entry, **options):
    return torch.hub.load(str(ROOT), entry, source="local", **options)


def test_the_entry_points_build_networks():
    model = hub("tsm", num_class=3, num_segments=2, arch="resnet18", shift_div=4)
    assert model.spec == ModelSpec(3, 2, arch="resnet18", shift=True, shift_div=4) and not model.training
    assert not hub("tsn", arch="mobilenetv2").spec.shift
    with pytest.raises(TypeError, match="shift_dev"):
        hub("tsm", shift_dev=4)


def test_the_entry_points_load_files(folder, model, tmp_path):
    file = save_described(dict(model.state_dict()), tmp_path / "ckpt.pth", model.spec, names=NAMES)
    for source in (folder, file):
        loaded = hub("tsm", pretrained=str(source), num_segments=3)
        assert loaded.spec == SPEC.with_(num_segments=3, input_size=32) and loaded.class_names == NAMES
        assert_equal_weights(loaded.state_dict(), model.state_dict())
    assert "is a TSM" in refusal(hub, "tsn", pretrained=str(file))
