"""test_models.py: protocols and their views, mirrored crops, reports, csv files, wrong checkpoints."""
import argparse
import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

import test_models
from ops.dataset_config import DATASETS
from ops.weights import save_checkpoint
from tests.helpers.members import member
from tests.helpers.programs import assert_refused, make_somethingv2, run, write_list
from tests.helpers.small_run import NAME, flags


def test_evaluate_and_test_models_agree(trained, data, tmp_path, monkeypatch, capfd):
    file = trained / "model" / NAME / "ckpt.pth.tar"
    done = run(monkeypatch, capfd, "main", *flags(data, tmp_path, "--resume", file, "-e"))
    line = next(line for line in done.out.splitlines() if line.startswith("Testing Results"))
    main_top1, main_top5 = float(line.split()[3]), float(line.split()[5])
    tested = run(monkeypatch, capfd, "test_models", "somethingv2", "--weights", file, "--root_dataset", data, "-j", 0,
                 "--batch_size", 2, "--out", tmp_path / "report", "--csv_file", tmp_path / "out.csv")
    result = json.loads((tmp_path / "report" / "results.json").read_text())
    assert tested.status == 0
    assert (round(result["top1"], 3), round(result["top5"], 3)) == (main_top1, main_top5)
    assert f"{result['loss']:.5f}" == line.split()[-1]
    last = tested.out.strip().splitlines()[-2:]
    assert last == [f"Class Accuracy {result['class_accuracy']:.2f}%",
                    f"Overall Prec@1 {result['top1']:.2f}% Prec@5 {result['top5']:.2f}%"]
    confusion = np.load(tmp_path / "report" / "confusion.npy")
    assert confusion.sum() == 7 and 100 * np.trace(confusion) / 7 == pytest.approx(result["top1"])
    assert Image.open(tmp_path / "report" / "confusion.png").size[0] > 100
    table = (tmp_path / "out.csv").read_text().splitlines()
    assert len(table) == 7 and table[0].startswith("clip 12;") and table[0].count(";") == 4  # all four classes


@pytest.mark.parametrize("protocol, views", [
    (["--test_crops", 3, "--full_res"], 3), (["--test_crops", 5], 5), (["--test_crops", 10], 10),
    (["--twice_sample"], 2), (["--dense_sample"], 10), (["--test_crops", 3, "--twice_sample"], 6)])
def test_protocols_score_each_view_on_its_own(protocol, views, trained, data, tmp_path, monkeypatch, capfd):
    """The mean over views equals one computed view by view from the items of the data set."""
    file = trained / "model" / NAME / "ckpt.pth.tar"
    kept = {}
    monkeypatch.setattr(test_models, "write_report", lambda scores, *_, **__: kept.update(scores=scores))
    done = run(monkeypatch, capfd, "test_models", "somethingv2", "--weights", file, "--root_dataset", data, "-j", 0,
               "--batch_size", 2, "--out", tmp_path, "--max_num", 3, *protocol)
    assert done.status == 0 and f"= {views} views" in done.err
    args = test_models.opts.parse_test(["somethingv2", "--weights", str(file), "--root_dataset", str(data),
                                        *map(str, protocol)])
    member = test_models.build(args, 0, torch.device("cpu"))
    p = args.protocol
    model = member.runtime.network.eval()
    videos = test_models.TSNDataSet(
        member.data.frames, member.data.val_list, 3, image_tmpl=member.data.template, test_mode=True,
        dense_sample=p.dense, twice_sample=p.twice, transform=p.transform(model.preprocessing))
    for i in range(3):
        clip, _ = videos[i]
        assert clip.shape[0] == views * 3 * 3
        with torch.no_grad():
            each = [model(model.preprocessing.apply(view[None]))[0] for view in clip.unflatten(0, (views, -1))]
        assert torch.allclose(torch.stack(each).mean(0), kept["scores"].logits[i], rtol=1e-4, atol=1e-5)


def test_a_named_protocol_is_described_and_excludes_its_flags(tmp_path, monkeypatch, capfd):
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


def test_mirrored_crops_swap_the_scores_of_left_and_right(tmp_path, monkeypatch, capfd):
    """Ten crops of clips that are their own mirror images: left and right classes must get equal scores."""
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


def test_ten_crops_need_to_know_which_labels_a_mirror_swaps(tmp_path, monkeypatch, capfd):
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


def test_csv_files_have_the_form_of_the_leaderboards(tmp_path, monkeypatch, capfd):
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


def test_wrong_checkpoints(trained, data, tmp_path, monkeypatch, capfd):
    file = trained / "model" / NAME / "ckpt.pth.tar"
    (tmp_path / "text.pth.tar").write_text("not a checkpoint")
    (tmp_path / "half.pth.tar").write_bytes(file.read_bytes()[:30000])
    torch.save({"epoch": 1}, tmp_path / "empty.pth.tar")
    torch.save([1, 2], tmp_path / "list.pth.tar")

    def tested(path, *more):
        return run(monkeypatch, capfd, "test_models", "somethingv2", "--weights", path, "--root_dataset", data, "-j", 0,
                   "--out", tmp_path / "out", *more)
    assert_refused(tested(tmp_path / "text.pth.tar"), "text.pth.tar is not a")
    assert_refused(tested(tmp_path / "half.pth.tar"), "half.pth.tar is not a readable checkpoint")
    assert_refused(tested(tmp_path / "empty.pth.tar"), "holds no weights", "epoch")
    assert_refused(tested(tmp_path / "list.pth.tar"), "holds a list")
    assert_refused(tested(file, "--arch", "resnet34"), "do not fit", "keys missing")
    assert_refused(tested(file, "--test_segments", "0"), "--test_segments 0")
    assert_refused(tested(file, "--test_segments", "8,16"), "2 values for 1 checkpoint")
    assert_refused(tested(file, "--coeff", "nan"), "--coeff nan: choose finite numbers")
    assert_refused(tested(file, "--test_crops", 4), "--test_crops 4", "choose 1, 3, 5, 10")
    other = tmp_path / "other"
    make_somethingv2(other, classes=3)
    done = run(monkeypatch, capfd, "test_models", "somethingv2", "--weights", file, "--root_dataset", other, "-j", 0)
    assert_refused(done, "4 classes", "3")
    assert_refused(run(monkeypatch, capfd, "main", *flags(data, tmp_path, "--resume", file, "--shift_div", 4)),
                   "shift_div 8 there, 4 here")
    assert not (tmp_path / "out").exists()


def test_outputs_that_cannot_be_written_are_refused_before_the_work(trained, data, tmp_path, monkeypatch, capfd):
    (tmp_path / "file").write_text("in the way")
    flags = ["somethingv2", "--weights", trained / "model" / NAME / "ckpt.pth.tar", "--root_dataset", data, "-j", 0,
             "--max_num", 2]
    for more in (["--out", tmp_path / "file"], ["--out", tmp_path / "report", "--csv_file", tmp_path / "file" / "x.csv"]):
        done = run(monkeypatch, capfd, "test_models", *flags, *more)
        assert_refused(done, "cannot write", "file is not a directory")
        assert not done.out
    # A fault that shows only while writing costs no scores: they are written first.
    monkeypatch.setattr("ops.common.files.os.path.isdir", lambda path: False)
    done = run(monkeypatch, capfd, "test_models", *flags, "--out", tmp_path / "report", "--csv_file", tmp_path)
    assert_refused(done, "cannot write", str(tmp_path))
    assert (tmp_path / "report" / "scores.npy").exists()


def test_streaming_warns_of_flags_without_effect(caplog):
    test_models.warn_no_effect(argparse.Namespace(softmax=True, gpus=None, coeff=[2.0]))
    assert [record.message.split(" has")[0] for record in caplog.records] == ["warning: --softmax", "warning: --coeff"]
    test_models.warn_no_effect(argparse.Namespace(softmax=False, gpus=None, coeff=[1.0]))
    assert len(caplog.records) == 2
