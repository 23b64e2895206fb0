"""Traps of the published handling of checkpoints, each with a test that bears its name."""
import pytest
import torch

from ops.checkpoints.matching import tune_from
from ops.checkpoints.store_name import parse_name
from ops.models import TSN
from ops.spec import ModelSpec
from ops.weights import save_checkpoint


def small(**options):
    torch.manual_seed(0)
    return TSN.from_spec(ModelSpec(**{"num_class": 4, "num_segments": 4, "arch": "resnet18", "shift": True,
                                      "input_size": 32, **options}), inplace=False)


def test_tune_from_decides_by_classes_not_by_substring(tmp_path):
    """`something` in `somethingv2` is true, but their classes differ."""
    directory = tmp_path / "temporal-shift-module" / "somethingv2"
    directory.mkdir(parents=True)
    path = directory / "TSM_something_RGB_resnet18_shift8_blockres_avg_segment4_e45.pth"
    save_checkpoint({"state_dict": {f"module.{k}": v for k, v in small().state_dict().items()}}, path)
    assert tune_from(small(), path, dataset="somethingv2", class_names=None) is False
    assert tune_from(small(), path, dataset="something", class_names=None) is True


@pytest.mark.parametrize("name, wanted", [
    ("TSM_kinetics_RGB_resnet50_avg_segment5_e50.pth", ("kinetics", "RGB", "resnet50", False, 5, False)),
    ("TSM_kinetics_RGB_resnet50_shift8_blockres_avg_segment8_e100_dense_nl.pth",
     ("kinetics", "RGB", "resnet50", True, 8, True)),
    ("TSM_kinetics_RGB_mobilenetv2_shift8_blockres_avg_segment8_e100_dense.pth",
     ("kinetics", "RGB", "mobilenetv2", True, 8, False)),
    ("TSM_kinetics_Flow_resnet50_shift8_blockres_avg_segment8_e50.pth",
     ("kinetics", "Flow", "resnet50", True, 8, False)),
    ("TSM_something_RGB_resnet101_shift8_blockres_avg_segment8_e45.pth",
     ("something", "RGB", "resnet101", True, 8, False)),
    ("TSM_somethingv2_RGB_resnet50_shift8_blockres_avg_segment16_e45.pth",
     ("somethingv2", "RGB", "resnet50", True, 16, False))])
def test_a_directory_called_temporal_shift_module_does_not_confuse_the_name(name, wanted, tmp_path):
    dataset, found = parse_name(tmp_path / "temporal-shift-module" / "TSM_shift_nl" / name)
    assert (dataset, found["modality"], found["arch"], found["shift"], found["num_segments"],
            found["non_local"]) == wanted
