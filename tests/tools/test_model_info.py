"""tools/model_info.py: its table, its JSON, and the table in docs/models.md."""
import json
import re
from pathlib import Path

import pytest

from ops.flops import count_multiply_adds, count_parameters, gflops_per_view
from ops.spec import ModelSpec
from ops.temporal_shift import shift_layers
from tests.helpers.networks import on_meta
from tests.helpers.programs import assert_refused, run


def test_one_model_lists_its_shifted_layers(monkeypatch, capfd):
    done = run(monkeypatch, capfd, "tools.model_info", "resnet50", "--shift", "--shift_div", "4")
    lines = done.out.splitlines()
    assert sum(line.startswith("shift: ") for line in lines) == 16
    assert "shift: base_model.layer3.0.conv1: 128 of 512 channels each way" in lines
    assert "resnet50                 16   24,327,632          32.70 G" in lines
    assert lines[-1].startswith("counted: convolutions, linear layers and the matrix products")


def test_several_models_make_a_table(monkeypatch, capfd):
    done = run(monkeypatch, capfd, "tools.model_info", "resnet18", "resnet101", "mobilenetv2", "--shift",
               "--num_class", "27", "--num_segments", "16", "--input_size", "256")
    rows = [line.split() for line in done.out.splitlines() if line.startswith(("resnet", "mobilenet"))]
    assert [row[:2] for row in rows] == [["resnet18", "8"], ["resnet101", "18"], ["mobilenetv2", "10"]]
    assert "a view of 16 frames at 256 x 256 pixels" in done.out and "shift:" not in done.out


def test_json_holds_everything(monkeypatch, capfd):
    done = run(monkeypatch, capfd, "tools.model_info", "resnet18", "resnet34", "--json", "--shift", "--non_local",
               "--shift_direction", "unidirectional", "--modality", "Flow", "--temporal_pool", "--dropout", "0",
               "--consensus_type", "identity")
    rows = json.loads(done.out)
    assert [row["settings"]["arch"] for row in rows] == ["resnet18", "resnet34"]
    assert rows[0]["input_shape"] == [1, 80, 224, 224] and rows[0]["settings"]["shift_place"] == "blockres"
    assert rows[0]["shift_layers"][0] == {"name": "base_model.layer1.0.conv1", "channels": 64, "moved_each_way": 8}
    model = on_meta(ModelSpec(400, 8, "Flow", arch="resnet18", shift=True, non_local=True, temporal_pool=True, dropout=0.0,
                    shift_direction="unidirectional", consensus_type="identity"))
    assert rows[0]["parameters"] == count_parameters(model)
    assert rows[0]["multiply_adds"] == count_multiply_adds(model, (1, 80, 224, 224))


@pytest.mark.parametrize("argv, words", [
    (["resnet51"], ["'resnet51'", "resnet50"]),
    (["resnet18", "--shift", "--shift_place", "foo"], ["'foo'", "blockres"]),
    (["BNInception", "--non_local"], ["non_local", "BNInception"]),
    (["resnet18", "--num_segments", "0"], ["--num_segments 0"]),
    (["resnet18", "--input_size", "8"], ["--input_size 8"]),
    (["resnet18", "--modality", "Sound"], ["'Sound'", "RGB"]),
    ([], ["ARCH"]),
])
def test_wrong_options_are_refused(monkeypatch, capfd, argv, words):
    assert_refused(run(monkeypatch, capfd, "tools.model_info", *argv), *words)


def test_the_table_in_the_document_is_true():
    text = (Path(__file__).resolve().parents[2] / "docs" / "models.md").read_text().split("## Cost per view")[1]
    rows = re.findall(r"^\| (\S+?)(, non-local)? \| (\d+) \| ([\d,]+) \| ([\d.]+) G \|$", text, re.M)
    assert len(rows) == 9
    for name, non_local, layers, parameters, multiply_adds in rows:
        arch = {"BNInception": "BNInception"}.get(name, name.lower().replace("-", ""))
        model = on_meta(ModelSpec(400, 8, arch=arch, shift=True, non_local=bool(non_local)))
        assert len(list(shift_layers(model))) == int(layers)
        assert f"{count_parameters(model):,}" == parameters
        assert f"{gflops_per_view(model, 224):.2f}" == multiply_adds
