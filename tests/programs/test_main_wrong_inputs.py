"""What main.py refuses, with status 2 and one line, and the flags it ignores with a warning."""
import pytest

from tests.conftest import ROOT
from tests.helpers.programs import assert_refused, make_somethingv2, run
from tests.helpers.small_run import flags


@pytest.mark.parametrize("more, words", [
    (["--train_list", "nowhere.txt"], ["cannot read the video list nowhere.txt"]),
    (["--num_segments", 0], ["--num_segments 0"]),
    (["--shift_place", "foo"], ["--shift_place 'foo'", "choose block or blockres"]),
    (["--shift_div", 4096], ["--shift_div 4096", "64 channels"]),
    (["--arch", "resnet19"], ["--arch 'resnet19'", "resnet18"]),
    (["--resume", "nowhere.pth"], ["no such checkpoint: nowhere.pth"]),
    (["--resume", "LICENSE"], ["LICENSE is not a"]),
    (["--device", "tpu"], ["--device 'tpu'"]),
    (["--lr", "fast"], ["--lr", "fast"]),
    (["--lr", -1], ["--lr -1.0", "above 0"]),
    (["--momentum", -1], ["--momentum -1.0", "choose 0"]),
    (["--wd", "nan"], ["--weight-decay nan", "choose 0"]),
    (["--lr_type", "poly"], ["--lr_type 'poly'", "step, cos or percent"]),
    (["--epochs", 0], ["--epochs 0"]),
    (["--consensus_type", "max"], ["avg or identity"]),
    (["--pretrain", "nowhere.pth"], ["no such checkpoint: nowhere.pth"]),
    (["-e"], ["--resume PATH"]),
    (["--gpus", 7], ["--gpus 7"]),
    (["--no-such-flag"], ["--no-such-flag"]),
])
def test_wrong_flags(more, words, data, tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(ROOT)
    done = run(monkeypatch, capfd, "main", *flags(data, tmp_path, *more))
    assert_refused(done, *words)
    assert not (tmp_path / "model").exists(), "a refused run must leave nothing behind"


def test_wrong_data_set_and_modality(tmp_path, monkeypatch, capfd):
    assert_refused(run(monkeypatch, capfd, "main", "something3", "RGB"), "'something3'", "somethingv2")
    assert_refused(run(monkeypatch, capfd, "main", "jester", "Sound"), "modality 'Sound': choose RGB, Flow or RGBDiff")


@pytest.mark.parametrize("content, words", [
    ("", ["is empty"]), ("\n \n", ["is empty"]), ("clip 0\n", ["list.txt:1", "path num_frames label"]),
    ("clip 0 5 4\n", ["list.txt:1", "label 4 is outside the classes 0 to 3"]), ("clip 0 5 -1\n", ["label -1"]),
    ("clip 0 0 1\n", ["0 frames"]), ("gone 5 1\n" * 8, ["missing frame", "gone"])])
def test_wrong_lists(content, words, data, tmp_path, monkeypatch, capfd):
    (tmp_path / "list.txt").write_text(content)
    assert_refused(run(monkeypatch, capfd, "main", *flags(data, tmp_path, "--train_list", tmp_path / "list.txt",
                                                          "-j", 1)), *words)


def test_flip_labels_needs_classes_that_a_mirror_swaps(tmp_path, monkeypatch, capfd):
    make_somethingv2(tmp_path)
    argv = ["somethingv2", "RGB", "--arch", "resnet18", "--pretrain", "none", "--root_dataset", tmp_path, "-j", 0,
            "--root_log", tmp_path / "log", "--root_model", tmp_path / "model"]
    assert_refused(run(monkeypatch, capfd, "main", *argv, "--flip", "labels"), "--flip labels", "auto or none")
    assert_refused(run(monkeypatch, capfd, "main", *argv, "--flip", "both"), "--flip 'both'", "auto, none or labels")


def test_dead_flags_warn_once_and_are_hidden(data, tmp_path, monkeypatch, capfd):
    done = run(monkeypatch, capfd, "main", *flags(data, tmp_path, "--k", 3, "--flow_prefix", "x", "--debug",
                                                  "--epochs", 1))
    assert done.status == 0 and done.err.count("never did anything") == 1
    done = run(monkeypatch, capfd, "main", *flags(data, tmp_path, "--img_feature_dim", 9, "--resume", "nowhere.pth"))
    assert "--img_feature_dim never did anything" in done.err
    for flag in ("--img_feature_dim", "--pretrain"):
        done = run(monkeypatch, capfd, "test_models", "somethingv2", "--weights", "gone", flag, 9)
        assert f"{flag} has no effect" in done.err
    shown = run(monkeypatch, capfd, "main", "--help").out
    assert "--flow_prefix" not in shown and "--shift_div" in shown


def test_the_published_command_without_data_or_weights_is_one_line(monkeypatch, capfd, tmp_path):
    """The error about the lists comes at once, not after a download of 100 MB."""
    monkeypatch.setenv("TSM_ROOT", str(tmp_path / "none"))
    monkeypatch.setattr("torch.hub.download_url_to_file", lambda *args, **kwargs: pytest.fail("fetched weights first"))
    done = run(monkeypatch, capfd, "main", "somethingv2", "RGB", "--shift")
    assert_refused(done, "something/v2/train_videofolder.txt does not exist", "tools/gen_label_sthv2.py", "--root_dataset")
    assert (done.out, done.err.count("\n")) == ("", 1)
