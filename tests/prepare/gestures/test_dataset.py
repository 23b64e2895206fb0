"""The gestures data set is made on first use, unless main.py's arguments are wrong."""
import sys

import pytest

from ops.data.list_files import read_list
from ops.dataset_config import resolve_dataset
from ops.prepare.gestures import dataset
from ops.prepare.gestures.definition import CLASSES, VIDEOS
from tests.helpers.files import tree
from tests.helpers.programs import assert_refused, run


def test_the_first_use_makes_what_the_commands_make(tmp_path, monkeypatch, capfd):
    monkeypatch.setattr("ops.prepare.gestures.dataset.VIDEOS", 9)
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    capfd.readouterr()
    data = resolve_dataset("gestures", "RGB", str(tmp_path / "used"), needed=["train_list", "val_list"])
    err = capfd.readouterr().err
    assert "gestures: 100%" in err and "9/9" in err
    assert data.class_names == list(CLASSES) and len(read_list(data.train_list)) == 7
    monkeypatch.undo()
    directory = tmp_path / "tools" / "gestures"
    for program, *argv in (["make_gestures", "--out", directory, "--videos", 9],
                           ["vid2img_sthv2", directory / "videos", directory / "frames", "--height", 0],
                           ["gen_label_sthv2", "--labels", directory, "--frames", directory / "frames", "--out", directory]):
        assert run(monkeypatch, capfd, f"tools.{program}", *argv).status == 0
    made = tree(directory)
    assert tree(tmp_path / "used" / "gestures") == made and len(made) > 200
    monkeypatch.setattr("ops.prepare.gestures.dataset.make_gestures", lambda *args: pytest.fail("made again"))
    resolve_dataset("gestures", "RGB", str(tmp_path / "used"))


def test_first_use_the_command_and_the_quickstart_make_equally_many_videos():
    import tools.make_gestures
    import tools.quickstart
    assert tools.quickstart.build_parser().parse_args([]).videos == VIDEOS == dataset.VIDEOS
    assert tools.make_gestures.build_parser().parse_args(["--out", "x"]).videos == VIDEOS


@pytest.mark.parametrize("more, words", [
    (["--arch", "resnet19"], "--arch 'resnet19'"), (["--shift_place", "foo"], "--shift_place 'foo'"),
    (["--resume", "nowhere.pth"], "no such checkpoint: nowhere.pth"), (["--dropout", 1], "--dropout 1.0"),
    (["--tune_from", "nowhere.pth"], "no such checkpoint: nowhere.pth"),
    (["--pretrain", "nowhere.pth"], "no such checkpoint: nowhere.pth")])
def test_wrong_flags_are_refused_before_the_data_set_is_made(more, words, tmp_path, monkeypatch, capfd):
    monkeypatch.setattr("ops.prepare.gestures.dataset.prepare_gestures", lambda root: pytest.fail("made the data set first"))
    assert_refused(run(monkeypatch, capfd, "main", "gestures", "RGB", "--shift", "--root_dataset", tmp_path, *more), words)
