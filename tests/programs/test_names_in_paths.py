"""Text from flags, yaml, csv, label files and lists becomes part of paths that are written: none of it leads elsewhere."""
import pytest

import opts
from ops.checkpoints.store_name import store_name
from ops.common.errors import UserError
from ops.prepare.annotations import parse_kinetics, parse_sthv2
from ops.prepare.extract_flow import extract_flow_directory
from ops.prepare.labeled_videos import read_csv
from ops.prepare.user_file import read_dataset_file
from ops.spec import ModelSpec
from ops.video.shards import pack
from tests.helpers.clips import clip
from tests.helpers.programs import assert_refused, make_frames, make_somethingv2, run

OUTSIDE = ["../x", "../../x", "/tmp/x", "a/../../x", ".."]


@pytest.mark.parametrize("suffix", ["../../x", "/x", "a/b", "..\\x", "a\nb", "\0", "a\x7f"])
def test_the_suffix_of_a_run_is_no_path(suffix):
    for make in (lambda: store_name(ModelSpec(2, 8), "ucf101", 5, suffix=suffix),
                 lambda: opts.parse_train(["ucf101", "RGB", "--suffix", suffix])):
        with pytest.raises(UserError, match="^suffix .*: choose text without slashes") as info:
            make()
        assert info.value.options == ("suffix",)


def test_a_run_writes_nothing_outside_its_directories(tmp_path, monkeypatch, capfd):
    make_somethingv2(tmp_path / "data")
    before = set(tmp_path.rglob("*"))
    done = run(monkeypatch, capfd, "main", "somethingv2", "RGB", "--root_dataset", tmp_path / "data", "--root_model",
               tmp_path / "a" / "b", "--root_log", tmp_path / "a" / "c", "--suffix", "../../x", "--pretrain", "none")
    assert_refused(done, "--suffix ../../x: choose")
    assert set(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("name", [*OUTSIDE, ".x", "a/b", "a\\b"])
def test_data_sets_have_no_paths_for_names(name, tmp_path):
    (tmp_path / "own.yaml").write_text(f"'{name}': {{root: ., train_list: t, val_list: v, num_class: 2}}\n")
    with pytest.raises(UserError, match="own.yaml:1: .* cannot be a data set's name"):
        read_dataset_file(tmp_path / "own.yaml")


@pytest.mark.parametrize("template", ["../{:06d}.jpg", "/tmp/{:06d}.jpg", "a/{:06d}.jpg"])
def test_templates_are_file_names(template, tmp_path):
    (tmp_path / "own.yaml").write_text(
        f"mine: {{root: ., train_list: t, val_list: v, num_class: 2, template: '{template}'}}\n")
    with pytest.raises(UserError, match="own.yaml:1: template .*: choose a file name"):
        read_dataset_file(tmp_path / "own.yaml")


@pytest.mark.parametrize("path", ["../x.mp4", "a/../../x.mp4", "/tmp/x.mp4"])
def test_csv_files_name_videos_inside_the_root(path, tmp_path):
    (tmp_path / "v.csv").write_text(f"{path},left\n")
    with pytest.raises(UserError, match="line 1: .* is not inside"):
        read_csv(tmp_path / "v.csv", tmp_path / "root")


@pytest.mark.parametrize("name", OUTSIDE)
def test_lists_to_write_for_name_videos_below_the_root(name, tmp_path):
    make_frames(tmp_path / "frames", {"a": (2, 0)})
    (tmp_path / "x").mkdir()
    clip(tmp_path / "x.mp4", 2)
    with pytest.raises(UserError, match="not below the root"):
        pack(tmp_path / "frames", tmp_path / "shards", videos=["a", name])
    with pytest.raises(UserError, match="the list: .* cannot be the name of a video"):
        extract_flow_directory(tmp_path / "frames", tmp_path / "flow", frames=True, listed=["a", name])
    assert not (tmp_path / "flow").exists() and not (tmp_path / "shards").exists()


@pytest.mark.parametrize("name", OUTSIDE)
def test_label_files_name_videos_and_classes_below_the_root(name, tmp_path):
    for file in ("labels", "train", "validation"):
        content = '{"A": "0"}' if file == "labels" else f'[{{"id": "{name}", "template": "A"}}]'
        (tmp_path / f"{file}.json").write_text(content)
    with pytest.raises(UserError, match="train.json.* cannot be the name of a video"):
        parse_sthv2(tmp_path)
    for split, label in (("train", name), ("val", "A")):
        (tmp_path / f"kinetics_{split}.csv").write_text(
            f"label,youtube_id,time_start,time_end,split\n{label},abcdefghijk,0,10,{split}\n")
    with pytest.raises(UserError, match="cannot be the name of a"):
        parse_kinetics(tmp_path)
