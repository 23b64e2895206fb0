"""int8 steps: close to float32 on a real video, in every runtime alike, and a quarter of the size."""
import json
from dataclasses import replace

import onnx
import pytest
import torch

from ops.common.errors import UserError
from ops.runtimes.model_info import METADATA_KEY
from ops.runtimes.quantize import quantize_step
from ops.runtimes.registry import open_exported
from tests.helpers.online import logits_over, video_frames


def rms(values):
    return float(values.square().mean().sqrt())


def test_int8_is_close_on_a_real_video(onlines, int8):
    """The frames come after the calibration frames. Random weights amplify rounding far more than trained ones."""
    frames = video_frames(onlines["resnet18"], 12, 36)
    wanted = logits_over(onlines["resnet18"], frames)
    onnx_, openvino = (logits_over(open_exported(backend, int8, "int8"), frames) for backend in ("onnxruntime", "openvino"))
    for got in (onnx_, openvino):
        assert 0.01 < rms(got - wanted) / rms(wanted) < 0.3
        assert float(torch.cosine_similarity(got.flatten(), wanted.flatten(), dim=0)) > 0.95
        assert float((got.argmax(dim=1) == wanted.argmax(dim=1)).float().mean()) >= 0.75
    assert rms(onnx_ - openvino) < 0.1 * rms(wanted), "both compute the same file"


def test_an_int8_step_is_marked_and_small(exports, int8):
    small, large = int8, exports["resnet18"]
    assert small.info == replace(large.info, precision="int8", versions=small.info.versions)
    assert len(small.content) < 0.4 * len(large.content)
    model = onnx.load_from_string(small.content)
    assert json.loads({entry.key: entry.value for entry in model.metadata_props}[METADATA_KEY])["precision"] == "int8"
    with pytest.raises(UserError, match="already int8"):
        quantize_step(small, [])
    with pytest.raises(UserError, match="the given sources have none"):
        quantize_step(large, [[], []])
    for exported, precision in ((small, "float32"), (large, "int8")):
        with pytest.raises(UserError, match=f"precision {precision}: this exported model computes"):
            open_exported("onnxruntime", exported, precision)
