"""The table of runtimes: a new one is a row; wrong names and missing packages are one line."""
import sys

import pytest
import torch

from ops.common.errors import UserError
from ops.runtimes.registry import BACKENDS, open_runtime
from ops.streaming.stream import Stream
from tests.helpers.online import SIZE, assert_close


def test_a_new_runtime_is_a_module_and_a_row(monkeypatch, onlines):
    monkeypatch.setitem(BACKENDS, "toy", "tests.runtimes.toy_runtime:ToyRuntime")
    runtime = open_runtime("toy", onlines["resnet18"])
    frames = torch.randint(0, 256, (4, 2, 3, SIZE, SIZE), dtype=torch.uint8, generator=torch.Generator().manual_seed(3))
    toy, plain = (Stream(model, 2, smoothing="none") for model in (runtime, onlines["resnet18"]))
    for pair in frames:
        for got, wanted in zip(toy.push(pair), plain.push(pair)):
            assert got.name == wanted.name
            assert_close(got.logits[None], wanted.logits[None])
    with pytest.raises(UserError, match="precision int8: the toy computes float32"):
        open_runtime("toy", onlines["resnet18"], precision="int8")


def test_a_device_is_for_torch_only(monkeypatch, exports, onlines, caplog):
    monkeypatch.setattr("ops.runtimes.export.export_model", lambda online: exports["resnet18"])
    for device in ("auto", "cpu", torch.device("cpu")):
        open_runtime("onnxruntime", onlines["resnet18"], device=device)
    assert not caplog.records
    open_runtime("openvino", onlines["resnet18"], device=torch.device("cuda", 0))
    assert "device cuda:0 has no effect" in caplog.text
    for device in ("GPU", "tpu"):  # names that torch does not know
        open_runtime("onnxruntime", onlines["resnet18"], device=device)
        assert f"device {device} has no effect: ONNX Runtime runs on the CPU" in caplog.text


def test_wrong_names_are_refused(onlines):
    online = onlines["resnet18"]
    with pytest.raises(UserError, match="backend 'tensorrt': choose torch, onnxruntime, openvino"):
        open_runtime("tensorrt", online)
    with pytest.raises(UserError, match="precision 'int4': choose float32, bfloat16, int8"):
        open_runtime("torch", online, precision="int4")
    with pytest.raises(UserError, match="ONNX Runtime computes float32 and int8"):
        open_runtime("onnxruntime", online, precision="bfloat16")
    with pytest.raises(UserError, match="PyTorch computes float32 and bfloat16"):
        open_runtime("torch", online, precision="int8")


@pytest.mark.parametrize("backend, package", [("onnxruntime", "onnxruntime"), ("openvino", "openvino"),
                                              ("onnxruntime", "onnx"), ("openvino", "onnxscript")])
def test_a_missing_package_is_one_line(monkeypatch, onlines, backend, package):
    monkeypatch.setitem(sys.modules, package, None)  # Python's mark of a module that cannot be imported
    with pytest.raises(UserError, match=f"needs the package {package}, .*requirements-runtimes.txt"):
        open_runtime(backend, onlines["resnet18"])
