"""The exported file: what its metadata holds, that it runs without this code, and which files are refused."""
import json

import onnx
import onnxruntime
import pytest
import torch

from ops.common.errors import UserError
from ops.runtimes.exported_file import exported_path, read_exported, write_exported
from ops.runtimes.model_info import METADATA_KEY, VERSION
from tests.helpers.golden_model import clip
from tests.helpers.online import SIZE, assert_close, stream_logits, with_metadata


def test_the_metadata_describes_the_graph(exports, onlines):
    exported, online = exports["mobilenetv2"], onlines["mobilenetv2"]
    model = onnx.load_from_string(exported.content)
    entry = json.loads({prop.key: prop.value for prop in model.metadata_props}[METADATA_KEY])

    def shapes(values):
        return {value.name: [dim.dim_param or dim.dim_value for dim in value.type.tensor_type.shape.dim]
                for value in values}
    assert entry["inputs"] == shapes(model.graph.input) and entry["outputs"] == shapes(model.graph.output)
    assert entry["inputs"]["frames"] == ["batch", 3, SIZE, SIZE]
    assert entry["outputs"]["logits"] == ["batch", 5]
    assert list(entry["inputs"])[1:] == [f"state_{i}" for i in range(10)]
    assert entry["state_shapes"] == [list(tensor.shape[1:]) for tensor in online.initial_state()]
    assert entry["preprocessing"] == online.preprocessing.to_dict() and entry["spec"]["arch"] == "mobilenetv2"
    assert b"site-packages" not in exported.content and b"/ops/" not in exported.content, "no paths of this machine"


def test_the_file_runs_without_this_code(exports, onlines, tmp_path):
    """ONNX Runtime and the metadata are all that a device needs."""
    path = tmp_path / "step.onnx"
    write_exported(exports["resnet18"], path)
    assert [file.name for file in tmp_path.iterdir()] == ["step.onnx"], "the weights are inside"
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    entry = json.loads(session.get_modelmeta().custom_metadata_map[METADATA_KEY])
    frames = clip(3, 4, 3, SIZE).unflatten(1, (4, 3))
    state = {name: torch.zeros(3, *shape[1:]).numpy() for name, shape in entry["inputs"].items() if name != "frames"}
    rows = []
    for i in range(4):
        logits, *new_state = session.run(list(entry["outputs"]), {"frames": frames[:, i].numpy(), **state})
        state = dict(zip(state, new_state))
        rows.append(torch.from_numpy(logits))
    assert_close(torch.stack(rows, dim=1), stream_logits(onlines["resnet18"], frames.flatten(1, 2), 4))


def test_a_written_file_is_read_back(exports, tmp_path):
    path = tmp_path / "a" / "step.onnx"
    write_exported(exports["resnet18"], path)
    again = read_exported(path)
    assert again == exports["resnet18"]
    assert [file.name for file in path.parent.iterdir()] == ["step.onnx"]


@pytest.mark.parametrize("content, words", [(None, "cannot read"), (b"not onnx at all", "not a readable ONNX file"),
                                            (b"", "no metadata")])
def test_a_wrong_file_is_refused(tmp_path, content, words):
    path = tmp_path / "step.onnx"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UserError, match=words):
        read_exported(path)


@pytest.mark.parametrize("change", [
    lambda entry: "{", lambda entry: "[]", lambda entry: "7", lambda entry: json.dumps({**entry, "version": VERSION - 1}),
    lambda entry: json.dumps({key: value for key, value in entry.items() if key != "version"}),
    lambda entry: json.dumps({key: value for key, value in entry.items() if key != "fingerprint"}),
    lambda entry: json.dumps({key: value for key, value in entry.items() if key != "spec"}),
    lambda entry: json.dumps({**entry, "spec": {**entry["spec"], "unheard_of": 1}}),
    lambda entry: json.dumps({**entry, "spec": {"arch": "resnet18"}}),
    lambda entry: json.dumps({**entry, "state_shapes": 8}), lambda entry: json.dumps({**entry, "height": "tall"}),
    lambda entry: json.dumps({**entry, "state_shapes": entry["state_shapes"][1:]}),
    lambda entry: json.dumps({**entry, "height": float(entry["height"])}),
    lambda entry: json.dumps({**entry, "class_names": 5}), lambda entry: json.dumps({**entry, "class_names": ["a"]}),
    lambda entry: json.dumps({**entry, "fingerprint": 5}), lambda entry: json.dumps({**entry, "precision": 5}),
    lambda entry: json.dumps({**entry, "spec": {**entry["spec"], "dropout": 7}}),
    lambda entry: json.dumps({**entry, "preprocessing": {**entry["preprocessing"], "std": [0.0, 1.0, 1.0]}}),
    lambda entry: json.dumps({**entry, "preprocessing": {**entry["preprocessing"], "mean": [float("nan")] * 3}}),
    lambda entry: "[" * 100_000,
])
def test_wrong_metadata_is_one_line(exports, tmp_path, change):
    entry = json.loads(exports["resnet18"].info.to_json())
    path = tmp_path / "step.onnx"
    path.write_bytes(with_metadata(exports["resnet18"], json.dumps(entry)))
    assert read_exported(path).info == exports["resnet18"].info
    path.write_bytes(with_metadata(exports["resnet18"], change(entry)))
    with pytest.raises(UserError, match="step.onnx is damaged .*: export it again with tools/export.py"):
        read_exported(path)


def test_metadata_of_another_graph_is_refused(exports, tmp_path):
    path = tmp_path / "step.onnx"
    path.write_bytes(with_metadata(exports["resnet18"], exports["mobilenetv2"].info.to_json()))
    with pytest.raises(UserError, match="step.onnx is damaged .* its metadata 'tsm': its inputs are not the graph's"):
        read_exported(path)


def test_weights_in_a_step_that_are_not_finite_are_refused_by_name(exports, tmp_path):
    model = onnx.load_from_string(exports["resnet18"].content)
    weights = next(value for value in model.graph.initializer if len(value.dims) == 4)
    values = onnx.numpy_helper.to_array(weights).copy()
    values[0] = float("nan")
    weights.CopyFrom(onnx.numpy_helper.from_array(values, weights.name))
    path = tmp_path / "step.onnx"
    path.write_bytes(model.SerializeToString())
    with pytest.raises(UserError, match=f"step.onnx: 1 of .* tensors hold NaN or Inf, the first is {weights.name}: "):
        read_exported(path)


def test_a_step_exported_by_an_earlier_version_is_refused(exports, tmp_path):
    """Version 1 called the state's inputs before_i and the spec `settings`."""
    entry = json.loads(exports["resnet18"].info.to_json())
    shapes, spec = entry.pop("state_shapes"), entry.pop("spec")
    old = {**entry, "version": 1, "settings": spec, "memories": shapes,
           "inputs": {name.replace("state_", "before_"): shape for name, shape in entry["inputs"].items()},
           "outputs": {name.replace("new_state_", "after_"): shape for name, shape in entry["outputs"].items()}}
    path = tmp_path / "step.onnx"
    path.write_bytes(with_metadata(exports["resnet18"], json.dumps(old)))
    with pytest.raises(UserError, match="was written by another version: .*: export it again with tools/export.py"):
        read_exported(path)


@pytest.mark.parametrize("name, wanted", [("a.pth.tar", "a.onnx"), ("a.b.pth", "a.b.onnx"), ("a", "a.onnx")])
def test_the_step_is_beside_the_weights(tmp_path, name, wanted):
    assert exported_path(tmp_path / name) == tmp_path / wanted
