"""Published names of runs and files: written, and read back whatever the rest of the path is."""
import itertools
import re
from pathlib import Path

import pytest

from ops.checkpoints.store_name import parse_name, store_name
from ops.spec import ModelSpec


def options(modality="RGB", arch="resnet50", shift=True, segments=8, pool=False, non_local=False, div=8,
            place="blockres", direction="bidirectional", consensus="avg"):
    return {"modality": modality, "arch": arch, "shift": shift, "shift_div": div,
            "shift_place": place if shift else "", "shift_direction": direction, "shift_stages": "",
            "consensus_type": consensus, "num_segments": segments, "temporal_pool": pool, "non_local": non_local}


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
def test_other_names_are_not_published_names(name):
    assert parse_name(Path("TSM_old") / name) is None


def test_store_names_can_be_read_back():
    """Parsing a store name gives the options that it was made from."""
    found = 0
    models = itertools.product(("resnet18", "mobilenetv2"), (False, True), (8, 4), ("", "block"),
                               ("bidirectional", "unidirectional"), ("avg", "identity"), (False, True), (False, True))
    runs = itertools.product(("imagenet", "none", "/my dir/file_v2.pth"), ("step", "cos"), (False, True),
                             (None, "try_3"))
    for (arch, shift, div, place, direction, consensus, pool, non_local), run in itertools.product(models, runs):
        spec = ModelSpec(7, 5, "RGB", arch, shift, div, place, direction, consensus, temporal_pool=pool,
                         non_local=non_local)
        name = store_name(spec, "somethingv2", 50, **dict(zip(("pretrain", "lr_type", "dense_sample", "suffix"), run)))
        dataset, options_read = parse_name(Path("checkpoint") / name / "ckpt.pth.tar")
        read = ModelSpec(num_class=7, **options_read)
        assert dataset == "somethingv2"
        if shift:
            assert read.place == spec.place
            assert read.with_(shift_place=place) == spec, name
        else:  # then how it would shift does not matter
            assert read.with_(shift_div=div, shift_place=place, shift_direction=direction) == spec, name
        found += 1
    assert found == 6144


def test_store_name_by_hand():
    spec = ModelSpec(174, 8, arch="resnet50", shift=True)
    assert store_name(spec, "somethingv2", 50) == "TSM_somethingv2_RGB_resnet50_shift8_blockres_avg_segment8_e50"
    full = spec.with_(temporal_pool=True, non_local=True, shift_direction="unidirectional")
    assert store_name(full, "jester", 9, pretrain="none", lr_type="cos", dense_sample=True, suffix="x") == (
        "TSM_jester_RGB_resnet50_shift8_blockres_uni_tpool_avg_segment8_e9_none_cos_dense_nl_x")
    assert store_name(spec.with_(shift=False), "ucf101", 25) == "TSM_ucf101_RGB_resnet50_avg_segment8_e25"
