"""What the published programs do, done here: one step of training, reading each other's files, ensembles."""
import copy
import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from ops.checkpoints.matching import tune_from
from ops.dataset_config import DATASETS, JESTER_CLASSES, mirror_labels, resolve_dataset
from ops.models import TSN
from ops.spec import ModelSpec
from ops.training.loop import train_step
from ops.training.schedule import learning_rate, set_learning_rate
from ops.training.state import TrainState
from ops.weights import save_checkpoint
from tests.helpers.golden_model import clip
from tests.helpers.programs import assert_refused, make_somethingv2, run

LR, MOMENTUM, DECAY = 0.02, 0.9, 5e-4


def rate(epoch, lr, lr_type, lr_steps):
    """The learning rate of a run of 50 epochs."""
    return learning_rate(epoch, lr=lr, lr_type=lr_type, lr_steps=lr_steps, epochs=50)


def hand_written_sgd(model, batches, partial_bn):
    """Steps of the published recipe, spelled out from the groups' definition rather than from our code."""
    velocity = {}
    convs = [m for m in model.modules() if isinstance(m, torch.nn.Conv2d)]
    norms = [m for m in model.modules() if isinstance(m, torch.nn.BatchNorm2d)]
    for frames, labels in batches:
        model.train()
        if partial_bn:
            for norm in norms[1:]:
                norm.eval()
        for parameter in model.parameters():
            parameter.grad = None
        F.cross_entropy(model(frames), labels).backward()
        with torch.no_grad():
            for module in model.modules():
                for name, p in module.named_parameters(recurse=False):
                    if module in norms:
                        if partial_bn and module is not norms[0]:
                            continue
                        rate, decay = LR, 0.0
                    elif isinstance(module, torch.nn.Linear):
                        rate, decay = (5 * LR, DECAY) if name == "weight" else (10 * LR, 0.0)
                    else:
                        assert module in convs
                        rate, decay = (LR, DECAY) if name == "weight" else (2 * LR, 0.0)
                    step = p.grad + decay * p
                    velocity[p] = MOMENTUM * velocity[p] + step if p in velocity else step
                    p -= rate * velocity[p]


@pytest.mark.parametrize("arch", ["resnet18", "mobilenetv2"])
@pytest.mark.parametrize("partial_bn", [True, False])
def test_training_steps_equal_hand_written_sgd(arch, partial_bn):
    torch.manual_seed(0)
    settings = ModelSpec(5, 2, arch=arch, shift=True, dropout=0, input_size=32)
    # float64: batch norm over this few values would turn float32 rounding into visible differences.
    ours = TSN.from_spec(settings, partial_bn=partial_bn, fc_lr5=True).double()
    theirs = copy.deepcopy(ours)
    batches = [(clip(3, 2, 3, 32, seed=i).double(), torch.tensor([0, 3, 4])) for i in range(2)]
    hand_written_sgd(theirs, batches, partial_bn)
    optimizer = torch.optim.SGD(ours.get_optim_policies(), LR, momentum=MOMENTUM, weight_decay=DECAY)
    set_learning_rate(optimizer, rate(0, LR, "step", [20, 40]), DECAY)
    state = TrainState(ours, optimizer)
    for frames, labels in batches:
        ours.train()
        train_step(state, frames, labels)
    for (key, a), b in zip(ours.state_dict().items(), theirs.state_dict().values()):
        assert torch.allclose(a, b, rtol=1e-4, atol=1e-6), key


def test_schedules_are_the_published_ones():
    assert [rate(e, 0.02, "step", [20, 40]) for e in (0, 19, 20, 39, 40)] == pytest.approx(
        [0.02, 0.02, 0.002, 0.002, 0.0002])
    assert [rate(e, 0.02, "cos", []) for e in (0, 25, 50)] == pytest.approx([0.02, 0.01, 0.0])


@pytest.mark.parametrize("row, arch, options", [
    ("resnet18_blockres", "resnet18", {}), ("resnet50_blockres_nl", "resnet50", {"non_local": True}),
    ("mobilenetv2_shift", "mobilenetv2", {}), ("bninception_block", "BNInception", {})])
def test_published_test_program_reads_our_checkpoint(row, arch, options, golden, tmp_path):
    settings = ModelSpec(11, 8, arch=arch, shift=True, **options)
    model = TSN.from_spec(settings)
    optimizer = torch.optim.SGD(model.get_optim_policies(), 0.1)
    metadata = {"arch": arch, "settings": settings.to_dict()}
    TrainState(model, optimizer, epoch=1, metadata=metadata).save(tmp_path, best=True)
    weights = torch.load(tmp_path / "ckpt.best.pth.tar", weights_only=True)["state_dict"]
    read = {".".join(key.split(".")[1:]): value for key, value in weights.items()}
    for end in ("weight", "bias"):
        if f"base_model.classifier.{end}" in read:
            read[f"new_fc.{end}"] = read.pop(f"base_model.classifier.{end}")
    assert {key: list(value.shape) for key, value in read.items()} == dict(golden("state_dict_keys")[row])


def member(path, **options):
    settings = ModelSpec(**{"num_class": 4, "num_segments": 3, "arch": "resnet18", "input_size": 32, **options})
    torch.manual_seed(len(path.name))
    model = TSN.from_spec(settings)
    torch.nn.init.normal_(model.new_fc.weight, 0, 0.1)
    weights = {f"module.{key}": value for key, value in model.state_dict().items()}
    save_checkpoint({"epoch": 1, "arch": "resnet18", "state_dict": weights, "settings": settings.to_dict(),
                     "dataset": "somethingv2", "class_names": [f"Doing {i}" for i in range(4)]}, path)
    return path


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


def test_ensembles_of_unlike_lists_are_refused(tmp_path, monkeypatch, capfd):
    make_somethingv2(tmp_path)
    a, b = member(tmp_path / "a.pth.tar"), member(tmp_path / "b.pth.tar")
    lists = tmp_path / "something" / "v2"
    done = run(monkeypatch, capfd, "test_models", "somethingv2", "--weights", f"{a},{b}", "--root_dataset", tmp_path,
               "-j", 0, "--test_list", f"{lists / 'val_videofolder.txt'},{lists / 'train_videofolder.txt'}")
    assert_refused(done, "different videos or labels")


@pytest.mark.parametrize("name", ["plain.pth.tar", "TSM_somethingv2_RGB_resnet18_shift8_blockres_avg_segment3_e1.pth"])
def test_flags_win_over_metadata_and_names(name, tmp_path, monkeypatch, capfd):
    """A TSM scored as the TSN that its flags make of it, with another div, and as a network that it is not."""
    make_somethingv2(tmp_path)
    file = member(tmp_path / name, shift=True)
    if name.startswith("TSM_"):  # a released file: nothing but weights and the name
        save_checkpoint({"state_dict": torch.load(file, weights_only=True)["state_dict"]}, file)

    def scores(*more):
        done = run(monkeypatch, capfd, "test_models", "somethingv2", "--weights", file, "--root_dataset", tmp_path,
                   "-j", 0, "--batch_size", 7, "--out", tmp_path / "out", "--input_size", 32, *more)
        assert done.status == 0, done.err
        return np.load(tmp_path / "out" / "scores.npy")
    member(tmp_path / "x" / name, shift=False)  # the same weights: the seed is the name's length
    argv = ["test_models", "somethingv2", "--weights", tmp_path / "x" / name, "--root_dataset", tmp_path, "-j", 0,
            "--batch_size", 7, "--out", tmp_path / "tsn"]
    assert run(monkeypatch, capfd, *argv).status == 0
    shifted, still = scores(), scores("--no-shift")
    assert np.allclose(still, np.load(tmp_path / "tsn" / "scores.npy"), atol=1e-6)
    assert not np.allclose(shifted, still, atol=1e-3)
    assert not np.allclose(scores("--shift_div", 2), shifted, atol=1e-3)
    assert np.allclose(scores("--shift", "--shift_place", "blockres", "--arch", "resnet18"), shifted, atol=1e-6)


@pytest.fixture
def scored(tmp_path, monkeypatch, capfd):
    """scored(weights, *flags) -> (scores (7, 4), standard error) of somethingv2's small stand-in."""
    make_somethingv2(tmp_path)

    def start(weights, *flags):
        done = run(monkeypatch, capfd, "test_models", "somethingv2", "--weights", weights, "--root_dataset", tmp_path,
                   "-j", 0, "--batch_size", 7, "--out", tmp_path / "out", "--input_size", 32, "--test_segments", 3, *flags)
        assert done.status == 0, done.err
        return np.load(tmp_path / "out" / "scores.npy"), done.err
    return start


def bare(path, named):
    """The weights of `named` in a file that says nothing of them."""
    save_checkpoint({"state_dict": torch.load(named, weights_only=True)["state_dict"]}, path)
    return path


def test_a_file_that_says_nothing_is_read_by_its_keys(tmp_path, scored, capfd):
    named = member(tmp_path / "tsm.pth.tar", shift=True, shift_div=4, shift_place="block")
    nameless = bare(tmp_path / "found.pth", named)
    flags = ["--arch", "resnet18", "--modality", "RGB", "--shift_div", 4]
    wanted, _ = scored(named)
    found, said = scored(nameless, *flags)
    assert np.array_equal(found, wanted) and "shift 1/4 block (by its keys and the flags)" in said
    assert "warning" not in said
    still, said = scored(nameless, *flags, "--no-shift")
    assert not np.allclose(still, wanted, atol=1e-3)
    assert "its keys say that it was trained with a shift (block), this model has none" in said
    _, said = scored(bare(tmp_path / "tsn.pth", member(tmp_path / "plain.pth.tar")), *flags)
    assert "nothing says whether it shifts" in said

    with torch.device("meta"):
        plain = TSN.from_spec(ModelSpec(4, 3, arch="resnet18"))
    tune_from(plain.to_empty(device="cpu"), nameless, "somethingv2", None)
    assert f"{nameless}: its keys say that it was trained with a shift (block)" in capfd.readouterr().err


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
    found, said = scored(weights, "--arch", "resnet18,mobilenetv2", "--modality", "RGB", "--shift_div", "4,8",
                         "--shift_place", "blockres,block", "--shift_direction", "bidirectional")
    assert np.array_equal(found, wanted)
    assert "resnet18 RGB, 3 segments, shift 1/4 blockres" in said and "mobilenetv2 RGB, 3 segments, shift 1/8 block" in said
    for flag, values in (("--arch", "resnet18,resnet18,resnet34"), ("--shift_div", "4,4,4")):
        assert_refused(run(monkeypatch, capfd, "test_models", "somethingv2", "--weights", weights, flag, values),
                       f"{flag} has 3 values for 2 checkpoints")


def test_a_checkpoint_of_other_classes_is_refused(tmp_path, monkeypatch, capfd):
    """something's and somethingv2's 174 classes are not the same, whether names or the file's name tell."""
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


def test_csv_files_are_the_leaderboards(tmp_path, monkeypatch, capfd):
    make_somethingv2(tmp_path, classes=6)
    (tmp_path / "something" / "v1").mkdir()
    (tmp_path / "something" / "v1" / "category.txt").write_text("".join(f"Acting {i}\n" for i in range(6)))
    base = tmp_path / "something" / "v2"
    for dataset in ("something", "somethingv2"):
        file = member(tmp_path / f"{dataset}.pth", num_class=6)
        save_checkpoint({**torch.load(file, weights_only=True), "dataset": dataset, "class_names": None}, file)
        frames, listed = base / "20bn-something-something-v2-frames", base / "val_videofolder.txt"
        monkeypatch.setattr("ops.dataset_config.DATASETS", {**DATASETS, "something": replace(
            DATASETS["something"], files=DATASETS["somethingv2"].files)})
        done = run(monkeypatch, capfd, "test_models", dataset, "--weights", file, "--root_dataset", tmp_path, "-j", 0,
                   "--root_path", frames, "--test_list", listed, "--batch_size", 7, "--out", tmp_path / dataset,
                   "--csv_file", tmp_path / f"{dataset}.csv", "--input_size", 32)
        assert done.status == 0, done.err
        rows = [line.split(";") for line in (tmp_path / f"{dataset}.csv").read_text().splitlines()]
        best = np.argsort(-np.load(tmp_path / dataset / "scores.npy"), 1, kind="stable")
        assert [row[0] for row in rows] == [f"clip {i}" for i in range(12, 19)]
        wanted = [[f"Acting {i}"] for i in best[:, 0]] if dataset == "something" else best[:, :5].astype(str).tolist()
        assert [row[1:] for row in rows] == wanted


def test_a_named_protocol_says_what_it_does_and_excludes_its_flags(tmp_path, monkeypatch, capfd):
    make_somethingv2(tmp_path)
    file = member(tmp_path / "a.pth.tar", shift=True)
    argv = ["somethingv2", "--weights", file, "--root_dataset", tmp_path, "-j", 0, "--out", tmp_path / "out",
            "--max_num", 1]
    done = run(monkeypatch, capfd, "test_models", *argv, "--protocol", "accurate")
    assert done.status == 0
    assert "2 whole-video clips x 3 crops at full resolution = 6 views per video" in done.err
    assert "GFLOPs per video" in done.err
    assert_refused(run(monkeypatch, capfd, "test_models", *argv, "--protocol", "fast"), "'fast'", "kinetics-dense")
    assert_refused(run(monkeypatch, capfd, "test_models", *argv, "--protocol", "accurate", "--twice_sample"),
                   "exclude each other")


def test_flip_labels_needs_classes_that_a_mirror_swaps(tmp_path, monkeypatch, capfd):
    make_somethingv2(tmp_path)
    argv = ["somethingv2", "RGB", "--arch", "resnet18", "--pretrain", "none", "--root_dataset", tmp_path, "-j", 0,
            "--root_log", tmp_path / "log", "--root_model", tmp_path / "model"]
    assert_refused(run(monkeypatch, capfd, "main", *argv, "--flip", "labels"), "--flip labels", "auto or none")
    assert_refused(run(monkeypatch, capfd, "main", *argv, "--flip", "both"), "--flip 'both'", "auto, none or labels")


def test_mirrored_crops_swap_the_scores_of_left_and_right(tmp_path, monkeypatch, capfd):
    """Ten crops of clips that are their own mirror images: the scores of twin classes must come out equal."""
    from PIL import Image

    from tests.helpers.programs import write_list
    base = tmp_path / "something" / "v2"
    directory = base / "20bn-something-something-v2-frames" / "a"
    directory.mkdir(parents=True)
    half = np.random.default_rng(0).integers(0, 255, (48, 32, 3), dtype=np.uint8)
    for i in range(1, 4):
        Image.fromarray(np.concatenate([half, half[:, ::-1]], 1)).save(directory / f"{i:06d}.jpg", quality=100,
                                                                       subsampling=0)
    write_list(base / "val_videofolder.txt", {"a": (3, 0)})
    (base / "category.txt").write_text("Moving left\nMoving up\nMoving right\nLifting\n")
    file = member(tmp_path / "a.pth.tar")
    content = torch.load(file, weights_only=True)
    content["class_names"] = ["Moving left", "Moving up", "Moving right", "Lifting"]
    save_checkpoint(content, file)
    done = run(monkeypatch, capfd, "test_models", "somethingv2", "--weights", file, "--root_dataset", tmp_path,
               "-j", 0, "--out", tmp_path / "out", "--test_crops", 10)
    assert done.status == 0, done.err
    scores = np.load(tmp_path / "out" / "scores.npy")[0]
    assert scores[0] == pytest.approx(scores[2], abs=2e-2) and abs(scores[1] - scores[3]) > 2e-2


def test_what_a_mirror_exchanges_is_known_without_the_file_of_class_names(tmp_path):
    data = resolve_dataset("jester", "RGB", str(tmp_path))
    assert data.class_names is None
    labels = mirror_labels(data)
    swapped = {JESTER_CLASSES[a]: JESTER_CLASSES[b] for a, b in enumerate(labels) if a < b}
    assert swapped == {"Sliding Two Fingers Left": "Sliding Two Fingers Right", "Swiping Left": "Swiping Right",
                       "Turning Hand Clockwise": "Turning Hand Counterclockwise"}
    some = replace(data, num_class=3)
    assert mirror_labels(some) is None
    assert mirror_labels(some, ["Left", "Right", "Up"]) == [1, 0, 2]
    assert mirror_labels(replace(some, class_names=["Left", "Up", "Right"]), ["Left", "Right", "Up"]) == [2, 1, 0]


def test_ten_crops_need_to_know_what_a_mirror_exchanges(tmp_path, monkeypatch, capfd):
    make_somethingv2(tmp_path)
    base = tmp_path / "something" / "v2"
    table = tmp_path / "datasets.yaml"
    table.write_text(f"mine:\n  root: {base / '20bn-something-something-v2-frames'}\n  num_class: 4\n"
                     f"  train_list: {base / 'train_videofolder.txt'}\n  val_list: {base / 'val_videofolder.txt'}\n")
    file = member(tmp_path / "a.pth.tar")
    content = {**torch.load(file, weights_only=True), "dataset": "mine"}

    def tested(names, crops):
        save_checkpoint({**content, "class_names": names}, file)
        return run(monkeypatch, capfd, "test_models", "mine", "--dataset_file", table, "--weights", file, "-j", 0,
                   "--out", tmp_path / "out", "--max_num", 1, "--test_crops", crops)
    assert_refused(tested(None, 10), "--test_crops 10", "class names", "mine", "--test_crops 5")
    assert tested(None, 5).status == 0
    assert tested(["Left", "Right", "Up", "Down"], 10).status == 0
