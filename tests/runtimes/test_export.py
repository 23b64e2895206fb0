"""The step exported beside the weights is used if it belongs to them."""
from dataclasses import replace

import pytest

from ops.runtimes.export import ExportOptions, describe_model, export_model
from ops.runtimes.exported_file import ExportedModel, exported_path, write_exported
from ops.runtimes.publish import publish
from ops.runtimes.registry import open_runtime
from ops.streaming.online import OnlineTSM
from tests.helpers.online import SIZE, make_model, save_online


def test_fingerprints_differ_between_models_and_sizes(onlines):
    online = OnlineTSM(make_model("resnet18", 4, input_size=SIZE))
    same = describe_model(online).fingerprint
    assert same == describe_model(onlines["resnet18"]).fingerprint
    assert describe_model(online, ExportOptions(96, 64)).fingerprint != same
    online.new_fc.bias[0] += 1e-3
    assert describe_model(online).fingerprint != same


def test_a_step_of_another_model_is_not_used(monkeypatch, exports, tmp_path, caplog):
    weights = save_online(tmp_path, SIZE, seed=1)
    write_exported(exports["resnet18"], exported_path(weights))
    monkeypatch.setattr("ops.runtimes.export.export_model", lambda online: ExportedModel(
        "onnx", exports["resnet18"].content, describe_model(online)))
    runtime = open_runtime("onnxruntime", OnlineTSM(weights), weights=weights)
    assert runtime.info.fingerprint != exports["resnet18"].info.fingerprint
    assert "belongs to another model" in caplog.text


@pytest.mark.parametrize("precision", ["float32", "int8"])
def test_class_names_and_preprocessing_come_from_the_weights(exports, int8, tmp_path, precision):
    """The step beside the weights may be older than the class names in the weight file."""
    weights = save_online(tmp_path)
    old = exports["resnet18"] if precision == "float32" else int8
    stale = replace(old.info, class_names=list("vwxyz"), preprocessing=replace(old.info.preprocessing, std=(9, 9, 9)))
    write_exported(replace(old, info=stale), exported_path(weights, precision))
    online = OnlineTSM(weights)
    runtime = open_runtime("onnxruntime", online, weights=weights, precision=precision)
    assert runtime.class_names == list("abcde") == runtime.info.class_names
    assert runtime.preprocessing == online.preprocessing
    assert runtime.info.fingerprint == old.info.fingerprint, "the file was used"


def test_a_step_of_a_fixed_number_of_streams_is_run_and_compared(tmp_path):
    online = OnlineTSM(make_model("resnet18", 4, input_size=32))
    exported, found = publish(export_model(online, "torch", ExportOptions(batch=3)), tmp_path / "step.pt2", online)
    assert exported.info.batch == 3 and found.compared == 6 * 4
