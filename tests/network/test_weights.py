"""Files of weights: read in every published form without running code, refused in one line, written whole or not at all."""
import os
import pickle
import random
from pathlib import Path

import pytest
import torch
from torch import nn

from ops.common.errors import UserError
from ops.models import TSN
from ops.weights import (
    check_fit,
    find_state_dict,
    fit_names,
    load_weights,
    non_finite,
    read_checkpoint,
    save_checkpoint,
    strip_prefix,
)
from tests.helpers.weight_files import SPEC, assert_equal_weights, make_filled, refusal, save


@pytest.fixture(scope="module")
def weights():
    return dict(make_filled().state_dict())


# ---- reading --------------------------------------------------------------------------------------------------

def forms(weights):
    """A state dict in every form in which such files exist."""
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
    model = TSN.from_spec(SPEC)
    load_weights(model, find_state_dict(read_checkpoint(path), path), str(path))
    assert_equal_weights(model.state_dict(), weights)


def test_zip_and_legacy_files(weights, tmp_path):
    path = tmp_path / "legacy.pth"
    torch.save(weights, path, _use_new_zipfile_serialization=False)
    assert_equal_weights(find_state_dict(read_checkpoint(path), path), weights)


def test_weights_with_shift_fit_a_model_without_and_back(weights):
    plain = TSN.from_spec(SPEC.with_(shift=False))
    load_weights(plain, weights, "x")
    shifted = TSN.from_spec(SPEC)
    load_weights(shifted, plain.state_dict(), "x")
    assert_equal_weights(shifted.state_dict(), weights)


@pytest.mark.parametrize("arch, last", [("mobilenetv2", "classifier"), ("resnet18", "fc")])
def test_the_head_fits_inside_and_outside_the_backbone(arch, last):
    outside, inside = (TSN.from_spec(SPEC.with_(arch=arch, dropout=dropout)) for dropout in (0.5, 0.0))
    load_weights(inside, outside.state_dict(), "x")
    head = getattr(inside.base_model, last)
    assert torch.equal(head.weight, outside.new_fc.weight) and torch.equal(head.bias, outside.new_fc.bias)
    again = TSN.from_spec(SPEC.with_(arch=arch, dropout=0.5))
    load_weights(again, inside.state_dict(), "x")
    assert_equal_weights(again.state_dict(), outside.state_dict())


def test_the_prefix_is_dropped_once_and_only_in_front():
    assert list(strip_prefix({"module.a.module.b": 0, "module.module.c": 0, "d": 0})) == [
        "a.module.b", "module.c", "d"]


def test_keys_that_fit_nothing_keep_their_names():
    own = {"base_model.layer1.0.conv1.net.weight": 0}
    assert list(fit_names({"base_model.layer1.0.conv1.weight": 0, "other.net.weight": 0}, own)) == [
        "base_model.layer1.0.conv1.net.weight", "other.net.weight"]


# ---- refusing -------------------------------------------------------------------------------------------------

class Evil:
    """Pickled, this makes a directory when it is read by a loader that runs code."""

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
    """Whatever the bytes: the whole content is read, or a UserError is raised."""
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
    message = refusal(load_weights, TSN.from_spec(SPEC), odd, "odd.pth")
    for words in ("odd.pth: ", "1 shapes differ: new_fc.weight is (9, 1280), the model's is (4, 1280)",
                  "1 keys missing: base_model.features.1.conv.0.weight", "1 keys unknown: new_fc.extra"):
        assert words in message


def test_misfit_of_many_keys_stays_short():
    own = {f"layer{i}": torch.zeros(1) for i in range(100)}
    message = refusal(check_fit, {}, own, "x")
    assert "100 keys missing: layer0, layer1, layer2, ..." in message and len(message) < 200
    check_fit(dict(own), own, "x")


# ---- writing --------------------------------------------------------------------------------------------------

def test_a_saved_checkpoint_reads_back(weights, tmp_path):
    path = tmp_path / "new directory" / "ckpt.pth.tar"
    save_checkpoint({"state_dict": weights, "epoch": 3, "best_prec1": 12.5, "names": ["a", None]}, path)
    content = read_checkpoint(path)
    assert_equal_weights(content.pop("state_dict"), weights)
    assert content == {"epoch": 3, "best_prec1": 12.5, "names": ["a", None]}
    assert [file.name for file in path.parent.iterdir()] == ["ckpt.pth.tar"]


def test_a_checkpoint_is_replaced_at_once(tmp_path):
    """A reader that opened the old file before the new one was written reads all of the old one."""
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


# ---- NaN and Inf ----------------------------------------------------------------------------------------------

@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_weights_that_are_not_finite_are_refused_by_name(value):
    model, weights = nn.Linear(3, 2), nn.Linear(3, 2).state_dict()
    before = model.weight.detach().clone()
    weights["weight"][1, 2] = value
    with pytest.raises(UserError, match="^x.pth: 1 of 2 tensors hold NaN or Inf, the first is weight: "):
        load_weights(model, weights, "x.pth")
    assert torch.equal(model.weight, before)


def test_finite_weights_of_every_type_are_not_refused():
    values = {"largest": torch.full((9,), torch.finfo(torch.float32).max), "counter": torch.tensor(3),
              "empty": torch.ones(0), "half": torch.ones(2, dtype=torch.float16),
              "byte": torch.ones(2).to(torch.float8_e4m3fn)}
    assert non_finite(values) == []
    assert non_finite({**values, "double": torch.tensor(1e300, dtype=torch.float64)}) == ["double"], "float32 lacks it"
