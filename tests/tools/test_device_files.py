"""tools/export_inputs.py and score_outputs.py: clips to plain files and scores back, with ONNX Runtime as the device."""
import json
import shutil

import numpy as np
import onnxruntime
import pytest
import torch

from ops.checkpoints import load_checkpoint
from tests.helpers.members import member
from tests.helpers.programs import assert_refused, make_somethingv2, run

VIDEOS = 5


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """A data set, a checkpoint, and the same network as an ONNX file."""
    root = tmp_path_factory.mktemp("data")
    make_somethingv2(root, train=1, val=VIDEOS)
    file = member(root / "tsm.pth.tar", shift=True)
    with torch.inference_mode():
        torch.onnx.export(load_checkpoint(file).build(), (torch.zeros(1, 9, 32, 32),), str(root / "tsm.onnx"), dynamo=False,
                          input_names=["clips"])
    return root


def export_inputs(monkeypatch, capfd, data, out, *more):
    return run(monkeypatch, capfd, "tools.export_inputs", "somethingv2", "--weights", data / "tsm.pth.tar", "--root_dataset",
               data, "-j", 0, "--out", out, *more)


def compute(data, inputs, outputs):
    """What the device does: each file of clips through the network, its logits to a file."""
    session = onnxruntime.InferenceSession(data / "tsm.onnx", providers=["CPUExecutionProvider"])
    outputs.mkdir()
    for file in (inputs / "frames").iterdir():
        clip = np.fromfile(file, "<f4").reshape(1, 9, 32, 32)
        session.run(None, {"clips": clip})[0].astype("<f4").tofile(outputs / f"{file.stem}_0.bin")


def score(monkeypatch, capfd, inputs, outputs):
    return run(monkeypatch, capfd, "tools.score_outputs", outputs, "--inputs", inputs)


@pytest.fixture
def scored(data, tmp_path, monkeypatch, capfd):
    """(inputs, outputs) of the whole list."""
    done = export_inputs(monkeypatch, capfd, data, tmp_path / "in")
    assert done.status == 0 and "5 videos x 1 view of [1, 9, 32, 32], 5 files written now" in done.out
    compute(data, tmp_path / "in", tmp_path / "out")
    return tmp_path / "in", tmp_path / "out"


@pytest.mark.parametrize("protocol", [(), ("--test_crops", 10)], ids=str)
def test_a_round_trip_gives_the_lines_of_test_models(protocol, data, tmp_path, monkeypatch, capfd):
    inputs, outputs = tmp_path / "in", tmp_path / "out"
    assert export_inputs(monkeypatch, capfd, data, inputs, *protocol).status == 0
    compute(data, inputs, outputs)
    done = score(monkeypatch, capfd, inputs, outputs)
    tested = run(monkeypatch, capfd, "test_models", "somethingv2", "--weights", data / "tsm.pth.tar", "--root_dataset", data,
                 "-j", 0, "--out", tmp_path / "report", *protocol)
    assert done.status == tested.status == 0
    assert done.out.splitlines()[-2:] == tested.out.splitlines()[-2:]
    views = 10 if protocol else 1
    logits = np.stack([np.fromfile(outputs / f"frames{i}_0.bin", "<f4") for i in range(VIDEOS * views)])
    if views == 1:
        assert np.allclose(logits, np.load(tmp_path / "report" / "scores.npy"), atol=1e-4)
    assert [int(np.fromfile(inputs / "label" / f"label{i * views}.bin", "<i4")[0]) for i in range(VIDEOS)] == [1, 2, 3, 0, 1]


def test_parts_and_an_interrupted_run_give_the_same_files(scored, data, tmp_path, monkeypatch, capfd):
    inputs, _ = scored
    for part in ("1/2", "2/2"):
        assert export_inputs(monkeypatch, capfd, data, tmp_path / "parts", "--part", part).status == 0
    whole = {file.relative_to(inputs): file.read_bytes() for file in inputs.rglob("*.*")}
    assert {file.relative_to(tmp_path / "parts"): file.read_bytes() for file in (tmp_path / "parts").rglob("*.*")} == whole
    (inputs / "frames" / "frames3.bin").unlink()
    (inputs / "frames" / "frames1.bin").write_bytes(b"short")
    assert "2 files written now" in export_inputs(monkeypatch, capfd, data, inputs).out
    assert {file.relative_to(inputs): file.read_bytes() for file in inputs.rglob("*.*")} == whole
    assert_refused(export_inputs(monkeypatch, capfd, data, inputs, "--test_crops", 3), "made with other settings", "views")


@pytest.mark.parametrize("change, words", [
    (lambda inputs, outputs: (outputs / "frames3_0.bin").unlink(), ["lacks 1 of the 5 files", "frames3_0.bin"]),
    (lambda inputs, outputs: shutil.rmtree(outputs), ["lacks 5 of the 5 files"]),
    (lambda inputs, outputs: (outputs / "frames2_0.bin").write_bytes(bytes(7)), ["has 7 bytes", "4 scores"]),
    (lambda inputs, outputs: np.full(4, np.nan, "<f4").tofile(outputs / "frames4_0.bin"), ["frames4_0.bin", "NaN or Inf"]),
    (lambda inputs, outputs: (inputs / "label" / "label0.bin").unlink(), ["cannot read", "label0.bin"]),
    (lambda inputs, outputs: np.array([9], "<i4").tofile(inputs / "label" / "label0.bin"), ["the label 9"]),
    (lambda inputs, outputs: (inputs / "inputs.json").unlink(), ["has no inputs.json"]),
    (lambda inputs, outputs: (inputs / "inputs.json").write_text(json.dumps({"videos": 5})), ["inputs.json is damaged"])])
def test_damaged_files_are_one_line(change, words, scored, monkeypatch, capfd):
    change(*scored)
    assert_refused(score(monkeypatch, capfd, *scored), *words)
