"""A data set whose videos have several classes: trained, tested, predicted and streamed."""
import csv
import json
import re
from pathlib import Path

import fsspec
import pytest
import torch

from ops.training.run_log import read_log
from tests.helpers.charts import capture_figures, lines_of
from tests.helpers.multi_label import CLASSES, make_multi_label
from tests.helpers.processes import finish, start
from tests.helpers.programs import assert_refused, run

NAME = "TSM_multi_RGB_resnet18_shift8_blockres_uni_avg_segment4_e6_none"
CHANCE = 42  # percent: each direction is that of a third of the videos, and half of them have a red floor, and a disc
SHAPE = ["--arch", "resnet18", "--num_segments", 4, "--pretrain", "none", "--input_size", 32, "--shift",
         "--shift_direction", "unidirectional", "--dropout", 0.2, "--device", "cpu", "-j", 0]


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """The data set's yaml file."""
    return make_multi_label(tmp_path_factory.mktemp("multi") / "data", train=80, val=24)


@pytest.fixture(scope="module")
def trained(data):
    """The directory of a finished run."""
    out = data.parent.parent
    status, text, err = finish(start(
        "main.py", "multi", "RGB", "--dataset_file", data, *SHAPE, "-b", 8, "--epochs", 6, "--eval-freq", 3, "--lr", 0.02,
        "--gd", 20, "--npb", "--seed", 1, "--root_log", out / "log", "--root_model", out / "model"))
    assert status == 0, err
    assert "left and right classes swap" in err and "best map " in err
    assert re.findall(r"Testing Results: mAP \d+\.\d+ Prec@1 \d+\.\d+ Prec@5 \d+\.\d+ Loss ", text)
    return out


def best(trained):
    return trained / "model" / NAME / "ckpt.best.pth.tar"


def test_a_run_learns_several_classes_at_once(trained):
    with open(trained / "log" / NAME / "log.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    measured = [float(row["val_map"]) for row in rows if row["val_map"]]
    assert len(measured) == 2 and max(measured) > CHANCE + 25
    content = torch.load(best(trained), weights_only=True)
    assert content["settings"]["multi_label"] is True and content["class_names"] == list(CLASSES)
    assert content["best"]["by"] == "map" and content["best"]["value"] == pytest.approx(max(measured), abs=1e-3)
    events = b"".join(path.read_bytes() for path in (trained / "log" / NAME).glob("events.*"))
    assert b"acc/test_map" in events


def test_its_log_is_drawn_and_compared_by_its_average_precision(trained, tmp_path, monkeypatch, capfd):
    figures = capture_figures(monkeypatch)
    done = run(monkeypatch, capfd, "tools.plot_log", trained / "log" / NAME, "--out", tmp_path / "p.png")
    assert done.status == 0, done.err
    measured = {int(row["epoch"]) + 1: float(row["val_map"]) for row in read_log(trained / "log" / NAME / "log.csv")
                if row["val_map"]}
    below = figures[0].axes[1]
    assert below.get_ylabel() == "mAP, %" and lines_of(below)[f"{NAME}, validation"] == list(measured.items())
    done = run(monkeypatch, capfd, "tools.compare_runs", trained / "log" / NAME, "--json")
    epoch = max(measured, key=measured.get)
    assert json.loads(done.out)[0]["results"]["best val_map"] == f"{measured[epoch]:.2f} (epoch {epoch - 1})"


def test_it_is_tested_like_any_other(trained, data, tmp_path, monkeypatch, capfd):
    argv = ["multi", "--dataset_file", data, "-j", 0, "--device", "cpu", "--batch_size", 8]
    done = run(monkeypatch, capfd, "test_models", *argv, "--weights", best(trained), "--out", tmp_path, "--test_crops", 3,
               "--csv_file", tmp_path / "present.csv")
    assert done.status == 0, done.err
    last = done.out.strip().splitlines()
    results = json.loads((tmp_path / "results.json").read_text())
    assert last[-1] == "Overall mAP {map:.2f}% Prec@1 {top1:.2f}% Prec@5 {top5:.2f}%".format(**results)
    assert results["map"] > CHANCE + 25 and [line.split("% ")[1] for line in last[:4]] == list(CLASSES)
    table = list(csv.DictReader((tmp_path / "per_class.csv").open()))
    assert sum(float(row["average_precision"]) for row in table) / 4 == pytest.approx(results["map"], abs=0.01)
    answers = [line.split(";") for line in (tmp_path / "present.csv").read_text().splitlines()]
    assert len(answers) == 24 and {name for _, *names in answers for name in names} <= set(CLASSES)

    both = ",".join([str(best(trained)), str(best(trained).with_name("ckpt.pth.tar"))])
    done = run(monkeypatch, capfd, "test_models", *argv, "--weights", both, "--softmax", "--out", tmp_path / "both")
    assert done.status == 0 and done.out.splitlines()[-1].startswith("Overall mAP "), done.err


@pytest.mark.parametrize("online", [[], ["--online"]])
def test_its_report_is_copied_out(online, trained, data, tmp_path, monkeypatch, capfd):
    """Without a confusion matrix, also where an earlier report left one."""
    out = tmp_path / f"report{len(online)}"
    out.mkdir()
    (out / "confusion.png").write_bytes(b"of an earlier report")
    done = run(monkeypatch, capfd, "test_models", "multi", "--dataset_file", data, "-j", 0, "--device", "cpu", "--weights",
               best(trained), "--batch_size", 8, "--max_num", 8, "--out", out, "--train_url", "memory://lab/reports",
               *online)
    assert done.status == 0, done.err
    memory = fsspec.filesystem("memory")
    copied = {Path(name).name: memory.cat_file(name) for name in memory.ls(f"/lab/reports/{out.name}", detail=False)}
    assert copied == {path.name: path.read_bytes() for path in out.iterdir()}
    assert "results.json" in copied and not [name for name in copied if "confusion" in name]
    assert ("accuracy_over_time.csv" in copied) == bool(online)


def test_its_checkpoint_tells_that_classes_do_not_exclude_each_other(trained, data, monkeypatch, capfd):
    """Without the data set: probabilities of single classes, and when each is present."""
    videos = [data.parent / "val" / f"{i:03d}.mp4" for i in range(24)]
    done = run(monkeypatch, capfd, "tools.predict", *videos, "--weights", best(trained), "--device", "cpu", "--json")
    assert done.status == 0, done.err
    reports = json.loads(done.out)
    sums = [sum(row["probability"] for row in report["predictions"]) for report in reports]
    assert max(sums) > 1.3 and min(sums) < 0.7 and all(report["multi_label"] for report in reports)
    windows = [videos[sums.index(max(sums))], "--weights", best(trained), "--device", "cpu", "--window", 0.2]
    done = run(monkeypatch, capfd, "tools.predict", *windows)
    assert done.status == 0, done.err
    stretches = [line for line in done.out.splitlines() if " to " in line]
    assert len({line.split("%  ")[1] for line in stretches}) > 1
    done = run(monkeypatch, capfd, "tools.predict", *windows, "--topk", 1)
    assert [line for line in done.out.splitlines() if " to " in line] == stretches, "also classes that are not the best"
    done = run(monkeypatch, capfd, "tools.predict", *windows, "--topk", 1, "--json")
    report, = json.loads(done.out)
    assert len(report["present"]) == len(stretches) and {len(row["predictions"]) for row in report["timeline"]} == {1}
    done = run(monkeypatch, capfd, "tools.inspect_checkpoint", best(trained))
    assert "multi_label      True (by its metadata)" in done.out


def test_it_streams(trained, data, tmp_path, monkeypatch, capfd):
    done = run(monkeypatch, capfd, "test_models", "multi", "--dataset_file", data, "-j", 0, "--device", "cpu", "--weights",
               best(trained), "--online", "--batch_size", 8, "--out", tmp_path)
    assert done.status == 0 and re.search(r"Overall mAP \d", done.out), done.err
    online = tmp_path / "online.pth.tar"
    done = run(monkeypatch, capfd, "tools.convert_to_online", best(trained), "-o", online)
    assert done.status == 0, done.err
    done = run(monkeypatch, capfd, "online_demo.main", data.parent / "val" / "001.mp4", "--weights", online, "--device",
               "cpu", "--headless", "--json")
    assert done.status == 0, done.err
    decisions = [json.loads(line)["top"] for line in done.out.splitlines()]
    sums = [sum(probability for _, probability in top) for top in decisions]
    assert min(sums) < 0.7, "probabilities of single classes, not of one among all"


@pytest.mark.parametrize("options, words", [
    (["--best_by", "mean_class"], ["--best_by mean_class", "choose map, top1 or loss"]),
    (["--sampler", "balanced"], ["--sampler balanced", "--class_weights auto"])])
def test_options_for_single_classes_are_refused(data, monkeypatch, capfd, options, words):
    assert_refused(run(monkeypatch, capfd, "main", "multi", "RGB", "--dataset_file", data, *SHAPE, *options), *words)


def test_average_precision_is_for_several_classes(monkeypatch, capfd):
    assert_refused(run(monkeypatch, capfd, "main", "ucf101", "RGB", *SHAPE, "--best_by", "map"), "--best_by map",
                   "choose top1, mean_class or loss")


def test_a_checkpoint_of_several_classes_is_not_tested_on_single_ones(trained, data, tmp_path, monkeypatch, capfd):
    single = tmp_path / "single.yaml"
    for split in ("train", "val"):
        (data.parent / f"single_{split}.txt").write_text(f"{split}/000.mp4 12 1\n")
    text = data.read_text().replace("root: .", f"root: {data.parent}").replace(", multi_label: true", "")
    for name in ("train", "val"):
        text = text.replace(f"{name}.txt", str(data.parent / f"single_{name}.txt"))
    single.write_text(text.replace("category.txt", str(data.parent / "category.txt")))
    done = run(monkeypatch, capfd, "test_models", "multi", "--dataset_file", single, "--weights", best(trained), "--device",
               "cpu", "-j", 0, "--out", tmp_path / "out")
    assert_refused(done, "any number of classes per video", "multi has one class per video")


def test_a_list_of_several_classes_needs_the_entry(data, tmp_path, monkeypatch, capfd):
    file = data.with_name("plain.yaml")
    file.write_text(data.read_text().replace(", multi_label: true", ""))
    done = run(monkeypatch, capfd, "main", "multi", "RGB", "--dataset_file", file, *SHAPE, "--root_log", tmp_path / "log",
               "--root_model", tmp_path / "model")
    assert_refused(done, "val.txt:", "labels (", "multi_label: true")


def test_the_check_knows_several_classes(data, tmp_path, monkeypatch, capfd):
    done = run(monkeypatch, capfd, "tools.check_dataset", "multi", "--dataset_file", data)
    assert done.status == 0 and done.out.endswith("clean: 104 videos\n"), done.out
    lines = (data.parent / "val.txt").read_text().splitlines()
    wrong = tmp_path / "wrong.txt"
    wrong.write_text("\n".join([f"{lines[0].split()[0]} 12 0,4", f"{lines[1].split()[0]} 12 1,1", *lines[2:]]) + "\n")
    argv = [wrong, "--root_path", data.parent, "--categories", data.parent / "category.txt"]
    done = run(monkeypatch, capfd, "tools.check_dataset", *argv, "--multi_label", "--fix", tmp_path / "clean.txt")
    assert done.status == 2 and "label 4 is outside the classes 0 to 3" in done.out and "label 1 twice" in done.out
    assert (tmp_path / "clean.txt").read_text().splitlines() == lines[2:]
    done = run(monkeypatch, capfd, "tools.check_dataset", *argv, "--json")
    kinds = [finding["detail"] for finding in json.loads(done.out)["findings"]]
    assert done.status == 2 and any("no labels (-), but each video of a data set that is not multi-label" in kind
                                    for kind in kinds)
