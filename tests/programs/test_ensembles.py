"""Ensembles of test_models.py: the settings of each member (by flags, metadata, name or keys) and the mean of the scores."""
import json

import numpy as np
import pytest
import torch

from ops.checkpoints.matching import tune_from
from ops.models import TSN
from ops.spec import ModelSpec
from ops.weights import save_checkpoint
from tests.helpers.members import bare, member
from tests.helpers.programs import assert_refused, make_somethingv2, run


@pytest.fixture
def scored(tmp_path, monkeypatch, capfd):
    """scored(weights, *flags) -> (scores (7, 4), standard error) of the small somethingv2."""
    make_somethingv2(tmp_path)

    def start(weights, *flags):
        done = run(monkeypatch, capfd, "test_models", "somethingv2", "--weights", weights, "--root_dataset", tmp_path,
                   "-j", 0, "--batch_size", 7, "--out", tmp_path / "out", "--input_size", 32, "--test_segments", 3, *flags)
        assert done.status == 0, done.err
        return np.load(tmp_path / "out" / "scores.npy"), done.err
    return start


def test_an_ensemble_is_the_weighted_mean_with_each_members_own_settings(tmp_path, monkeypatch, capfd):
    make_somethingv2(tmp_path)
    tsm = member(tmp_path / "tsm.pth.tar", shift=True, shift_div=4)
    tsn = member(tmp_path / "plain.pth.tar")

    def scores(weights, *more):
        out = tmp_path / "out"
        done = run(monkeypatch, capfd, "test_models", "somethingv2", "--weights", weights, "--root_dataset", tmp_path,
                   "-j", 0, "--batch_size", 4, "--out", out, *more)
        assert done.status == 0, done.err
        return np.load(out / "scores.npy"), json.loads((out / "results.json").read_text())
    first, _ = scores(tsm, "--test_segments", 4)
    second, _ = scores(tsn, "--test_segments", 2)
    both, result = scores(f"{tsm},{tsn}", "--test_segments", "4,2", "--coeff", "1,1.5")
    assert np.allclose(both, (first + 1.5 * second) / 2, atol=1e-5)
    assert result["segments"] == [4, 2]
    soft, soft_result = scores(f"{tsm},{tsn}", "--test_segments", "4,2", "--softmax", "--coeff", "1,3")

    def softmax(x):
        return np.exp(x) / np.exp(x).sum(1, keepdims=True)
    assert np.allclose(soft, (softmax(first) + 3 * softmax(second)) / 2, atol=1e-5)
    labels = [int(line.split()[-1]) for line in
              (tmp_path / "something" / "v2" / "val_videofolder.txt").read_text().splitlines()]
    assert result["top1"] == pytest.approx(100 * np.mean(both.argmax(1) == labels))
    assert soft_result["loss"] == pytest.approx(-np.log(soft[range(7), labels] / 2).mean(), rel=1e-4)  # of (1 + 3) / 2


def test_an_ensemble_scores_the_same_videos(tmp_path, scored, monkeypatch, capfd):
    """Another list with the same labels is refused; the same videos below another root, as files, are accepted."""
    weights = f"{member(tmp_path / 'a.pth.tar')},{member(tmp_path / 'b.pth.tar')}"
    lists = tmp_path / "something" / "v2"
    val = lists / "val_videofolder.txt"
    rows = [line.rsplit(" ", 2) for line in val.read_text().splitlines()]

    def refused(other, *words):
        done = run(monkeypatch, capfd, "test_models", "somethingv2", "--weights", weights, "--root_dataset", tmp_path,
                   "-j", 0, "--test_list", f"{val},{other}", "--out", tmp_path / "none")
        assert_refused(done, str(val), str(other), "--test_list", *words)
        assert not (tmp_path / "none").exists()
    refused(lists / "train_videofolder.txt", "7 videos", "12")
    others = tmp_path / "others.txt"
    others.write_text("".join(f"clip {i} 3 {label}\n" for i, (_, _, label) in enumerate(rows)))
    refused(others, "video 1 is 'clip 12'", "but 'clip 0'")
    others.write_text("".join(f"{name} 3 {label if i != 3 else 0}\n" for i, (name, _, label) in enumerate(rows)))
    refused(others, "video 4, 'clip 15', has label 3", "but 0")

    frames = lists / "20bn-something-something-v2-frames"
    others.write_text("".join(f"{frames / name} 3 {label}\n" for name, _, label in rows))
    same, _ = scored(weights)
    moved, _ = scored(weights, "--test_list", f"{val},{others}")
    assert moved.shape == same.shape


@pytest.mark.parametrize("name", ["plain.pth.tar", "TSM_somethingv2_RGB_resnet18_shift8_blockres_avg_segment3_e1.pth"])
def test_flags_win_over_metadata_and_names(name, tmp_path, monkeypatch, capfd):
    """A TSM is scored without its shift, with another div, and with its own settings given as flags."""
    make_somethingv2(tmp_path)
    file = member(tmp_path / name, shift=True)
    if name.startswith("TSM_"):  # a released file: nothing but weights and the name
        save_checkpoint({"state_dict": torch.load(file, weights_only=True)["state_dict"]}, file)

    def scores(*more):
        done = run(monkeypatch, capfd, "test_models", "somethingv2", "--weights", file, "--root_dataset", tmp_path,
                   "-j", 0, "--batch_size", 7, "--out", tmp_path / "out", "--input_size", 32, *more)
        assert done.status == 0, done.err
        return np.load(tmp_path / "out" / "scores.npy")
    member(tmp_path / "x" / name, shift=False)  # the same weights: the seed is the length of the name
    argv = ["test_models", "somethingv2", "--weights", tmp_path / "x" / name, "--root_dataset", tmp_path, "-j", 0,
            "--batch_size", 7, "--out", tmp_path / "tsn"]
    assert run(monkeypatch, capfd, *argv).status == 0
    shifted, still = scores(), scores("--no-shift")
    assert np.allclose(still, np.load(tmp_path / "tsn" / "scores.npy"), atol=1e-6)
    assert not np.allclose(shifted, still, atol=1e-3)
    assert not np.allclose(scores("--shift_div", 2), shifted, atol=1e-3)
    assert np.allclose(scores("--shift", "--shift_place", "blockres", "--arch", "resnet18"), shifted, atol=1e-6)


def test_a_file_without_metadata_or_name_is_read_by_its_keys(tmp_path, scored, capfd):
    named = member(tmp_path / "tsm.pth.tar", shift=True, shift_div=4, shift_place="block")
    nameless = bare(tmp_path / "found.pth", named)
    flags = ["--arch", "resnet18", "--modality", "RGB", "--shift_div", 4]
    wanted, _ = scored(named)
    found, err = scored(nameless, *flags)
    assert np.array_equal(found, wanted) and "shift 1/4 block (by its keys and the flags)" in err
    assert "warning" not in err
    still, err = scored(nameless, *flags, "--no-shift")
    assert not np.allclose(still, wanted, atol=1e-3)
    assert "its keys show that it was trained with a shift (block), but this model has none" in err
    _, err = scored(bare(tmp_path / "tsn.pth", member(tmp_path / "plain.pth.tar")), *flags)
    assert "nothing shows whether it shifts" in err

    with torch.device("meta"):
        plain = TSN.from_spec(ModelSpec(4, 3, arch="resnet18"))
    tune_from(plain.to_empty(device="cpu"), nameless, dataset="somethingv2", class_names=None)
    assert f"{nameless}: its keys show that it was trained with a shift (block)" in capfd.readouterr().err


def test_every_setting_has_a_flag(tmp_path, scored):
    options = dict(shift=True, shift_div=4, shift_direction="unidirectional", temporal_pool=True, non_local=True,
                   non_local_type="dot_product")
    named = member(tmp_path / "all.pth.tar", **options)
    misnamed = bare(tmp_path / "TSM_somethingv2_RGB_resnet18_avg_segment3_e1.pth", named)
    flags = ["--shift", "--shift_div", 4, "--shift_direction", "unidirectional", "--temporal_pool", "--non_local",
             "--non_local_type", "dot_product"]
    assert np.array_equal(scored(misnamed, *flags)[0], scored(named)[0])


def test_flags_with_commas_are_each_members_own(tmp_path, scored, monkeypatch, capfd):
    members = [member(tmp_path / "first.pth.tar", shift=True, shift_div=4),
               member(tmp_path / "other.pth.tar", shift=True, shift_place="block", arch="mobilenetv2")]
    nameless = [bare(tmp_path / f"{i}.pth", named) for i, named in enumerate(members)]
    wanted, _ = scored(",".join(map(str, members)))
    weights = ",".join(map(str, nameless))
    found, err = scored(weights, "--arch", "resnet18,mobilenetv2", "--modality", "RGB", "--shift_div", "4,8",
                        "--shift_place", "blockres,block", "--shift_direction", "bidirectional")
    assert np.array_equal(found, wanted)
    assert "resnet18 RGB, 3 segments, shift 1/4 blockres" in err and "mobilenetv2 RGB, 3 segments, shift 1/8 block" in err
    for flag, values in (("--arch", "resnet18,resnet18,resnet34"), ("--shift_div", "4,4,4")):
        assert_refused(run(monkeypatch, capfd, "test_models", "somethingv2", "--weights", weights, flag, values),
                       f"{flag} has 3 values for 2 checkpoints")


def test_a_checkpoint_of_other_classes_is_refused(tmp_path, monkeypatch, capfd):
    """The 174 classes of something and somethingv2 differ, by their names or by the name of the file."""
    make_somethingv2(tmp_path)
    named = member(tmp_path / "a.pth.tar")
    content = torch.load(named, weights_only=True)
    save_checkpoint({**content, "class_names": ["Doing 0", "Doing 1", "Holding", "Doing 3"]}, named)
    released = tmp_path / "TSM_something_RGB_resnet18_avg_segment3_e45.pth"
    save_checkpoint({"state_dict": content["state_dict"]}, released)
    for file, words in ((named, ["class 2 is 'Holding'", "'Doing 2'"]),
                        (released, ["trained on something,", "somethingv2"])):
        done = run(monkeypatch, capfd, "test_models", "somethingv2", "--weights", file, "--root_dataset", tmp_path,
                   "-j", 0, "--out", tmp_path / "out")
        assert_refused(done, file.name, *words)
    assert not (tmp_path / "out").exists()
