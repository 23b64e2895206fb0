"""main.py --config and --recipe: a run's settings.yaml repeats it, and what wins over what."""
import pytest
import torch
import yaml

import opts
from ops.common.errors import UserError
from ops.recipes import DEFAULTS
from tests.helpers.programs import assert_refused, run
from tests.helpers.small_run import NAME, SMALL, flags, rows, weights

TRAIN = ["somethingv2", "RGB"]


def test_the_stored_settings_repeat_the_run_to_the_digit(data, tmp_path, monkeypatch, capfd):
    more = ["--recipe", "modern", "--seed", 3, "--sampler", "balanced", "--lr_type", "step", "--best_by", "loss",
            "--patience", 9, "--no-nesterov"]
    done = run(monkeypatch, capfd, "main", *flags(data, tmp_path / "first", *more))
    assert done.status == 0 and "recipe modern: nesterov False, warmup_epochs 0.3, lr_type step, lr_update step," in done.err
    file = tmp_path / "first" / "log" / NAME / "settings.yaml"
    out = tmp_path / "second"
    done = run(monkeypatch, capfd, "main", "--config", file, "--root_log", out / "log", "--root_model", out / "model")
    assert done.status == 0, done.err
    assert rows(out) == rows(tmp_path / "first")
    first = weights(tmp_path / "first")
    assert all(torch.equal(value, first[key]) for key, value in weights(out).items())
    assert yaml.safe_load((out / "log" / NAME / "settings.yaml").read_text()) == {
        **yaml.safe_load(file.read_text()), "root_log": str(out / "log"), "root_model": str(out / "model")}


def test_a_resumed_run_stores_the_settings_of_the_whole_run(data, tmp_path, monkeypatch, capfd):
    """Without resume, and with the tuning that the run began with."""
    assert run(monkeypatch, capfd, "main", *flags(data, tmp_path, "--epochs", 1)).status == 0
    tuned = tmp_path / "model" / NAME.replace("_e3_", "_e1_") / "ckpt.pth.tar"
    for _ in range(2):
        done = run(monkeypatch, capfd, "main", *flags(data, tmp_path, "--tune_from", tuned, "--resume", "auto"))
        assert done.status == 0
    assert f"--tune_from {tuned} is not loaded again" in done.err
    other = tmp_path / "other"
    argv = flags(data, other, "--tune_from", tuned, "--resume", "auto", "--debug")
    assert "the classifier is kept" in run(monkeypatch, capfd, "main", *argv).err, "a run that has not begun is tuned"
    stored = yaml.safe_load((tmp_path / "log" / NAME / "settings.yaml").read_text())
    assert stored["tune_from"] == str(tuned) and not {"resume", "config", "evaluate", "seed"} & set(stored)


def test_the_command_line_wins_over_the_file_and_the_file_over_the_recipe(tmp_path):
    file = tmp_path / "settings.yaml"
    file.write_text("modality: RGB\nmixup: 0.4\nlr: 0.3\nrecipe: modern\nwarmup_epochs: 2\nnesterov: false\n")
    args = opts.parse_train(["ucf101", "--lr", "0.001", "--config", str(file)])
    assert (args.dataset, args.modality, args.mixup, args.lr, args.warmup_epochs) == ("ucf101", "RGB", 0.4, 0.001, 2)
    assert (args.nesterov, args.loss_type, args.lr_type, args.recipe) == (False, "smooth", "cos", "modern")
    assert opts.parse_train([*TRAIN, f"--config={file}", "--no-nesterov", "--mixup", "0"]).mixup == 0


@pytest.mark.parametrize("epochs, warmup", [(5, 0.5), (50, 5), (100, 5)])
def test_the_modern_recipe_warms_up_for_a_tenth_of_the_run(epochs, warmup):
    args = opts.parse_train([*TRAIN, "--recipe", "modern", "--epochs", str(epochs), "--npb"])
    assert args.warmup_epochs == warmup
    assert {name: getattr(args, name) for name in DEFAULTS["modern"]} == {**DEFAULTS["modern"], "warmup_epochs": warmup}


def test_published_is_the_default_recipe():
    plain, named = (vars(opts.parse_train([*TRAIN, *more])) for more in ([], ["--recipe", "published"]))
    assert plain == named and plain["recipe"] == "published"


def test_every_option_survives_the_file(tmp_path):
    args = opts.parse_train([*TRAIN, *map(str, SMALL), "--seed", "5", "--gpus", "0", "1", "--lr_steps", "1", "2.5"])
    file = tmp_path / "settings.yaml"
    file.write_text(yaml.safe_dump(opts.settings(args)))
    again = vars(opts.parse_train(["--config", str(file)]))
    assert {**again, "config": None} == vars(args)


@pytest.mark.parametrize("text, words", [
    ("num_segmets: 8\n", "there is no option 'num_segmets'; did you mean num_segments?"),
    ("config: other.yaml\n", "there is no option 'config'"), ("batch-size: 0\n", "batch-size 0: choose 1 or more"),
    ("dataset: ucf102\nmodality: RGB\n", "ucf102"), ("modality: Sound\n", "modality 'Sound': choose RGB, Flow or RGBDiff")])
def test_wrong_files_are_refused(text, words, tmp_path):
    file = tmp_path / "settings.yaml"
    file.write_text(text)
    with pytest.raises(UserError) as info:
        opts.parse_train([*TRAIN, "--config", str(file)] if "dataset" not in text else ["--config", str(file)])
    assert words in str(info.value)


def test_a_wrong_recipe_or_file_is_refused(monkeypatch, capfd):
    assert_refused(run(monkeypatch, capfd, "main", *TRAIN, "--recipe", "old"), "--recipe 'old': choose published or modern")
    done = run(monkeypatch, capfd, "main", *TRAIN, "--config", "gone.yaml")
    assert_refused(done, "cannot read the settings file gone.yaml")


def test_class_weights_follow_the_training_list(data, tmp_path, monkeypatch, capfd):
    """A list with rare classes: the weights of the classes change what is learnt."""
    whole = (data / "something" / "v2" / "train_videofolder.txt").read_text().splitlines()
    (tmp_path / "rare.txt").write_text("\n".join([*whole, *(line for line in whole if line.endswith(" 0"))]))
    learnt = []
    for name in ("none", "auto"):
        argv = flags(data, tmp_path / name, "--train_list", tmp_path / "rare.txt", "--class_weights", name, "--debug")
        assert run(monkeypatch, capfd, "main", *argv).status == 0
        learnt.append(weights(tmp_path / name)["module.new_fc.weight"])
    assert not torch.equal(*learnt)
