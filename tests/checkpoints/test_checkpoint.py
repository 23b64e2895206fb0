"""Checkpoints: read in every published form, named by their file, refused in one line, written whole or not at all."""
import itertools
import os
import pickle
import random
import re
from pathlib import Path

import pytest
import torch

from ops.checkpoints.checkpoint import load_checkpoint
from ops.checkpoints.matching import same_classes, tune_from
from ops.checkpoints.store_name import parse_name, store_name
from ops.checkpoints.tensors import count_classes
from ops.common.errors import UserError
from ops.dataset_config import JESTER_CLASSES
from ops.models import TSN
from ops.spec import ModelSpec
from ops.weights import (
    check_fit,
    find_state_dict,
    fit_names,
    load_weights,
    read_checkpoint,
    save_checkpoint,
    strip_prefix,
)
from tests.helpers.golden_model import fill

SETTINGS = ModelSpec(num_class=4, num_segments=2, arch="mobilenetv2", shift=True, shift_div=4)
RELEASED = "TSM_kinetics_RGB_mobilenetv2_shift4_blockres_avg_segment2_e100_dense.pth"


def filled(**changes):
    model = TSN.from_spec(SETTINGS.with_(**changes))
    model.load_state_dict(fill(model.state_dict()))
    return model


@pytest.fixture(scope="module")
def weights():
    """The deterministic state dict of SETTINGS' model."""
    return dict(filled().state_dict())


def save(content, path):
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save(content, path)
    return path


def equal(found, wanted):
    return found.keys() == wanted.keys() and all(torch.equal(found[key], wanted[key]) for key in wanted)


def refusal(function, *args):
    """The message of the UserError that a call ends in: one line."""
    with pytest.raises(UserError) as info:
        function(*args)
    assert "\n" not in str(info.value)
    return str(info.value)


# ---- names ----------------------------------------------------------------------------------------------------

def options(modality="RGB", arch="resnet50", shift=True, segments=8, pool=False, non_local=False, div=8,
            place="blockres", direction="bidirectional", consensus="avg"):
    return {"modality": modality, "arch": arch, "shift": shift, "shift_div": div,
            "shift_place": place if shift else "", "shift_direction": direction, "consensus_type": consensus,
            "num_segments": segments, "temporal_pool": pool, "non_local": non_local}


NAMES = [
    ("TSM_kinetics_RGB_resnet50_avg_segment5_e50.pth", "kinetics", options(shift=False, segments=5)),
    ("TSM_kinetics_RGB_resnet50_shift8_blockres_avg_segment8_e100_dense_nl.pth", "kinetics",
     options(non_local=True)),
    ("TSM_kinetics_RGB_mobilenetv2_shift8_blockres_avg_segment8_e100_dense.pth", "kinetics",
     options(arch="mobilenetv2")),
    ("TSM_kinetics_Flow_resnet50_shift8_blockres_avg_segment8_e50.pth", "kinetics", options(modality="Flow")),
    ("TSM_something_RGB_resnet101_shift8_blockres_avg_segment8_e45.pth", "something", options(arch="resnet101")),
    ("TSM_somethingv2_RGB_resnet50_shift8_blockres_avg_segment16_e45.pth", "somethingv2", options(segments=16)),
    ("TSM_something_RGBDiff_BNInception_shift4_011111111111_uni_tpool_identity_segment3_e9_none_cos_nl_try2.pth.tar",
     "something", options("RGBDiff", "BNInception", segments=3, pool=True, non_local=True, div=4,
                          place="011111111111", direction="unidirectional", consensus="identity")),
    ("TSM_my_own_data_RGB_resnet18_shift8_block_avg_segment8_e5.pt", "my_own_data",
     options(arch="resnet18", place="block")),
]


@pytest.mark.parametrize("directory", ["", "temporal-shift-module", "TSM_jester_Flow_resnet18_avg_segment3_e1_nl",
                                       "a_shift16_block/nl_tpool"])
@pytest.mark.parametrize("name, dataset, wanted", NAMES)
def test_published_names(name, dataset, wanted, directory):
    assert parse_name(Path(directory) / name) == (dataset, wanted)


@pytest.mark.parametrize("file", ["ckpt.pth.tar", "ckpt.best.pth.tar"])
@pytest.mark.parametrize("root", ["checkpoint", "/data/temporal-shift-module/TSM_jester_RGB_resnet18_avg_segment3_e1"])
def test_a_store_directory_names_its_checkpoints(root, file):
    for name, dataset, wanted in NAMES:
        store = re.sub(r"\.(pth|pt)(\.tar)?$", "", name)
        assert parse_name(Path(root) / store / file) == (dataset, wanted)


def test_a_store_directory_names_its_checkpoints_from_within(tmp_path, monkeypatch):
    directory = tmp_path / "TSM_jester_RGB_resnet18_shift8_block_avg_segment4_e1"
    directory.mkdir()
    monkeypatch.chdir(directory)
    assert parse_name(Path("ckpt.pth.tar")) == ("jester", options(arch="resnet18", place="block", segments=4))


@pytest.mark.parametrize("name", [
    "mobilenetv2_jester_online.pth.tar", "resnet50.pth", "TSM_kinetics.pth", "ckpt.pth.tar",
    "TSM_kinetics_RGB_resnet50_shift8_avg_segment8_e50.pth", "TSM_kinetics_Audio_resnet50_avg_segment8_e50.pth",
    "TSM_kinetics_RGB_resnet50_avg_segment8_e50.pth/weights.bin"])
def test_other_names_tell_nothing(name):
    assert parse_name(Path("TSM_old") / name) is None


def test_store_names_can_be_read_back():
    """Every store name of ours names the settings that it was made from."""
    found = 0
    models = itertools.product(("resnet18", "mobilenetv2"), (False, True), (8, 4), ("", "block"),
                               ("bidirectional", "unidirectional"), ("avg", "identity"), (False, True), (False, True))
    runs = itertools.product(("imagenet", "none", "/my dir/file_v2.pth"), ("step", "cos"), (False, True),
                             (None, "try_3"))
    for (arch, shift, div, place, direction, consensus, pool, non_local), run in itertools.product(models, runs):
        settings = ModelSpec(7, 5, "RGB", arch, shift, div, place, direction, consensus, temporal_pool=pool,
                             non_local=non_local)
        name = store_name(settings, "somethingv2", 50, *run)
        dataset, told = parse_name(Path("checkpoint") / name / "ckpt.pth.tar")
        read = ModelSpec(num_class=7, **told)
        assert dataset == "somethingv2"
        if shift:
            assert read.place == settings.place
            assert read.with_(shift_place=place) == settings, name
        else:  # how to shift says nothing where nothing shifts
            assert read.with_(shift_div=div, shift_place=place, shift_direction=direction) == settings, name
        found += 1
    assert found == 6144


def test_store_name_by_hand():
    settings = ModelSpec(174, 8, arch="resnet50", shift=True)
    assert store_name(settings, "somethingv2", 50) == "TSM_somethingv2_RGB_resnet50_shift8_blockres_avg_segment8_e50"
    full = settings.with_(temporal_pool=True, non_local=True, shift_direction="unidirectional")
    assert store_name(full, "jester", 9, "none", "cos", True, "x") == (
        "TSM_jester_RGB_resnet50_shift8_blockres_uni_tpool_avg_segment8_e9_none_cos_dense_nl_x")
    assert store_name(settings.with_(shift=False), "ucf101", 25) == "TSM_ucf101_RGB_resnet50_avg_segment8_e25"


# ---- reading --------------------------------------------------------------------------------------------------

def forms(weights):
    """A state dict in every form in which it is about."""
    parallel = {f"module.{key}": value for key, value in weights.items()}
    bare = {key.replace(".net.", "."): value for key, value in weights.items()}
    old = {key: value for key, value in weights.items() if not key.endswith("num_batches_tracked")}
    yield "bare", weights
    yield "wrapped", {"epoch": 3, "arch": "mobilenetv2", "state_dict": weights, "optimizer": {}, "best_prec1": 1.0}
    yield "data parallel", parallel
    yield "published", {"epoch": 3, "arch": "mobilenetv2", "state_dict": parallel, "best_prec1": torch.tensor(1.0)}
    yield "without net", {"state_dict": {f"module.{key}": value for key, value in bare.items()}}
    yield "before counters", old
    yield "as parameters", {key: torch.nn.Parameter(value, value.is_floating_point()) for key, value in weights.items()}


FORMS = ["bare", "wrapped", "data parallel", "published", "without net", "before counters", "as parameters"]


@pytest.mark.parametrize("form", FORMS)
def test_every_form_loads_the_same_weights(form, weights, tmp_path):
    path = save(dict(forms(weights))[form], tmp_path / "some name.pth")
    assert any(".net." in key for key in weights)
    model = TSN.from_spec(SETTINGS)
    load_weights(model, find_state_dict(read_checkpoint(path), path), str(path))
    assert equal(model.state_dict(), weights)


def test_zip_and_legacy_files(weights, tmp_path):
    path = tmp_path / "legacy.pth"
    torch.save(weights, path, _use_new_zipfile_serialization=False)
    assert equal(find_state_dict(read_checkpoint(path), path), weights)


def test_weights_with_shift_fit_a_model_without_and_back(weights):
    plain = TSN.from_spec(SETTINGS.with_(shift=False))
    load_weights(plain, weights, "x")
    shifted = TSN.from_spec(SETTINGS)
    load_weights(shifted, plain.state_dict(), "x")
    assert equal(shifted.state_dict(), weights)


@pytest.mark.parametrize("arch, last", [("mobilenetv2", "classifier"), ("resnet18", "fc")])
def test_the_head_fits_wherever_it_lies(arch, last):
    outside, inside = (TSN.from_spec(SETTINGS.with_(arch=arch, dropout=dropout)) for dropout in (0.5, 0.0))
    load_weights(inside, outside.state_dict(), "x")
    head = getattr(inside.base_model, last)
    assert torch.equal(head.weight, outside.new_fc.weight) and torch.equal(head.bias, outside.new_fc.bias)
    again = TSN.from_spec(SETTINGS.with_(arch=arch, dropout=0.5))
    load_weights(again, inside.state_dict(), "x")
    assert equal(again.state_dict(), outside.state_dict())


def test_prefix_is_dropped_once_and_only_in_front():
    assert list(strip_prefix({"module.a.module.b": 0, "module.module.c": 0, "d": 0})) == [
        "a.module.b", "module.c", "d"]


def test_names_that_fit_nothing_stay():
    own = {"base_model.layer1.0.conv1.net.weight": 0}
    assert list(fit_names({"base_model.layer1.0.conv1.weight": 0, "other.net.weight": 0}, own)) == [
        "base_model.layer1.0.conv1.net.weight", "other.net.weight"]


def test_online_model_is_a_bare_state_dict(golden, tmp_path):
    keys = golden("state_dict_keys")["online_mobilenetv2"]
    path = save({key: torch.zeros(shape) for key, shape in keys}, tmp_path / "mobilenetv2_jester_online.pth.tar")
    found = load_checkpoint(path)
    assert list(found.weights) == [f"base_model.{key}" for key, _ in keys]
    assert (found.kind, found.source) == ("online", "released online form")
    assert found.spec == ModelSpec(27, 8, arch="mobilenetv2", shift=True, shift_place="blockres",
                                   shift_direction="unidirectional")
    assert (found.dataset, found.class_names) == ("jester", list(JESTER_CLASSES))


# ---- refusing -------------------------------------------------------------------------------------------------

class Evil:
    """Pickled, this makes a file when it is read by a loader that runs code."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("how", ["torch", "legacy", "pickle"])
def test_code_in_a_file_does_not_run(how, tmp_path):
    path, trace = tmp_path / "evil.pth", tmp_path / "trace"
    content = {"state_dict": {"a": torch.zeros(1)}, "more": Evil(trace)}
    if how == "pickle":
        path.write_bytes(pickle.dumps(content, protocol=2))
    else:
        torch.save(content, path, _use_new_zipfile_serialization=how == "torch")
    message = refusal(read_checkpoint, path)
    assert str(path) in message and "safely" in message
    assert not trace.exists()


TEXTS = ["", " ", ".", "hello world\n", "training log of 2019\n", "epoch,lr\n1,0.1\n", "just some text", "README",
         "jpg", "<html><body>Sign in</body></html>", "version https://git-lfs.github.com/spec/v1\noid sha256:1\n",
         "{\"a\": 1}", "N.", "\x00\x00", "PK\x03\x04", "import os\n", "Kx", "# weights\n", "手势"]


@pytest.mark.parametrize("text", TEXTS)
def test_text_files_are_refused(text, tmp_path):
    path = tmp_path / "weights.pth.tar"
    path.write_text(text, encoding="utf-8")
    message = refusal(read_checkpoint, path)
    assert str(path) in message and "checkpoint" in message
    assert "PyTorch 2.6" not in message  # torch's advice is to turn the safety off


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
def test_cut_and_damaged_files_are_refused(tmp_path):
    """Whatever the bytes: the content comes back whole, or a UserError."""
    rng, path, good = random.Random(0), tmp_path / "damaged.pth", {"state_dict": {"a": torch.arange(9.)}, "epoch": 3}
    sources = []
    for new in (False, True):
        torch.save(good, path, _use_new_zipfile_serialization=new)
        sources.append(path.read_bytes())
    refused = 0
    for i in range(400):
        source = sources[i % 2]
        if i % 4 < 2:
            content = source[:rng.randrange(len(source))]
        else:
            content = bytearray(source)
            for _ in range(rng.randrange(1, 5)):
                content[rng.randrange(len(content))] = rng.randrange(256)
        path.write_bytes(content)
        try:
            find_state_dict(read_checkpoint(path), path)
        except UserError as error:
            refused += 1
            assert "\n" not in str(error) and str(path) in str(error)
    assert refused > 200


def test_missing_files_and_directories(tmp_path):
    assert refusal(read_checkpoint, tmp_path / "gone.pth") == f"no such checkpoint: {tmp_path / 'gone.pth'}"
    assert refusal(read_checkpoint, tmp_path / "TSM_x.pth").endswith("tools/download_weights.py downloads the released ones")
    assert str(tmp_path) in refusal(read_checkpoint, tmp_path)


@pytest.mark.parametrize("content", [
    [torch.zeros(1)], torch.zeros(3), 5, {}, {"state_dict": {}}, {"state_dict": None}, {"state_dict": [1, 2]},
    {"state_dict": "text"}, {"state_dict": torch.zeros(3)}, {"model": {"a": torch.zeros(1)}}, {0: torch.zeros(1)},
    {"state_dict": {"a": torch.zeros(1), "b": "text"}}, {"a": torch.zeros(1), "epoch": 3}], ids=repr)
def test_files_without_weights(content, tmp_path):
    path = save(content, tmp_path / "content.pth")
    message = refusal(lambda: find_state_dict(read_checkpoint(path), path))
    assert str(path) in message


def test_misfit_names_keys_and_shapes(weights):
    odd = dict(weights)
    odd["new_fc.weight"] = torch.zeros(9, 1280)
    odd["new_fc.extra"] = odd.pop("base_model.features.1.conv.0.weight")
    message = refusal(load_weights, TSN.from_spec(SETTINGS), odd, "odd.pth")
    for words in ("odd.pth: ", "1 shapes differ: new_fc.weight is (9, 1280), the model's is (4, 1280)",
                  "1 keys missing: base_model.features.1.conv.0.weight", "1 keys unknown: new_fc.extra"):
        assert words in message


def test_misfit_of_many_keys_stays_short():
    own = {f"layer{i}": torch.zeros(1) for i in range(100)}
    message = refusal(check_fit, {}, own, "x")
    assert "100 keys missing: layer0, layer1, layer2, ..." in message and len(message) < 200
    check_fit(dict(own), own, "x")


def test_no_classifier(tmp_path):
    assert "has no classifier" in refusal(count_classes, {"conv.weight": torch.zeros(2)}, tmp_path / "x.pth")


# ---- describing -----------------------------------------------------------------------------------------------

def test_a_released_file_tells_by_its_name(weights, tmp_path):
    path = save({"state_dict": {f"module.{key}": value for key, value in weights.items()}}, tmp_path / RELEASED)
    found = load_checkpoint(path)
    assert (found.source, found.dataset, found.class_names) == ("file name", "kinetics", None)
    assert found.spec == SETTINGS.with_(shift_place="blockres")
    model = TSN.from_spec(found.spec)
    load_weights(model, found.weights, "x")
    assert equal(model.state_dict(), weights)


def test_a_released_file_without_dropout(tmp_path):
    inside = filled(dropout=0.0).state_dict()
    found = load_checkpoint(save(dict(inside), tmp_path / RELEASED))
    assert found.spec.dropout == 0 and found.spec.num_class == 4
    model = TSN.from_spec(found.spec)
    load_weights(model, found.weights, "x")
    assert equal(model.state_dict(), inside)


def test_metadata_wins_over_the_name(weights, tmp_path):
    path = save({"state_dict": weights, "settings": SETTINGS.to_dict(), "dataset": "gestures",
                 "class_names": ["a", "b", "c", "d"]},
                tmp_path / "TSM_kinetics_RGB_resnet101_shift8_block_avg_segment16_e45_nl.pth")
    found = load_checkpoint(path)
    assert (found.source, found.dataset, found.class_names) == ("metadata", "gestures", ["a", "b", "c", "d"])
    assert found.spec == SETTINGS


def test_settings_of_a_newer_version_are_refused(weights, tmp_path):
    path = save({"state_dict": weights, "settings": {**SETTINGS.to_dict(), "attention": 3}}, tmp_path / "x.pth")
    assert "newer version: unknown settings attention" in refusal(load_checkpoint, path)


@pytest.mark.parametrize("settings", [{}, {"arch": "resnet18"}, None, "resnet18"], ids=repr)
def test_settings_that_are_incomplete_are_refused(settings, weights, tmp_path):
    path = save({"state_dict": weights, "settings": settings}, tmp_path / "x.pth")
    refusal(load_checkpoint, path)


# ---- fitting --------------------------------------------------------------------------------------------------

def described(weights, tmp_path, dataset="gestures", names=("a", "b", "c", "d"), settings=SETTINGS):
    return save({"state_dict": weights, "settings": settings.to_dict(), "dataset": dataset,
                 "class_names": list(names) if names else None}, tmp_path / "tuned.pth.tar")


@pytest.mark.parametrize("dataset, names, num_class, kept", [
    ("gestures", ["a", "b", "c", "d"], 4, True),
    ("renamed", ["a", "b", "c", "d"], 4, True),  # the names decide
    ("gestures", ["a", "b", "d", "c"], 4, False),
    ("gestures", ["a", "b"], 2, False),
    ("gestures", None, 4, True),
    ("gestures2", None, 4, False),  # no substring decides
    ("gesture", None, 4, False),
])
def test_tuning_keeps_the_classifier_of_the_same_classes(dataset, names, num_class, kept, weights, tmp_path):
    path = described(weights, tmp_path)
    torch.manual_seed(0)
    model = TSN.from_spec(SETTINGS.with_(num_class=num_class))
    fresh = model.new_fc.weight.detach().clone()
    assert tune_from(model, path, dataset, names) is kept
    state = model.state_dict()
    for key in state:
        if not key.startswith("new_fc."):
            assert torch.equal(state[key], weights[key]), key
    assert torch.equal(model.new_fc.weight, weights["new_fc.weight"] if kept else fresh)


def test_tuning_from_a_released_file(weights, tmp_path):
    path = save(weights, tmp_path / RELEASED.replace("kinetics", "somethingv2"))
    assert not tune_from(TSN.from_spec(SETTINGS), path, "something", None)
    assert tune_from(TSN.from_spec(SETTINGS), path, "somethingv2", None)


def test_tuning_refuses_another_network(weights, tmp_path):
    message = refusal(tune_from, TSN.from_spec(SETTINGS.with_(arch="resnet18")), described(weights, tmp_path), "x", None)
    assert "tuned.pth.tar: " in message and "keys missing: base_model.conv1.weight" in message


def test_same_classes_by_names_then_by_data_set(weights, tmp_path):
    named = load_checkpoint(described(weights, tmp_path))
    nameless = load_checkpoint(described(weights, tmp_path, names=None))
    assert same_classes(named, "other", ["a", "b", "c", "d"]) and not same_classes(named, "gestures", ["b", "a"])
    assert same_classes(nameless, "gestures", ["b", "a"]) and not same_classes(nameless, "other", ["a"])


# ---- writing --------------------------------------------------------------------------------------------------

def test_a_saved_checkpoint_reads_back(weights, tmp_path):
    path = tmp_path / "new directory" / "ckpt.pth.tar"
    save_checkpoint({"state_dict": weights, "epoch": 3, "best_prec1": 12.5, "names": ["a", None]}, path)
    content = read_checkpoint(path)
    assert equal(content.pop("state_dict"), weights)
    assert content == {"epoch": 3, "best_prec1": 12.5, "names": ["a", None]}
    assert [file.name for file in path.parent.iterdir()] == ["ckpt.pth.tar"]


def test_a_checkpoint_is_replaced_at_once(tmp_path):
    """Who reads the old file while the new one is written reads all of the old one."""
    path = tmp_path / "ckpt.pth.tar"
    save_checkpoint({"epoch": 1}, path)
    before = path.read_bytes()
    with open(path, "rb") as reader:
        save_checkpoint({"epoch": 2}, path)
        assert reader.read() == before
    assert read_checkpoint(path) == {"epoch": 2}


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()], ids=repr)
def test_a_write_that_fails_leaves_the_old_file(error, tmp_path, monkeypatch):
    path = tmp_path / "ckpt.pth.tar"
    save_checkpoint({"epoch": 1}, path)

    def half(content, target):
        Path(target).write_bytes(b"half of a")
        raise error

    monkeypatch.setattr(torch, "save", half)
    with pytest.raises(type(error)):
        save_checkpoint({"epoch": 2}, path)
    monkeypatch.undo()
    assert read_checkpoint(path) == {"epoch": 1}
    assert [file.name for file in tmp_path.iterdir()] == ["ckpt.pth.tar"]
