"""LiteRT files for phones: their metadata and, where the converter is installed (requirements-litert.txt), their numbers."""
import sys

import pytest
import torch

from ops.runtimes.export import ExportOptions, describe_model, export_model
from ops.runtimes.exported_file import ExportedModel, describe, read_exported, write_exported
from ops.runtimes.publish import publish
from ops.runtimes.registry import open_engine, open_step
from ops.streaming.online import OnlineTSM
from tests.helpers.online import logits_over, make_model, video_frames
from tests.helpers.weight_files import refusal

MODEL = b"\x1c\0\0\0TFL3" + bytes(range(256))  # as a .tflite begins; metadata are put behind it, whatever the model is


@pytest.fixture(scope="module")
def online():
    return OnlineTSM(make_model("mobilenetv2", 4, input_size=64))


def test_metadata_are_written_behind_the_model_and_replaced(online, tmp_path):
    first = describe(ExportedModel("litert", MODEL, describe_model(online)), describe_model(online, ExportOptions(batch=1)))
    again = describe(first, describe_model(online, ExportOptions(batch=2)))
    assert first.content.startswith(MODEL) and again.content.startswith(MODEL)
    write_exported(again, tmp_path / "model.tflite")
    assert read_exported(tmp_path / "model.tflite") == again and again.info.batch == 2
    assert describe(again, first.info).content == first.content


@pytest.mark.parametrize("content, words", [
    (b"no model", "not a readable LiteRT file"), (MODEL, "has no metadata 'tsm'")])
def test_other_files_are_one_line(content, words, tmp_path):
    (tmp_path / "model.tflite").write_bytes(content)
    assert words in refusal(read_exported, tmp_path / "model.tflite")


def test_other_precisions_are_refused(online):
    assert "written in fp32" in refusal(export_model, online, "litert", ExportOptions(precision="float16"))


def test_a_hundred_streamed_frames_equal_pytorchs(online, tmp_path):
    pytest.importorskip("litert_torch")
    exported, _ = publish(export_model(online, "litert"), tmp_path / "step.tflite", online)
    assert exported.info.batch == 1
    frames = video_frames(online, 0, 100)
    with torch.inference_mode():
        wanted = logits_over(online, frames)
    got = logits_over(open_step(tmp_path / "step.tflite"), frames)
    assert float((got - wanted).abs().max()) <= 1e-4 * float(wanted.abs().max()) and float(wanted.std()) > 0


@pytest.mark.parametrize("package, action", [
    ("litert_torch", lambda online: export_model(online, "litert")),
    ("ai_edge_litert", lambda online: open_engine(ExportedModel("litert", MODEL, describe_model(online))))])
def test_a_missing_package_is_one_line(package, action, online, monkeypatch):
    monkeypatch.setitem(sys.modules, package, None)
    assert refusal(action, online).endswith("pip install -r requirements-litert.txt")
