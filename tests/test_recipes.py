"""The scripts of scripts/: their command lines parse, agree with the data sets' table, and give the published names."""
import os
import re
import shlex
import subprocess
from pathlib import Path

import pytest

import opts
from main import model_settings
from ops.dataset_config import DATASETS, locate
from ops.protocol import PROTOCOLS
from ops.released import RELEASED, cache_folder, find_released
from ops.settings import build_model, store_name

SCRIPTS = Path(__file__).resolve().parents[1] / "scripts"
TRAINING = [
    "train_tsm_kinetics_rgb_8f", "train_tsm_kinetics_rgb_16f", "train_tsm_kinetics_rgb_8f_dense",
    "train_tsm_kinetics_rgb_8f_dense_nl", "train_tsm_kinetics_mobilenetv2_8f_dense", "train_tsn_kinetics_rgb_5f",
    "train_tsm_something_rgb_8f", "train_tsm_something_rgb_16f", "train_tsm_somethingv2_rgb_8f",
    "train_tsm_somethingv2_rgb_16f", "train_tsn_something_rgb_8f", "train_tsm_something_flow_8f",
    "train_tsm_jester_rgb_8f", "finetune_tsm_ucf101_rgb_8f", "finetune_tsm_hmdb51_rgb_8f"]
TESTING = ["test_tsm_kinetics_rgb_8f", "test_two_stream_something"]
PUBLISHED_NAMES = {  # where the released file's name tells the whole recipe
    "train_tsm_kinetics_rgb_8f": "TSM_kinetics_RGB_resnet50_shift8_blockres_avg_segment8_e50",
    "train_tsm_kinetics_rgb_16f": "TSM_kinetics_RGB_resnet50_shift8_blockres_avg_segment16_e50",
    "train_tsm_kinetics_rgb_8f_dense": "TSM_kinetics_RGB_resnet50_shift8_blockres_avg_segment8_e100_dense",
    "train_tsm_kinetics_rgb_8f_dense_nl": "TSM_kinetics_RGB_resnet50_shift8_blockres_avg_segment8_e100_dense_nl",
    "train_tsm_kinetics_mobilenetv2_8f_dense": "TSM_kinetics_RGB_mobilenetv2_shift8_blockres_avg_segment8_e100_dense",
    "train_tsn_kinetics_rgb_5f": "TSM_kinetics_RGB_resnet50_avg_segment5_e50"}


def command(script, tmp_path, *more):
    """The argv that a script starts python with; run from elsewhere, in a folder whose name has a space."""
    stub = tmp_path / "a python"
    stub.write_text('#!/bin/sh\npwd\nprintf "%s\\n" "$@"\n')
    stub.chmod(0o755)
    env = {**os.environ, "PYTHON": str(stub), "TSM_CACHE": str(tmp_path / "my cache")}
    done = subprocess.run(["bash", str(SCRIPTS / f"{script}.sh"), *more], env=env, cwd=tmp_path, text=True,
                          capture_output=True, check=True)
    folder, *argv = done.stdout.splitlines()
    assert Path(folder) == SCRIPTS.parent
    return argv


def training_args(script, tmp_path, *more):
    program, *argv = command(script, tmp_path, *more)
    assert program == "main.py"
    return opts.parse_train(argv)


@pytest.mark.parametrize("script", TRAINING)
def test_training_recipes_parse_and_build(script, tmp_path):
    args = training_args(script, tmp_path)
    data = locate(args.dataset, args.modality, str(tmp_path))
    settings = model_settings(args, data)
    assert settings.shift == ("tsn" not in script) and settings.num_segments == int(re.search(r"_(\d+)f", script)[1])
    assert args.dense_sample == ("dense" in script) and settings.non_local == script.endswith("nl")
    name = store_name(settings, args.dataset, args.epochs, args.pretrain, args.lr_type, args.dense_sample)
    assert name == PUBLISHED_NAMES.get(script, name)
    if script in PUBLISHED_NAMES:
        find_released(name)
    if settings.num_segments == 8:  # the others differ in T alone
        assert build_model(settings.with_(arch="resnet18" if "resnet" in settings.arch else None)).num_class > 0


@pytest.mark.parametrize("script", TRAINING)
def test_training_recipes_hold_the_published_numbers(script, tmp_path):
    args = training_args(script, tmp_path)
    kinetics, fine = args.dataset == "kinetics", script.startswith("finetune")
    assert (args.batch_size, args.lr, args.weight_decay) == (
        (128, 0.02, 1e-4) if kinetics else (64, 0.001, 5e-4) if fine else (64, 0.01, 5e-4))
    assert (args.epochs, args.lr_steps) == ((100, [40, 80]) if args.dense_sample else
                                            (25, [10, 20]) if fine else (50, [20, 40]))
    assert (args.clip_gradient, args.eval_freq, args.dropout) == (20, 1, 0.8 if fine else 0.5)
    assert args.no_partialbn != fine
    assert bool(args.tune_from) == fine


@pytest.mark.parametrize("script", TRAINING + TESTING)
def test_recipes_say_what_to_expect_and_how_to_scale(script):
    text = (SCRIPTS / f"{script}.sh").read_text()
    comment = [line for line in text.splitlines()[1:] if line.startswith("#")]
    assert text.startswith("#!/usr/bin/env bash\n# ") and "\nset -eu\n" in text and text.endswith('    "$@"\n')
    assert re.search(r"\d\d\.\d%|about 42%", " ".join(comment))
    if script in TRAINING:
        [rule] = [line for line in comment if line.startswith("# The learning rate goes with the batch: ")]
        batch, rate = int(re.search(r"--batch-size (\d+)", text.split("set -eu")[1])[1]), float(
            re.search(r"--lr (\S+)", text.split("set -eu")[1])[1])
        scaled = re.findall(r"--batch-size (\d+) --lr ([\d.]+[\d])", rule)
        assert len(scaled) == 2
        assert all(float(lr) / int(size) == pytest.approx(rate / batch) for size, lr in scaled)


def test_what_is_passed_on_wins(tmp_path):
    more = ("--lr", "0.04", "--batch-size", "256", "--suffix", "a b")
    args = training_args("train_tsm_kinetics_rgb_8f", tmp_path, *more)
    assert (args.lr, args.batch_size, args.suffix) == (0.04, 256, "a b")


@pytest.mark.parametrize("name", [name for name in DATASETS if name != "gestures"])
def test_the_table_of_data_sets_agrees_with_its_scripts(name, tmp_path):
    recipe = DATASETS[name].recipe
    assert recipe is not None
    args = training_args(Path(recipe.script).stem, tmp_path)
    assert (recipe.lr, recipe.weight_decay, recipe.epochs, recipe.batch_size, recipe.no_partialbn) == (
        args.lr, args.weight_decay, args.epochs, args.batch_size, args.no_partialbn)


@pytest.mark.parametrize("script", [s for s in TRAINING + TESTING if not s.startswith("train")])
def test_released_weights_are_taken_from_the_cache(script, tmp_path, monkeypatch):
    monkeypatch.setenv("TSM_CACHE", str(tmp_path / "my cache"))
    program, *argv = command(script, tmp_path)
    args = opts.parse_train(argv) if program == "main.py" else opts.parse_test(argv)
    first = Path(args.tune_from if program == "main.py" else args.weights[0])
    assert first.parent == cache_folder() and first.name in [row.name for row in RELEASED]
    text = (SCRIPTS / f"{script}.sh").read_text()
    assert f"python tools/download_weights.py {first.name.removesuffix('.pth')}" in text


def test_testing_recipes_parse(tmp_path):
    program, *argv = command("test_tsm_kinetics_rgb_8f", tmp_path)
    args = opts.parse_test(argv)
    assert (program, args.dataset, args.test_segments) == ("test_models.py", "kinetics", [8])
    assert args.protocol == PROTOCOLS["efficient"]
    program, *argv = command("test_two_stream_something", tmp_path)
    args = opts.parse_test(argv)
    assert (program, args.dataset, args.test_segments, args.coeff) == ("test_models.py", "something", [8, 8], [1, 1])
    flow = training_args("train_tsm_something_flow_8f", tmp_path)
    settings = model_settings(flow, locate("something", "Flow", str(tmp_path)))
    assert args.weights[1] == f"checkpoint/{store_name(settings, 'something', flow.epochs)}/ckpt.best.pth.tar"


# ---- docs/models.md ------------------------------------------------------------------------------------------

def documented():
    """(published accuracy or "", argv) of every test_models.py command in docs/models.md."""
    text = (SCRIPTS.parent / "docs" / "models.md").read_text()
    for block in re.findall(r"```bash\n(.*?)```", text, re.S):
        lines = re.sub(r"\\\n\s*", "", block).splitlines()
        for before, line in zip(["", *lines], lines):
            if line.startswith("python test_models.py "):
                accuracy = re.match(r"# ([\d.]+)%: ", before)
                yield accuracy[1] if accuracy else "", shlex.split(line)[2:]


def test_every_published_accuracy_has_its_command():
    found = set()
    for accuracy, argv in documented():
        args = opts.parse_test(argv)
        released = re.fullmatch(r"\$\(python tools/download_weights.py (\S+)\)", args.weights[0])
        if released:
            row = find_released(released[1])
            assert (args.dataset, args.test_segments) == (row.dataset, [row.segments])
            found.add((row.name, float(accuracy), args.protocol))
    published = {(row.name, score.top1, opts.parse_test(["x", "--weights=x", *score.flags.split()]).protocol)
                 for row in RELEASED if "_Flow_" not in row.name for score in row.scores}
    assert found == published and len(found) == 19


def test_the_scripts_and_files_in_the_document_exist():
    text = (SCRIPTS.parent / "docs" / "models.md").read_text()
    assert all((SCRIPTS / name).is_file() for name in re.findall(r"scripts/(\w+\.sh)", text))
    assert all((SCRIPTS.parent / "tools" / name).is_file() for name in re.findall(r"tools/(\w+\.py)", text))
    assert all(row.name in text for row in RELEASED)
