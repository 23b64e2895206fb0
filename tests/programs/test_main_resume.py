"""main.py starting from other weights: resumed, published and bare checkpoints, fine-tuning, evaluation alone."""
import shutil

import pytest
import torch

import main
import opts
from ops.dataset_config import resolve_dataset
from ops.evaluation.metrics import Predictions
from ops.models import TSN
from ops.spec import ModelSpec
from ops.weights import save_checkpoint
from tests.helpers.programs import assert_refused, make_somethingv2, run
from tests.helpers.small_run import NAME, flags


def test_a_finished_run_has_nothing_left_to_do(trained, data, tmp_path, monkeypatch, capfd):
    file = trained / "model" / NAME / "ckpt.pth.tar"
    done = run(monkeypatch, capfd, "main", *flags(data, tmp_path, "--resume", file, "--start-epoch", 1))
    assert done.status == 0 and "nothing left to do: epoch 3 of 3" in done.err and not list(tmp_path.iterdir())
    assert "--start-epoch has no effect: --resume" in done.err


def test_a_published_checkpoint_is_resumed_in_its_directory(trained, data, tmp_path, monkeypatch, capfd):
    """The checkpoint has no settings and a dropout other than the default; its log.csv has the published format."""
    ours = torch.load(trained / "model" / NAME / "ckpt.pth.tar", weights_only=True)
    name = NAME.replace("_e3_", "_e4_")
    file = tmp_path / "model" / name / "ckpt.pth.tar"
    file.parent.mkdir(parents=True)
    torch.save({key: ours[key] for key in ("epoch", "arch", "state_dict", "optimizer", "best_prec1")}, file)
    (tmp_path / "log" / name).mkdir(parents=True)
    (tmp_path / "log" / name / "log.csv").write_text("Epoch: [0][0/3], lr: 0.01000\n")
    done = run(monkeypatch, capfd, "main", *flags(data, tmp_path, "--resume", file, "--epochs", 4, "--dropout", 0.8,
                                                  "--debug"))
    assert done.status == 0 and "after epoch 3" in done.err and "log.csv.old" in done.err
    assert (tmp_path / "log" / name / "log.csv.old").read_text().startswith("Epoch: [0]")
    assert torch.load(file, weights_only=True)["epoch"] == 4


def test_a_run_resumed_in_another_directory_has_its_own_best_checkpoint(trained, data, tmp_path, monkeypatch, capfd):
    content = torch.load(trained / "model" / NAME / "ckpt.pth.tar", weights_only=True)
    torch.save({**content, "best_prec1": 100.5}, tmp_path / "start.pth.tar")
    reached = iter([1, 3, 2])  # correct answers out of 5: 20%, 60%, 40%
    monkeypatch.setattr("ops.training.loop.validate", lambda *loader, **options: Predictions(
        torch.eye(2)[(torch.arange(5) >= next(reached)).long()], torch.zeros(5, dtype=torch.long)))
    done = run(monkeypatch, capfd, "main", *flags(data, tmp_path, "--resume", tmp_path / "start.pth.tar", "--epochs", 6,
                                                  "--eval-freq", 1, "--debug"))
    assert done.status == 0 and "best prec@1 so far: 100.500" in done.err
    directory = tmp_path / "model" / NAME.replace("_e3_", "_e6_")
    best, last = (torch.load(directory / f"{name}.pth.tar", weights_only=True) for name in ("ckpt.best", "ckpt"))
    assert (best["epoch"], last["epoch"], last["best_prec1"]) == (5, 6, pytest.approx(60))


def test_evaluation_needs_only_weights(trained, data, tmp_path, monkeypatch, capfd):
    file = trained / "model" / NAME / "ckpt.pth.tar"
    whole = run(monkeypatch, capfd, "main", *flags(data, tmp_path, "--resume", file, "-e"))
    torch.save(torch.load(file, weights_only=True)["state_dict"], tmp_path / "weights.pth")
    for more in (["--resume", tmp_path / "weights.pth", "--npb"], ["--tune_from", file]):
        done = run(monkeypatch, capfd, "main", *flags(data, tmp_path, *more, "-e"))
        assert done.status == 0 and done.out.splitlines()[-1] == whole.out.splitlines()[-1]
    other = tmp_path / "other"
    make_somethingv2(other, classes=3)
    assert_refused(run(monkeypatch, capfd, "main", *flags(other, tmp_path, "--tune_from", file, "-e")),
                   "--evaluate: the classifier of", "other classes")


OTHER_OPTIONS = [["--shift_direction", "unidirectional"], ["--shift_div", 4], ["--shift_place", "block"],
                 ["--input_size", 48], ["--num_segments", 4], ["--dropout", 0.3], ["--consensus_type", "identity"],
                 ["--shift_stages", "3,4"]]


@pytest.mark.parametrize("more", OTHER_OPTIONS, ids=lambda more: more[0])
def test_weights_are_not_evaluated_with_other_options_than_they_were_trained_with(more, trained, data, tmp_path,
                                                                                  monkeypatch, capfd):
    file = trained / "model" / NAME / "ckpt.pth.tar"
    for source in ("--tune_from", "--resume"):
        done = run(monkeypatch, capfd, "main", *flags(data, tmp_path, source, file, "-e", *more))
        assert_refused(done, "is another model than the one asked for", f"{more[0][2:]} ", f"{more[1]!r} here")


@pytest.mark.parametrize("more", OTHER_OPTIONS[:4], ids=lambda more: more[0])
def test_fine_tuning_says_which_options_differ(more, trained, data, tmp_path, monkeypatch, capfd):
    file = trained / "model" / NAME / "ckpt.pth.tar"
    done = run(monkeypatch, capfd, "main", *flags(data, tmp_path, "--tune_from", file, "--debug", *more))
    line, = (line for line in done.err.splitlines() if "fine-tuning with other options than those of" in line)
    assert done.status == 0 and f"{more[0][2:]} " in line and line.endswith(f"{more[1]!r} here")


def test_fine_tuning_with_the_same_options_says_nothing_of_them(trained, data, tmp_path, monkeypatch, capfd):
    file = trained / "model" / NAME / "ckpt.pth.tar"
    done = run(monkeypatch, capfd, "main", *flags(data, tmp_path, "--tune_from", file, "--debug"))
    assert done.status == 0 and "other options" not in done.err


@pytest.fixture(scope="module")
def resumed(trained, data, tmp_path_factory):
    """resumed(monkeypatch, capfd, flag, value): (how the trained run ended when resumed for an epoch, its checkpoint)."""
    def resume(monkeypatch, capfd, *more):
        out = tmp_path_factory.mktemp("resumed")
        file = trained / "model" / NAME / "ckpt.pth.tar"
        done = run(monkeypatch, capfd, "main",
                   *flags(data, out, "--resume", file, "--epochs", 4, "--debug", "--seed", 0, *more))
        found = list(out.glob("model/*/ckpt.pth.tar"))
        content = torch.load(found[0], weights_only=True) if found else None
        shutil.rmtree(out)  # two checkpoints of 90 MB, for each of some thirty runs
        return done, content
    return resume


@pytest.fixture(scope="module")
def unchanged(resumed):
    """unchanged(monkeypatch, capfd): the checkpoint after resuming with no other option, trained once for all tests."""
    content = {}

    def get(monkeypatch, capfd):
        if not content:
            _, found = resumed(monkeypatch, capfd)
            content.update(found)
        return content
    return get


@pytest.mark.parametrize("option, value, flag", [
    ("momentum", 0.5, "--momentum"), ("weight_decay", 0.3, "--wd"), ("clip_gradient", 0.001, "--gd"), ("lr", 0.3, "--lr"),
    ("lr_type", "cos", "--lr_type"), ("lr_steps", [2.0], "--lr_steps"), ("batch_size", 3, "-b"), ("seed", 7, "--seed"),
    ("mixup", 0.5, "--mixup"), ("random_erasing", 1.0, "--random_erasing"), ("flip", "none", "--flip"),
    ("augment", "randaug", "--augment"), ("nesterov", True, "--nesterov"), ("loss_type", "smooth", "--loss_type"),
    ("sampler", "balanced", "--sampler"), ("dense_sample", True, "--dense_sample")])
def test_an_option_of_a_resumed_run_takes_effect_and_is_said(option, value, flag, resumed, unchanged, monkeypatch, capfd):
    values = [] if value is True else value if isinstance(value, list) else [value]
    same = unchanged(monkeypatch, capfd)
    done, other = resumed(monkeypatch, capfd, flag, *values)
    assert done.status == 0 and f"{option} {value} (was " in done.err
    assert same["train"][option] != other["train"][option] == value
    assert not all(torch.equal(same["state_dict"][key], weight) for key, weight in other["state_dict"].items())


def test_a_resumed_optimizer_is_the_one_that_its_checkpoint_claims(resumed, monkeypatch, capfd):
    _, content = resumed(monkeypatch, capfd, "--momentum", 0.5, "--wd", 0.25)
    for group in content["optimizer"]["param_groups"]:
        assert (group["momentum"], group["weight_decay"]) == (0.5, 0.25 * group["decay_mult"])


def test_resuming_cannot_change_what_its_optimizer_holds(resumed, monkeypatch, capfd):
    done, content = resumed(monkeypatch, capfd, "--npb")
    assert_refused(done, "--no_partialbn was False, is True")
    assert content is None
    done, _ = resumed(monkeypatch, capfd, "--pretrain", "imagenet")
    assert done.status == 0 and "pretrain has no effect" in done.err


def entries(file, *stages):
    """The stored entries of these stages of a ResNet, and the others."""
    weights = torch.load(file, weights_only=True)["state_dict"]
    parts = {"stem": ("conv1", "bn1")}
    inside = {key for key in weights for stage in stages for part in parts.get(stage, (stage,))
              if key.startswith(f"module.base_model.{part}.")}
    return {key: weights[key] for key in inside}, {key: weights[key] for key in weights.keys() - inside}


def test_frozen_stages_stay_as_they_were_in_a_resumed_run_too(trained, data, tmp_path, monkeypatch, capfd):
    first = trained / "model" / NAME / "ckpt.pth.tar"

    def tuned(epochs, *more):
        done = run(monkeypatch, capfd, "main",
                   *flags(data, tmp_path, "--tune_from", first, "--freeze", 2, "--npb", "--precise_bn", 1, "--ema", 0.7,
                          "--inplace", "--wd", 0.1, "--eval-freq", 1, "--epochs", epochs, *more))
        return tmp_path / "model" / NAME.replace("_e3_", f"_e{epochs}_") / "ckpt.pth.tar", done

    half, done = tuned(1)
    assert done.status == 0 and "frozen: stem,layer1" in done.err and "keeps random weights" not in done.err
    assert torch.load(half, weights_only=True)["train"]["freeze"] == "stem,layer1"
    assert "freeze: stem,layer1" in (tmp_path / "log" / half.parent.name / "settings.yaml").read_text()
    for given, words in (("3", "is stem,layer1,layer2"), ("", "is not given")):
        assert_refused(tuned(2, "--resume", half, "--freeze", given)[1], "--freeze was stem,layer1", words)
    assert_refused(tuned(2, "--freeze", "layer9")[1], "--freeze 'layer9': choose the first stages of stem, layer1")
    whole = torch.load(tuned(2)[0], weights_only=True)
    again, done = tuned(2, "--resume", half)
    assert done.status == 0 and "after epoch 1" in done.err
    assert all(torch.equal(value, whole["state_dict"][key])
               for key, value in torch.load(again, weights_only=True)["state_dict"].items())
    (frozen, others), (begun, changed) = (entries(file, "stem", "layer1") for file in (again, first))
    assert len(frozen) > 20 and all(torch.equal(value, begun[key]) for key, value in frozen.items())
    assert not any(torch.equal(value, changed[key]) for key, value in others.items())


def test_a_run_is_not_resumed_on_other_classes(trained, data, tmp_path, monkeypatch, capfd):
    """Neither in training nor in evaluation; other names of as many classes are other classes."""
    content = torch.load(trained / "model" / NAME / "ckpt.pth.tar", weights_only=True)
    other = tmp_path / "other.pth.tar"
    save_checkpoint({**content, "class_names": ["Doing 1", "Doing 0", "Doing 2", "Doing 3"]}, other)
    for more in ([], ["-e"]):
        done = run(monkeypatch, capfd, "main", *flags(data, tmp_path, "--resume", other, "--epochs", 4, *more))
        assert_refused(done, "class 0 is 'Doing 1' in the checkpoint, 'Doing 0' in the data set")
    assert not (tmp_path / "model").exists()


def test_tune_from_keeps_the_classifier_of_the_same_classes(trained, data, tmp_path, monkeypatch, capfd):
    file = trained / "model" / NAME / "ckpt.pth.tar"
    done = run(monkeypatch, capfd, "main", *flags(data, tmp_path, "--tune_from", file, "--debug", "--epochs", 1))
    assert done.status == 0 and "the classifier is kept" in done.err
    other = tmp_path / "other"
    make_somethingv2(other, classes=3)
    done = run(monkeypatch, capfd, "main", *flags(other, tmp_path, "--tune_from", file, "--debug", "--epochs", 1))
    assert done.status == 0 and "the classifier is new" in done.err


def test_a_tuned_run_resumes_with_resume_added_to_its_command(trained, data, tmp_path, monkeypatch, capfd):
    """A classifier taken over from the checkpoint learns as slowly as the other layers, before and after the resume."""
    first = trained / "model" / NAME / "ckpt.pth.tar"

    def tuned(epochs, *more):
        done = run(monkeypatch, capfd, "main",
                   *flags(data, tmp_path, "--tune_from", first, "--debug", "--epochs", epochs, *more))
        assert done.status == 0
        path = tmp_path / "model" / NAME.replace("_e3_", f"_e{epochs}_") / "ckpt.pth.tar"
        return path, torch.load(path, weights_only=True), done.err

    _, whole, _ = tuned(2)
    half, _, _ = tuned(1)
    _, resumed, err = tuned(2, "--resume", half)
    assert "is not loaded again" in err and resumed["epoch"] == 2
    assert all(torch.equal(resumed["state_dict"][key], value) for key, value in whole["state_dict"].items())
    groups = {group["name"]: len(group["params"]) for group in resumed["optimizer"]["param_groups"]}
    assert groups["lr5_weight"] == groups["lr10_bias"] == 0


def test_imagenet_weights_are_not_downloaded_to_be_overwritten(tmp_path, monkeypatch):
    path = tmp_path / "ckpt.pth.tar"
    model = TSN.from_spec(ModelSpec(4, 4, arch="resnet18", shift=True))
    save_checkpoint({"state_dict": {f"module.{k}": v for k, v in model.state_dict().items()}}, path)

    def fetched(*args, **kwargs):
        raise AssertionError("fetched image weights that a checkpoint replaces")
    monkeypatch.setattr(torch.hub, "download_url_to_file", fetched)
    monkeypatch.setattr("ops.pretrained.imagenet_file", fetched)
    make_somethingv2(tmp_path)
    args = opts.parse_train(["somethingv2", "RGB", "--arch", "resnet18", "--shift", "--tune_from", str(path)])
    settings = ModelSpec(4, 4, arch="resnet18", shift=True)
    built = main.build(args, settings, resolve_dataset("somethingv2", "RGB", str(tmp_path)), None)
    assert torch.equal(built.state_dict()["base_model.conv1.weight"], model.state_dict()["base_model.conv1.weight"])


def test_resume_auto_starts_a_run_and_then_continues_it(trained, data, tmp_path, monkeypatch, capfd):
    """Also a tuned one: only its first start loads the other checkpoint."""
    first = trained / "model" / NAME / "ckpt.pth.tar"
    argv = flags(data, tmp_path, "--tune_from", first, "--resume", "auto", "--debug", "--epochs", 2)
    assert_refused(run(monkeypatch, capfd, "main", *argv, "-e", "--suffix", "x"), "there is nothing to evaluate in")
    done = run(monkeypatch, capfd, "main", *argv)
    assert done.status == 0 and "does not exist yet: a new run" in done.err and "the classifier is kept" in done.err
    file = tmp_path / "model" / NAME.replace("_e3_", "_e2_") / "ckpt.pth.tar"
    torch.save({**torch.load(file, weights_only=True), "epoch": 1}, file)
    done = run(monkeypatch, capfd, "main", *argv)
    assert done.status == 0 and f"resumed {file} after epoch 1" in done.err and "the classifier is" not in done.err
    assert torch.load(file, weights_only=True)["epoch"] == 2


def test_the_average_of_the_weights_is_what_is_validated_and_evaluated(data, tmp_path, monkeypatch, capfd):
    done = run(monkeypatch, capfd, "main", *flags(data, tmp_path, "--ema", 0.5))
    assert done.status == 0
    file = tmp_path / "model" / NAME / "ckpt.pth.tar"
    content = torch.load(file, weights_only=True)
    assert content["average"] == {"decay": 0.5, "steps": 9}
    assert not torch.equal(content["state_dict"]["module.base_model.conv1.weight"],
                           content["model"]["module.base_model.conv1.weight"])
    for more in ([], ["--ema", 0.5]):
        again = run(monkeypatch, capfd, "main", *flags(data, tmp_path, "--resume", file, "-e", *more))
        assert again.out.splitlines()[-1] == done.out.splitlines()[-1]
