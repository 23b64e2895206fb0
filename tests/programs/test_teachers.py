"""main.py --teacher: what it trains, stores, resumes and refuses."""
import csv

import fsspec
import pytest
import torch
import yaml

from tests.helpers.processes import ranks
from tests.helpers.programs import assert_refused, run
from tests.helpers.small_run import NAME, flags, rows, weights
from tests.helpers.teachers import NAMES, make_teacher
from tests.helpers.tensorboard import scalars


@pytest.fixture(scope="module")
def teachers(tmp_path_factory):
    """Two teachers: other frames and pixels than the students of `flags`, and the same."""
    root = tmp_path_factory.mktemp("teachers")
    return [make_teacher(root / "a.pth.tar"),
            make_teacher(root / "b.pth.tar", 2, num_segments=3, input_size=32, arch="mobilenetv2")]


MORE = ["--distill_weight", 0.7, "--distill_temperature", 2, "--loss_type", "smooth", "--mixup", 0.3, "--ema", 0.6,
        "--grad_accum", 2, "-b", 2, "--save_freq", 4, "--eval-freq", 1]


@pytest.fixture(scope="module")
def distilled(teachers, data, tmp_path_factory):
    """The directory of a whole run with both teachers, and its output."""
    out = tmp_path_factory.mktemp("distilled")
    status, _, err = ranks(1, "main.py", *flags(data, out, *MORE, "--teacher", ",".join(map(str, teachers))))
    assert status == 0, err
    return out, err


def checkpoint(out):
    return torch.load(out / "model" / NAME / "ckpt.pth.tar", weights_only=True)


def test_a_run_says_and_stores_what_it_learned_from(distilled, teachers):
    out, err = distilled
    for teacher, words in zip(teachers, ("resnet18, 2 segments of 40 pixels", "mobilenetv2, 3 segments of 32 pixels")):
        assert f"teacher {teacher}: {words}" in err
    lines = [line for line in err.splitlines() if " done: loss " in line]
    found = rows(out)
    assert len(lines) == len(found) == 3
    for line, row in zip(lines, found):
        assert f"loss {float(row['train_loss']):.4f} (distilled {float(row['train_distill_loss']):.4f}), prec@1" in line
    assert [value for _, value in scalars(out / "log" / NAME)["loss/train_distilled"]] == pytest.approx(
        [float(row["train_distill_loss"]) for row in found])
    stored = checkpoint(out)
    paths = ",".join(map(str, teachers))
    assert stored["train"]["teacher"] == yaml.safe_load(
        (out / "log" / NAME / "settings.yaml").read_text())["teacher"] == paths
    assert f"teacher: {paths}" in (out / "log" / NAME / "args.txt").read_text()
    assert stored["distillation"]["weight"] == 0.7
    assert [*stored["distillation"]["teachers"].values()] == [*map(str, teachers)]


def test_a_run_without_a_teacher_has_no_columns_for_one(trained):
    with open(trained / "log" / NAME / "log.csv", newline="") as f:
        assert not [name for name in next(csv.reader(f)) if "distill" in name]
    assert "distillation" not in checkpoint(trained)


def test_a_resumed_run_equals_the_whole_one(distilled, teachers, data, tmp_path, monkeypatch, capfd):
    """Interrupted within an epoch; the teachers' files have moved, and are named in another order."""
    whole, _ = distilled
    moved = [teacher.rename(tmp_path / teacher.name) for teacher in teachers]
    try:
        argv = flags(data, tmp_path, *MORE, "--resume", "auto", "--teacher")
        saved = []

        def stop(state, *args, **options):
            saved.append(state.step)
            if len(saved) == 2:
                raise KeyboardInterrupt
        monkeypatch.setattr("ops.training.loop.check_weights", stop)
        assert run(monkeypatch, capfd, "main", *argv, ",".join(map(str, moved))).status == 130
        monkeypatch.undo()
        assert checkpoint(tmp_path)["epoch"] == 1 and checkpoint(tmp_path)["step"] == 1
        done = run(monkeypatch, capfd, "main", *argv, ",".join(map(str, moved[::-1])))
        assert done.status == 0 and "after epoch 1, step 1" in done.err, done.err
    finally:
        for new, old in zip(moved, teachers):
            new.rename(old)
    assert rows(tmp_path) == rows(whole)
    ours, theirs = weights(tmp_path), weights(whole)
    assert all(torch.equal(value, theirs[key]) for key, value in ours.items())


@pytest.mark.parametrize("change, words", [
    (["--teacher", ""], ["--teacher was ", "is not given", "new run with --tune_from"]),
    (["--distill_weight", 0.5], ["--distill_weight was 0.7, is 0.5"]),
    (["--distill_temperature", 4], ["--distill_temperature was 2.0, is 4.0"])])
def test_resuming_cannot_change_the_teachers(change, words, distilled, teachers, data, tmp_path, monkeypatch, capfd):
    file = distilled[0] / "model" / NAME / "ckpt.pth.tar"
    argv = [*flags(data, tmp_path, *MORE, "--epochs", 4, "--resume", file), "--teacher", ",".join(map(str, teachers))]
    assert_refused(run(monkeypatch, capfd, "main", *argv, *change), *words)
    assert not (tmp_path / "model").exists()


def test_resuming_refuses_other_teachers(distilled, trained, teachers, data, tmp_path, monkeypatch, capfd):
    """One of two, a file that has changed, and a first one."""
    argv = flags(data, tmp_path, *MORE, "--epochs", 4, "--resume", distilled[0] / "model" / NAME / "ckpt.pth.tar")
    assert_refused(run(monkeypatch, capfd, "main", *argv, "--teacher", teachers[0]),
                   f", is {teachers[0]}: go on with the --teacher")
    kept = teachers[1].read_bytes()
    make_teacher(teachers[1], 3, num_segments=3, input_size=32)
    try:
        assert_refused(run(monkeypatch, capfd, "main", *argv, "--teacher", ",".join(map(str, teachers))),
                       "(the file has changed)")
    finally:
        teachers[1].write_bytes(kept)
    argv = flags(data, tmp_path, "--epochs", 4, "--resume", trained / "model" / NAME / "ckpt.pth.tar")
    assert_refused(run(monkeypatch, capfd, "main", *argv, "--teacher", teachers[0]),
                   f"--teacher was not given, is {teachers[0]}")


def test_a_teacher_may_be_at_an_address(data, teachers, tmp_path, cache, monkeypatch, capfd):
    addresses = f"memory://lab/run/ckpt.pth.tar,{teachers[1].as_uri()}"
    fsspec.filesystem("memory").put(str(teachers[0]), "/lab/run/ckpt.pth.tar")
    done = run(monkeypatch, capfd, "main", *flags(data, tmp_path, "--teacher", addresses, "--debug", "--epochs", 1))
    assert done.status == 0 and "run/ckpt.pth.tar: resnet18" in done.err, done.err
    content = torch.load(tmp_path / "model" / NAME.replace("_e3_", "_e1_") / "ckpt.pth.tar", weights_only=True)
    assert content["train"]["teacher"] == addresses


def test_a_per_frame_student_learns_from_a_network_that_sees_the_future(data, teachers, tmp_path, monkeypatch, capfd):
    done = run(monkeypatch, capfd, "main", *flags(
        data, tmp_path, "--teacher", teachers[0], "--consensus_type", "identity", "--shift_direction", "unidirectional",
        "--arch", "mobilenetv2", "--cutmix", 1.0, "--class_weights", "auto", "--amp", "bf16", "--debug", "--epochs", 1))
    assert done.status == 0 and "(distilled " in done.err, done.err


def test_teachers_that_cannot_teach_are_refused(data, tmp_path, monkeypatch, capfd):
    broken = make_teacher(tmp_path / "broken.pth")
    content = torch.load(broken, weights_only=True)
    content["state_dict"]["module.new_fc.bias"][1] = float("nan")
    torch.save(content, broken)
    (tmp_path / "text.pth").write_text("no checkpoint")
    bare = tmp_path / "bare.pth"
    torch.save(torch.load(make_teacher(tmp_path / "whole.pth"), weights_only=True)["state_dict"], bare)
    image = tmp_path / "image.pth"
    torch.save({"conv1.weight": torch.zeros(64, 3, 7, 7), "fc.weight": torch.zeros(1000, 512),
                "fc.bias": torch.zeros(1000)}, image)
    other_names = make_teacher(tmp_path / "names.pth", names=NAMES[::-1])
    fewer = make_teacher(tmp_path / "fewer.pth", names=NAMES[:3])
    for teacher, words in (
            (other_names, ["class 0 is 'Doing 3' in the checkpoint, 'Doing 0' in the data set"]),
            (fewer, ["has 3 classes, data set somethingv2 has 4"]),
            (make_teacher(tmp_path / "flow.pth", modality="Flow"), ["takes Flow", "trains on RGB", "--teacher"]),
            (broken, ["tensors hold NaN or Inf"]), (tmp_path / "text.pth", ["text.pth"]),
            (tmp_path / "absent.pth", ["absent.pth"]), (bare, ["nothing shows which network it is", "--teacher"]),
            (image, ["weights of an image network are for"])):
        done = run(monkeypatch, capfd, "main", *flags(data, tmp_path / "out", "--teacher", teacher))
        assert_refused(done, *words)
        assert str(teacher) in done.err.splitlines()[-1]
    assert not (tmp_path / "out").exists()


def test_a_run_does_not_overwrite_its_teacher(data, tmp_path, monkeypatch, capfd):
    file = make_teacher(tmp_path / "model" / NAME / "ckpt.pth.tar")
    assert_refused(run(monkeypatch, capfd, "main", *flags(data, tmp_path, "--teacher", file)), "would overwrite the input")


@pytest.mark.parametrize("argv, words", [
    (["--distill_weight", "1.5"], ["--distill_weight", "1.5"]),
    (["--distill_weight", "0"], ["--distill_weight 0", "above 0"]),
    (["--distill_temperature", "0"], ["--distill_temperature"])])
def test_numbers_out_of_range_are_refused(argv, words, data, tmp_path, monkeypatch, capfd):
    assert_refused(run(monkeypatch, capfd, "main", *flags(data, tmp_path, "--teacher", "x.pth", *argv)), *words)


@pytest.mark.parametrize("text, words", [
    (",", ["--teacher ','", "is empty", "A.pth,B.pth"]), ("a.pth,", ["--teacher 'a.pth,'", "is empty"]),
    ("a.pth,https://me:hunter2@host/b.pth", ["--teacher", "https://***@host/b.pth", "usual places"]),
    ("https://host/a.pth?X-Amz-Signature=hunter2", ["--teacher", "X-Amz-Signature=***"])])
@pytest.mark.parametrize("by_file", [False, True])
def test_names_of_teachers_are_checked(by_file, text, words, data, tmp_path, monkeypatch, capfd):
    """Before anything stores them."""
    (tmp_path / "settings.yaml").write_text(f"teacher: '{text}'\n")
    given = ["--config", tmp_path / "settings.yaml"] if by_file else ["--teacher", text]
    done = run(monkeypatch, capfd, "main", *flags(data, tmp_path, *given))
    assert_refused(done, *([f"settings.yaml:1: teacher {word[10:]}" if word.startswith("--teacher ") else word
                            for word in words if word != "--teacher"] if by_file else words))
    assert "hunter2" not in done.err + done.out and not (tmp_path / "log").exists()


def test_a_teacher_is_named_once(data, teachers, tmp_path, monkeypatch, capfd):
    done = run(monkeypatch, capfd, "main", *flags(data, tmp_path, "--teacher", f"{teachers[0]},{teachers[0]}"))
    assert_refused(done, f"--teacher {teachers[0]} has the same content as {teachers[0]}: name it once")


def test_options_of_teachers_have_no_effect_without_one(data, tmp_path, monkeypatch, capfd):
    done = run(monkeypatch, capfd, "main", *flags(data, tmp_path, "--distill_weight", 0.9, "--debug", "--epochs", 1))
    assert done.status == 0 and "--distill_weight" in done.err and "it needs --teacher" in done.err
