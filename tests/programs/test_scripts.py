"""The recipes in scripts/: they parse, agree with `ops.recipes`, and give runs their published names."""
import os
import re
import shlex
import subprocess
from functools import lru_cache
from pathlib import Path

import pytest
import torch

import opts
from ops.checkpoints.model_zoo import MODEL_ZOO, find_model
from ops.checkpoints.store_name import store_name
from ops.data.test_protocol import PROTOCOLS
from ops.dataset_config import DATASETS, resolve_dataset
from ops.models import TSN
from ops.recipes import RECIPES
from ops.spec import ModelSpec

SCRIPTS = Path(__file__).resolve().parents[2] / "scripts"
TRAINING = [name for name in RECIPES if name != "quickstart"]
TESTING = ["test_tsm_kinetics_rgb_8f", "test_two_stream_something"]
PUBLISHED_NAMES = {  # recipes that the name of the released file describes completely
    "train_tsm_kinetics_rgb_8f": "TSM_kinetics_RGB_resnet50_shift8_blockres_avg_segment8_e50",
    "train_tsm_kinetics_rgb_16f": "TSM_kinetics_RGB_resnet50_shift8_blockres_avg_segment16_e50",
    "train_tsm_kinetics_rgb_8f_dense": "TSM_kinetics_RGB_resnet50_shift8_blockres_avg_segment8_e100_dense",
    "train_tsm_kinetics_rgb_8f_dense_nl": "TSM_kinetics_RGB_resnet50_shift8_blockres_avg_segment8_e100_dense_nl",
    "train_tsm_kinetics_mobilenetv2_8f_dense": "TSM_kinetics_RGB_mobilenetv2_shift8_blockres_avg_segment8_e100_dense",
    "train_tsn_kinetics_rgb_5f": "TSM_kinetics_RGB_resnet50_avg_segment5_e50"}


@pytest.fixture(scope="module")
def command(tmp_path_factory):
    """command(script, *more): the arguments that the script passes to python, when run from a directory with a space."""
    directory = tmp_path_factory.mktemp("some where")
    stub = directory / "a python"
    stub.write_text('#!/bin/sh\npwd\nprintf "%s\\n" "$@"\n')
    stub.chmod(0o755)
    env = {**os.environ, "PYTHON": str(stub), "TSM_CACHE": str(directory / "my cache")}

    @lru_cache(maxsize=None)
    def start(script, *more):
        done = subprocess.run(["bash", str(SCRIPTS / f"{script}.sh"), *more], env=env, cwd=directory, text=True,
                              capture_output=True, check=True)
        started_in, *argv = done.stdout.splitlines()
        assert Path(started_in) == SCRIPTS.parent
        return argv
    return start


@pytest.fixture(scope="module")
def training_args(command):
    def parse(script, *more):
        program, *argv = command(script, *more)
        assert program == "main.py"
        return opts.parse_train(argv)
    return parse


@pytest.mark.parametrize("script", TRAINING)
def test_training_recipes_parse_and_build(script, tmp_path, training_args):
    args = training_args(script)
    data = resolve_dataset(args.dataset, args.modality, str(tmp_path))
    settings = ModelSpec.from_options(vars(args), num_class=data.num_class)
    assert settings.shift == ("tsn" not in script) and settings.num_segments == int(re.search(r"_(\d+)f", script)[1])
    assert args.dense_sample == ("dense" in script) and settings.non_local == script.endswith("nl")
    name = store_name(settings, args.dataset, args.epochs, pretrain=args.pretrain, lr_type=args.lr_type,
                      dense_sample=args.dense_sample)
    assert name == PUBLISHED_NAMES.get(script, name)
    if script in PUBLISHED_NAMES:
        find_model(name)
    if settings.num_segments == 8:  # the others differ only in T
        with torch.device("meta"):
            assert TSN.from_spec(settings).num_class == settings.num_class


@pytest.mark.parametrize("script", TRAINING)
def test_training_recipes_hold_the_published_numbers(script, training_args):
    args = training_args(script)
    kinetics, fine = args.dataset == "kinetics", script.startswith("finetune")
    assert (args.batch_size, args.lr, args.weight_decay) == (
        (128, 0.02, 1e-4) if kinetics else (64, 0.001, 5e-4) if fine else (64, 0.01, 5e-4))
    assert (args.epochs, args.lr_steps) == ((100, [40, 80]) if args.dense_sample else
                                            (25, [10, 20]) if fine else (50, [20, 40]))
    assert (args.clip_gradient, args.eval_freq, args.dropout) == (20, 1, 0.8 if fine else 0.5)
    assert args.no_partialbn != fine
    assert bool(args.tune_from) == fine


@pytest.mark.parametrize("script", TRAINING + TESTING)
def test_recipes_give_the_expected_result_and_how_to_scale(script):
    text = (SCRIPTS / f"{script}.sh").read_text()
    comment = [line for line in text.splitlines()[1:] if line.startswith("#")]
    assert text.startswith("#!/usr/bin/env bash\n# ") and "\nset -eu\n" in text and text.endswith('    "$@"\n')
    assert re.search(r"\d\d\.\d%|about 42%", " ".join(comment))
    if script in TRAINING:
        [rule] = [line for line in comment if line.startswith("# Scale the learning rate with the batch size: ")]
        batch, rate = int(re.search(r"--batch-size (\d+)", text.split("set -eu")[1])[1]), float(
            re.search(r"--lr (\S+)", text.split("set -eu")[1])[1])
        scaled = re.findall(r"--batch-size (\d+) --lr ([\d.]+[\d])", rule)
        assert len(scaled) == 2
        assert all(float(lr) / int(size) == pytest.approx(rate / batch) for size, lr in scaled)


def test_flags_given_to_a_script_win(training_args):
    more = ("--lr", "0.04", "--batch-size", "256", "--suffix", "a b")
    args = training_args("train_tsm_kinetics_rgb_8f", *more)
    assert (args.lr, args.batch_size, args.suffix) == (0.04, 256, "a b")


def differences(args):
    """The options of a command line that differ from main.py's defaults."""
    defaults = vars(opts.parse_train(["somethingv2", "RGB"]))
    return {key: value for key, value in vars(args).items() if value != defaults[key]}


def test_every_training_script_has_a_recipe():
    scripts = {path.stem for path in SCRIPTS.glob("*.sh")}
    assert {name for name in scripts if name.startswith(("train", "finetune"))} == set(TRAINING)
    assert set(RECIPES) <= scripts and all(recipe.name == name for name, recipe in RECIPES.items())
    assert len(TRAINING) == 15


@pytest.mark.parametrize("script", TRAINING)
def test_the_command_line_of_a_script_is_its_recipe(script, training_args):
    """Every option of the recipe, and none that the recipe does not have but for those below."""
    args, recipe = training_args(script), RECIPES[script].options()
    assert {key: getattr(args, key) for key in recipe} == {
        **recipe, "lr_steps": list(recipe["lr_steps"]), "tune_from": args.tune_from}
    assert Path(args.tune_from or "").stem == (recipe["tune_from"] or "")
    other = {key: value for key, value in differences(args).items() if key not in recipe}
    place = {"shift_place": "blockres"} if recipe["shift"] else {}
    assert other == {"workers": 16, "loaders": 16, "eval_freq": 1, **place}


def test_the_quickstart_trains_with_its_recipe():
    from tools.quickstart import MODELS, RECIPE, build_parser
    epochs = build_parser().parse_args([]).epochs
    args = opts.parse_train(["gestures", "RGB", *MODELS["tsm"].split(), *RECIPE.split(), "--epochs", str(epochs)])
    recipe = RECIPES["quickstart"].options()
    del recipe["lr_steps"]  # without effect for a cosine schedule
    assert recipe["lr_type"] == "cos" and {key: getattr(args, key) for key in recipe} == recipe


@pytest.mark.parametrize("name", DATASETS)
def test_the_recipe_of_a_data_set_trains_that_data_set(name):
    recipe = DATASETS[name].recipe
    assert recipe is not None and RECIPES[recipe.name] is recipe
    assert (recipe.dataset, recipe.modality) == (name, "RGB") and (SCRIPTS.parent / recipe.script).is_file()


@pytest.mark.parametrize("script", [s for s in TRAINING + TESTING if not s.startswith("train")])
def test_released_weights_are_taken_from_the_cache(script, command):
    program, *argv = command(script)
    args = opts.parse_train(argv) if program == "main.py" else opts.parse_test(argv)
    first = Path(args.tune_from if program == "main.py" else args.weights[0])
    assert first.parent.name == "my cache" and first.name in [row.name for row in MODEL_ZOO]
    text = (SCRIPTS / f"{script}.sh").read_text()
    assert f"python tools/download_weights.py {first.name.removesuffix('.pth')}" in text


def test_testing_recipes_parse(tmp_path, command, training_args):
    program, *argv = command("test_tsm_kinetics_rgb_8f")
    args = opts.parse_test(argv)
    assert (program, args.dataset, args.test_segments) == ("test_models.py", "kinetics", [8])
    assert args.protocol == PROTOCOLS["efficient"]
    program, *argv = command("test_two_stream_something")
    args = opts.parse_test(argv)
    assert (program, args.dataset, args.test_segments, args.coeff) == ("test_models.py", "something", [8, 8], [1, 1])
    flow = training_args("train_tsm_something_flow_8f")
    settings = ModelSpec.from_options(vars(flow), num_class=resolve_dataset("something", "Flow", str(tmp_path)).num_class)
    assert args.weights[1] == f"checkpoint/{store_name(settings, 'something', flow.epochs)}/ckpt.best.pth.tar"


# ---- docs/models.md ------------------------------------------------------------------------------------------

def documented():
    """(published accuracy or "", the words of the command) for every command in a `bash` block of docs/models.md."""
    text = (SCRIPTS.parent / "docs" / "models.md").read_text()
    for block in re.findall(r"```bash\n(.*?)```", text, re.S):
        lines = re.sub(r"\\\n\s*", "", block).splitlines()
        for before, line in zip(["", *lines], lines):
            accuracy = re.match(r"# ([\d.]+)%: ", before)
            yield accuracy[1] if accuracy else "", shlex.split(line, comments=True)


def test_every_published_accuracy_has_its_command():
    found, own = set(), {}
    for accuracy, words in documented():
        if words[:2] != ["python", "test_models.py"]:
            continue
        args = opts.parse_test(words[2:])
        released = re.fullmatch(r"\$\(python tools/download_weights.py (\S+)\)", args.weights[0])
        if released:
            row = find_model(released[1])
            assert (args.dataset, args.test_segments) == (row.dataset, [row.segments])
            found.add((row.name, float(accuracy), args.protocol))
        else:
            assert args.protocol == PROTOCOLS["accurate"]
            own[args.dataset, "shift" in args.weights[0]] = float(accuracy)
    published = {(row.name, score.top1,
                  opts.parse_test(["kinetics", "--weights=x", f"--{score.option[0]}", score.option[1]]).protocol)
                 for row in MODEL_ZOO for score in row.scores}
    assert found == published and len(found) == 20
    assert own == {("something", False): 20.5, ("ucf101", False): 91.7, ("ucf101", True): 95.9, ("hmdb51", False): 64.7,
                   ("hmdb51", True): 73.5, ("jester", False): 83.9, ("jester", True): 97.0}  # table 1 of the paper


def test_checkpoints_in_the_document_are_those_that_its_recipes_write(tmp_path, training_args):
    names = set()
    for _, words in documented():
        if words and (re.match(r"scripts/(train|finetune)", words[0]) or words[:2] == ["python", "main.py"]):
            args = (opts.parse_train(words[2:]) if words[0] == "python" else
                    training_args(Path(words[0]).stem, *words[1:]))
            settings = ModelSpec.from_options(
                vars(args), num_class=resolve_dataset(args.dataset, args.modality, str(tmp_path)).num_class)
            names.add(store_name(settings, args.dataset, args.epochs))
    text = (SCRIPTS.parent / "docs" / "models.md").read_text()
    assert set(re.findall(r"checkpoint/(TSM_\w+)/ckpt.best.pth.tar", text)) == names and len(names) == 8


def test_the_commands_without_shift_are_the_recipes_but_for_the_shift(training_args):
    found = {}
    for _, words in documented():
        if words[:2] == ["python", "main.py"]:
            args = vars(opts.parse_train(words[2:]))
            recipe = DATASETS[args["dataset"]].recipe
            assert recipe is not None
            shifted = vars(training_args(Path(recipe.script).stem))
            found[args["dataset"]] = {key: args[key] for key in args if args[key] != shifted[key]}
    tuned = {"shift": False, "shift_place": None, "tune_from":
             "$(python tools/download_weights.py TSM_kinetics_RGB_resnet50_avg_segment5_e50)"}
    assert found == {"ucf101": tuned, "hmdb51": tuned, "jester": {"shift": False, "shift_place": None}}


def test_the_two_stream_command_of_the_document(command):
    (accuracy, words), = [row for row in documented() if row[1][:1] == ["scripts/test_two_stream_something.sh"]]
    program, *argv = command("test_two_stream_something", *words[1:])
    args = opts.parse_test(argv)
    assert (program, accuracy, args.test_segments, args.weights) == (
        "test_models.py", "52.6", [16, 16], ["$rgb", "$flow"])


def test_the_scripts_and_files_in_the_document_exist():
    text = (SCRIPTS.parent / "docs" / "models.md").read_text()
    assert all((SCRIPTS / name).is_file() for name in re.findall(r"scripts/(\w+\.sh)", text))
    assert all((SCRIPTS.parent / "tools" / name).is_file() for name in re.findall(r"tools/(\w+\.py)", text))
    assert all(row.name in text for row in MODEL_ZOO)
