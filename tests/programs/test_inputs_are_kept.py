"""No program writes over a file that it was given, however that file is named."""
import os

import pytest
import torch

from ops.checkpoints.download import check_hash
from ops.checkpoints.model_zoo import MODEL_ZOO
from ops.models import TSN
from ops.spec import ModelSpec
from ops.weights import save_checkpoint
from tests.helpers.clips import clip
from tests.helpers.files import tree
from tests.helpers.programs import assert_refused, make_somethingv2, run, write_list

SAME = {"the same name": lambda path, other: path, "dots": lambda path, other: path.parent / "x" / ".." / path.name,
        "link": lambda path, other: other.symlink_to(path) or other,
        "hard link": lambda path, other: os.link(path, other) or other}


@pytest.fixture
def files(tmp_path, monkeypatch):
    """Inputs of every kind, which none of these programs may change."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TSM_ROOT", str(tmp_path / "root"))
    clip(tmp_path / "v.mp4", 4)
    (tmp_path / "x").mkdir()
    (tmp_path / "w.pth.tar").write_bytes(b"weights")
    make_somethingv2(tmp_path / "root", train=4, val=2)
    write_list(tmp_path / "rgb.txt", {"v": (4, 0)})
    (tmp_path / "labels.csv").write_text("v.mp4,wave\n")
    return tmp_path


def assert_kept(monkeypatch, capfd, files, program, argv, *words):
    before = tree(files)
    assert_refused(run(monkeypatch, capfd, program, *argv), "would overwrite", *words)
    assert tree(files) == before


PREDICT = ["v.png", "--weights", "w.png", "--window", 1, "--plot"]


@pytest.mark.parametrize("same", SAME)
@pytest.mark.parametrize("name", ["v.png", "w.png"])
def test_a_plot_does_not_replace_the_video_or_the_checkpoint(files, monkeypatch, capfd, name, same):
    for kind, input in {"v.png": "v.mp4", "w.png": "w.pth.tar"}.items():  # whose names say nothing about their content
        (files / input).rename(files / kind)
    output = SAME[same](files / name, files / "other.png")
    assert_kept(monkeypatch, capfd, files, "tools.predict", [*PREDICT, output], "--plot", f"input {name}")


def test_a_plot_does_not_replace_a_released_model(files, monkeypatch, capfd):
    name = MODEL_ZOO[0].name
    monkeypatch.setenv("TSM_CACHE", str(files / "cache"))
    (files / "cache").mkdir()
    torch.save({"state_dict": {}}, files / "cache" / name)
    check_hash(files / "cache" / name)
    (files / "plot.png").symlink_to(files / "cache" / name)
    argv = ["v.mp4", "--weights", name, "--window", 1, "--plot", "plot.png"]
    assert_kept(monkeypatch, capfd, files, "tools.predict", argv, "--plot", f"cache/{name}")


@pytest.mark.parametrize("program, argv, flag", [
    ("tools.predict", ["v.mp4", "--window", 1], "plot"), ("tools.plot_log", ["log"], "out"),
    ("tools.show_batch", ["somethingv2", "RGB"], "out"), ("tools.benchmark", ["scaling"], "plot"),
    ("tools.showcase.report", [], "image")])
def test_a_picture_has_the_name_of_one(files, monkeypatch, capfd, program, argv, flag):
    for name in ("w.pth.tar", "png", ".png"):
        done = run(monkeypatch, capfd, program, *argv, f"--{flag}", name)
        assert_refused(done, f"--{flag} {name}: choose a name that ends in .png")


def test_a_plot_does_not_replace_a_frame(files, monkeypatch, capfd):
    frames = files / "root/something/v2/20bn-something-something-v2-frames/clip 0"
    (files / "plot.png").symlink_to(frames / "000001.jpg")
    argv = [frames, "--weights", "w.pth.tar", "--window", 1, "--plot", "plot.png"]
    assert_kept(monkeypatch, capfd, files, "tools.predict", argv, "a file in the input directory")


V2 = "root/something/v2"
FRAME = f"{V2}/20bn-something-something-v2-frames/clip 0/000001.jpg"
STORE = "c/TSM_somethingv2_RGB_resnet18_shift8_blockres_avg_segment2_e1"


@pytest.mark.parametrize("program, argv, words", [
    ("tools.extract_flow", [".", "flow", "--list", "rgb.txt", "rgb.txt"], ["--list"]),
    ("tools.extract_flow", [".", "flow", "--list", "rgb.txt", "a.txt", "--list", "v.txt", "x/../rgb.txt"], ["--list"]),
    ("tools.extract_flow", [".", "flow", "--list", "rgb.txt", "v.mp4"], ["--list"]),
    ("tools.extract_flow", [".", "flow", "--ext", "tar", "--list", "rgb.txt", "w.pth.tar"], ["--list", "input w.pth.tar"]),
    ("tools.extract_flow", [f"{V2}/20bn-something-something-v2-frames", "flow", "--frames", "--list",
                            f"{V2}/train_videofolder.txt", FRAME], ["--list", "a file in the input directory"]),
    ("tools.extract_flow", ["root", "flow", "--frames", "--list", "deep.txt", FRAME], ["--list", "a file in the input"]),
    ("tools.check_dataset", ["rgb.txt", "--fix", "rgb.txt"], ["--fix"]),
    ("tools.check_dataset", ["rgb.txt", "--fix", "v.mp4"], ["--fix", "input v.mp4"]),  # listed without its extension
    ("tools.check_dataset", ["somethingv2", "--fix", f"{V2}/clean.txt"], ["--fix", "a file in the input directory"]),
    ("tools.check_dataset", ["rgb.txt", f"{V2}/train_videofolder.txt", "--fix", f"{V2}/.txt", "--categories",
                             f"{V2}/.txt_rgb"], ["--fix"]),
    ("tools.make_dataset", [".", "mine", "--csv", f"{V2}/category.txt", "--out", V2], ["--out"]),
    ("tools.convert_to_online", ["w.pth.tar", "-o", "x/../w.pth.tar"], ["--output"]),
    ("tools.export", ["w.pth.tar", "-o", "v.onnx", "--precision", "int8", "--calibration", "v.mp4"], ["--output"]),
    ("online_demo.main", ["v.mp4", "--weights", "w.pth.tar", "--output", "w.pth.tar"], ["--output"]),
    ("tools.show_batch", ["somethingv2", "RGB", "--num_segments", 2, "--out", "frame.png"], ["--out", "directory"]),
    ("main", ["somethingv2", "RGB", "--shift", "--arch", "resnet18", "--num_segments", 2, "--epochs", 1, "--root_model", "c",
              "--tune_from", f"{STORE}/ckpt.pth.tar"], [STORE]),
])
def test_each_program_refuses_before_it_works(files, monkeypatch, capfd, program, argv, words):
    (files / V2 / ".txt_rgb").write_text("one\ntwo\n")
    (files / "frame.png").symlink_to(files / FRAME)
    (files / "v.onnx").symlink_to(files / "v.mp4")
    write_list(files / "deep.txt", {"something/v2/20bn-something-something-v2-frames/clip 0": (3, 0)})
    (files / V2 / "clean_val.txt").symlink_to(files / FRAME)
    (files / STORE).mkdir(parents=True)
    (files / STORE / "ckpt.pth.tar").write_bytes(b"weights")
    assert_kept(monkeypatch, capfd, files, program, argv, *words)


def test_the_results_of_a_test_do_not_replace_what_it_reads(files, monkeypatch, capfd):
    model = TSN.from_spec(ModelSpec(4, 2, arch="resnet18"))
    save_checkpoint({"settings": model.spec.to_dict(), "state_dict": model.state_dict()}, files / "good.pth.tar")
    (files / "own").mkdir()
    (files / "own.yaml").write_text("mine: {root: own, train_list: l.txt, val_list: l.txt, num_class: 4}\n")
    clip(files / "own" / "clip.webm", 9)
    write_list(files / "l.txt", {"clip": (9, 0)})
    os.link(files / "own" / "clip.webm", files / "x" / "confusion.png")
    test = ["--weights", "good.pth.tar", "--device", "cpu"]
    frame = f"{V2}/20bn-something-something-v2-frames/clip 5/000001.jpg"
    for output in ("good.pth.tar", f"{V2}/val_videofolder.txt", f"{V2}/category.txt", frame):
        assert_kept(monkeypatch, capfd, files, "test_models", ["somethingv2", *test, "--csv_file", output], "--csv_file")
    mine = ["mine", "--dataset_file", "own.yaml", "--data_format", "video", *test]
    for output in ("own/clip.webm", "own.yaml"):
        argv = [*mine, "--csv_file", output]
        assert_kept(monkeypatch, capfd, files, "test_models", argv, "--csv_file", f"{output}: choose")
    assert_kept(monkeypatch, capfd, files, "test_models", [*mine, "--out", "x"], "--out x/confusion.png", "clip.webm")
    both = [*mine, "--out", "y", "--csv_file", "x/../y/results.json"]
    assert_kept(monkeypatch, capfd, files, "test_models", both, "would overwrite a file of the report")


def test_two_flow_lists_cannot_share_a_file(files, monkeypatch, capfd):
    argv = [".", "flow", "--list", "rgb.txt", "a.txt", "--list", "rgb.txt", "x/../a.txt"]
    assert_refused(run(monkeypatch, capfd, "tools.extract_flow", *argv), "--list", "written twice")
    assert not (files / "flow").exists()
