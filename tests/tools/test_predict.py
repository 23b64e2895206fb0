"""tools/predict.py: the scores of test_models.py, the checkpoint's names, windows in time, timelines, refusals."""
import json
import shutil

import numpy as np
import pytest
import torch
from PIL import Image

from ops.common import progress
from ops.common.errors import UserError
from ops.data.test_protocol import PROTOCOLS
from ops.evaluation.predict import Predictor
from ops.evaluation.videos import expand, load_video
from ops.models import TSN
from ops.spec import ModelSpec
from ops.weights import save_checkpoint
from tests.helpers.charts import capture_figures
from tests.helpers.classifier import NAMES, make_classifier
from tests.helpers.clips import clip, coded_image, encode, real_video
from tests.helpers.processes import messages
from tests.helpers.programs import assert_refused, make_frames, run
from tools import predict as predict_program


@pytest.fixture(autouse=True)
def own_places(tmp_path, monkeypatch):
    monkeypatch.setenv("TSM_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(predict_program, "QUICKSTART", tmp_path / "quickstart")


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    return make_classifier(tmp_path_factory.mktemp("weights") / "w.pth.tar")


def predict(monkeypatch, capfd, *argv):
    return run(monkeypatch, capfd, "tools.predict", *argv, "--device", "cpu", "-j", 0)


def answers(monkeypatch, capfd, *argv):
    done = predict(monkeypatch, capfd, *argv, "--json")
    return done.status, json.loads(done.out)


def scores_of(result):
    return [row["score"] for row in sorted(result["predictions"], key=lambda row: row["label"])]


@pytest.mark.parametrize("protocol, changes", [  # for the other networks one protocol is enough
    *((protocol, {}) for protocol in PROTOCOLS), ("accurate", {"modality": "RGBDiff", "arch": "mobilenetv2"}),
    ("accurate", {"consensus_type": "identity"})])
def test_scores_are_those_of_test_models(tmp_path, monkeypatch, capfd, protocol, changes):
    path = make_classifier(tmp_path / "w.pth.tar", **changes, num_segments=2 if protocol == "kinetics-dense" else 4)
    shutil.copy(real_video("carphone_pristine.mp4"), tmp_path / "a b.mp4")
    clip(tmp_path / "c.webm", 5)
    make_frames(tmp_path, {"frames": (19, 3)}, size=(90, 70))
    (tmp_path / "l.txt").write_text("a b.mp4 120 0\nc.webm 1\nframes 19 2\n")
    (tmp_path / "category.txt").write_text("".join(name + "\n" for name in NAMES))
    (tmp_path / "own.yaml").write_text("mine: {root: ., train_list: l.txt, val_list: l.txt, categories: category.txt}\n")
    tested = run(monkeypatch, capfd, "test_models", "mine", "--dataset_file", tmp_path / "own.yaml", "--weights", path,
                 "--protocol", protocol, "--device", "cpu", "-j", 0, "--out", tmp_path / "report")
    assert tested.status == 0, tested.err
    wanted = np.load(tmp_path / "report" / "scores.npy")
    status, results = answers(monkeypatch, capfd, tmp_path / "a b.mp4", tmp_path / "c.webm", tmp_path / "frames",
                              "--weights", path, "--protocol", protocol, "--topk", 9)
    assert status == 0 and [result["frames"] for result in results] == [120, 5, 19]
    np.testing.assert_allclose([scores_of(result) for result in results], wanted, rtol=1e-5, atol=1e-6)
    assert np.ptp(wanted, axis=1).min() > 1e-3  # the classes differ, so an order is an order


def test_answers_have_names_probabilities_and_order(tmp_path, weights, monkeypatch, capfd):
    clip(tmp_path / "v.mp4", 30)
    status, (result,) = answers(monkeypatch, capfd, tmp_path / "v.mp4", "--weights", weights, "--topk", 6)
    rows = result["predictions"]
    probabilities = torch.tensor(scores_of(result)).softmax(0)
    assert status == 0 and [row["class"] for row in rows] == [NAMES[row["label"]] for row in rows]
    assert [row["probability"] for row in rows] == sorted(probabilities.tolist(), reverse=True)
    assert sum(row["probability"] for row in rows) == pytest.approx(1, abs=1e-5)
    assert result["seconds"] == pytest.approx(30 / 25)
    done = predict(monkeypatch, capfd, tmp_path / "v.mp4", "--weights", weights, "--topk", 2)
    lines = done.out.splitlines()
    assert lines[0] == f"{tmp_path}/v.mp4: 30 frames, 1.2 s" and len(lines) == 3
    assert lines[1] == f"  {100 * rows[0]['probability']:5.1f}%  {rows[0]['class']}"


def test_a_window_over_everything_is_the_whole_video(tmp_path, weights, monkeypatch, capfd):
    clip(tmp_path / "v.mp4", 50)
    whole = answers(monkeypatch, capfd, tmp_path / "v.mp4", "--weights", weights)[1][0]
    for length in ("2", "99"):
        windowed = answers(monkeypatch, capfd, tmp_path / "v.mp4", "--weights", weights, "--window", length)[1][0]
        assert windowed["predictions"] == whole["predictions"] == windowed["timeline"][0]["predictions"]
        assert [(row["start"], row["end"]) for row in windowed["timeline"]] == [(0.0, 2.0)]


def test_each_window_is_scored_as_a_video_of_its_own(tmp_path, weights, monkeypatch, capfd):
    images = [coded_image(i) for i in range(60)]
    lossless = dict(options={"qp": "0", "g": "7"})
    encode(tmp_path / "v.mp4", images, **lossless)
    flags = ["--weights", weights, "--topk", 6]
    result = answers(monkeypatch, capfd, tmp_path / "v.mp4", *flags, "--window", 0.8, "--stride", 0.6)[1][0]
    spans_wanted = [(0.0, 0.8), (0.6, 1.4), (1.2, 2.0), (1.6, 2.4)]  # the last one ends with the video
    assert [(row["start"], row["end"]) for row in result["timeline"]] == spans_wanted
    mean = 0
    for row, (start, end) in zip(result["timeline"], spans_wanted):
        encode(tmp_path / "part.mp4", images[round(25 * start):round(25 * end)], **lossless)
        part = answers(monkeypatch, capfd, tmp_path / "part.mp4", *flags)[1][0]
        assert part["frames"] == 20
        np.testing.assert_allclose(scores_of(row), scores_of(part), rtol=1e-4, atol=1e-5)
        mean = mean + np.array(scores_of(part)) / 4
    np.testing.assert_allclose(scores_of(result), mean, rtol=1e-4, atol=1e-5)
    batched = answers(monkeypatch, capfd, tmp_path / "v.mp4", *flags, "--window", 0.8, "--stride", 0.6, "--batch_size",
                      3)[1][0]
    np.testing.assert_allclose(scores_of(batched), scores_of(result), rtol=1e-4, atol=1e-5)


def test_files_directories_and_patterns(tmp_path, weights, monkeypatch, capfd):
    for name in ("x/b.mp4", "x/deep/a.webm", "[odd].mp4"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        clip(tmp_path / name, 5)
    make_frames(tmp_path / "x", {"frames": (3, 0)})
    for file in sorted((tmp_path / "x" / "frames").iterdir()):  # names that count from 0 are fine
        file.rename(file.with_name(f"p{int(file.stem) - 1}.jpg"))
    shown = [path.relative_to(tmp_path).as_posix() for name in ("x", "x/*", "[odd].mp4", "x/frames")
             for path in expand(str(tmp_path / name))]
    assert sorted(shown[:3]) == ["x/b.mp4", "x/deep/a.webm", "x/frames"] == sorted(shown[3:6])
    assert shown[6:] == ["[odd].mp4", "x/frames"]
    (tmp_path / "void.mp4").touch()
    status, results = answers(monkeypatch, capfd, tmp_path / "void.mp4", tmp_path / "x", tmp_path / "gone",
                              tmp_path / "none*", "--weights", weights)
    assert status == 2 and [result.get("error", "fine").split(":")[0] for result in results] == [
        "unreadable video", "fine", "fine", "fine", "there is no such file or directory", "no file matches"]
    video = load_video(tmp_path / "x" / "frames")
    first = Image.open(tmp_path / "x" / "frames" / "p0.jpg")
    assert video.load([1, 3])[0].tobytes() == first.tobytes()


def test_a_pattern_gives_the_videos_among_what_it_matches(tmp_path, weights, monkeypatch, capfd):
    for name in ("c/b.mp4", "c/deep/a.webm", "c/empty/notes.txt", "c/readme.md"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        clip(tmp_path / name, 5) if name.endswith(("4", "m")) else (tmp_path / name).write_text("words")
    done = predict(monkeypatch, capfd, tmp_path / "c" / "*", "--weights", weights)
    assert done.status == 0 and [line for line in done.out.splitlines() if line[0] != " "] == [
        f"{tmp_path}/c/b.mp4: 5 frames, 0.2 s", f"{tmp_path}/c/deep/a.webm: 5 frames, 0.2 s"]
    assert f"{tmp_path}/c/*: left out, neither a video nor a directory with one: empty, readme.md" in done.err.splitlines()
    assert [path.name for path in expand(f"{tmp_path}/c/**")] == ["b.mp4", "a.webm"]  # each once
    with pytest.raises(UserError, match="none of the 2 matches is a video or holds one, the first is empty"):
        expand(f"{tmp_path}/c/[er]*")


def test_several_videos_are_read_by_several_processes(tmp_path, weights, monkeypatch, capfd):
    for number in range(5):
        clip(tmp_path / f"{number}.mp4", 5 + 9 * number)
    (tmp_path / "2.mp4").write_bytes(b"no video")
    names = [tmp_path / f"{number}.mp4" for number in range(5)]
    flags = [*names, tmp_path / "gone", names[0], "--weights", weights, "--device", "cpu", "--json"]
    alone, together = (run(monkeypatch, capfd, "tools.predict", *flags, "-j", workers) for workers in (0, 2))
    assert alone.status == together.status == 2 and alone.err == together.err
    assert json.loads(alone.out) == json.loads(together.out)
    results = json.loads(together.out)
    assert [result["video"] for result in results] == [*map(str, names), str(tmp_path / "gone"), str(names[0])]
    assert [result.get("frames") for result in results] == [5, 14, None, 32, 41, None, 5]
    assert "unreadable video" in results[2]["error"] and "\n" not in results[2]["error"]


def test_options_without_effect_are_warned_of(tmp_path, weights, monkeypatch, capfd):
    clip(tmp_path / "v.mp4", 9)
    flags = [tmp_path / "v.mp4", "--weights", weights, "--device", "cpu"]
    done = run(monkeypatch, capfd, "tools.predict", *flags, "-j", 3, "--fps", 20, "--batch_size", 2)
    assert done.err.splitlines() == [
        "warning: --batch_size has no effect: without --window a video is one clip",
        "warning: --workers has no effect: one whole video is one clip",
        "warning: --fps has no effect: it is for frame directories, these video files tell when their frames are shown"]
    assert messages(run(monkeypatch, capfd, "tools.predict", *flags).err) == ""
    done = run(monkeypatch, capfd, "tools.predict", *flags, "-j", 0, "--window", 1, "--batch_size", 2)
    assert messages(done.err) == ""


def test_the_effect_of_a_rate_is_looked_up_in_the_parts_own_videos(tmp_path, weights, monkeypatch, capfd):
    names = [clip(tmp_path / f"{number}.mp4", 9) for number in range(3)]
    flags = [*names, "--weights", weights, "--fps", 20, "--results", tmp_path / "r", "--part"]
    for part, videos in (("1/2", 2), ("2/2", 3)):
        done = predict(monkeypatch, capfd, *flags, part)
        assert done.status == 0 and "--fps has no effect" in done.err
        assert f"(looked at: {1 + (part == '1/2')} of 3)" in done.err
        assert len(list((tmp_path / "cache" / "frame_index").iterdir())) == videos
    make_frames(tmp_path, {"frames": (9, 0)})
    done = predict(monkeypatch, capfd, *names, tmp_path / "frames", "--weights", weights, "--fps", 20, "--results",
                   tmp_path / "s", "--part", "1/4")
    assert done.status == 0 and "--fps" not in done.err  # it is for another part's frames


def test_without_weights_the_quickstarts_model_answers(tmp_path, weights, monkeypatch, capfd):
    clip(tmp_path / "v.mp4", 9)
    directory = tmp_path / "quickstart"
    for name in ("resnet18_avg", "resnet18_shift8_blockres_uni_identity", "resnet18_shift8_blockres_avg"):
        path = directory / f"TSM_gestures_RGB_{name}_segment4_e5_none_cos" / "ckpt.pth.tar"
        path.parent.mkdir(parents=True)
        shutil.copy(weights, path)
    done = predict(monkeypatch, capfd, tmp_path / "v.mp4")
    assert done.status == 0 and done.out.startswith(f"{tmp_path}/v.mp4: 9 frames")
    line, = [line for line in done.err.splitlines() if "no --weights" in line]
    assert str(path) in line and "quickstart" in line


def test_outputs_that_cannot_be_written_are_refused_before_the_work(tmp_path, weights, monkeypatch, capfd):
    clip(tmp_path / "v.mp4", 9)
    (tmp_path / "file").write_text("in the way")
    flags = [tmp_path / "v.mp4", "--weights", weights, "--window", 1, "--plot", tmp_path / "file" / "t.png"]
    done = predict(monkeypatch, capfd, *flags)
    assert_refused(done, "cannot write", "t.png", "file is not a directory")
    assert not done.out


def test_a_timeline_is_printed_and_drawn(tmp_path, weights, monkeypatch, capfd):
    for name in ("a.mp4", "b.mp4"):
        clip(tmp_path / name, 60)
    flags = [tmp_path / "a.mp4", tmp_path / "b.mp4", "--weights", weights, "--window", 0.4, "--stride", 0.2]
    figures = capture_figures(monkeypatch)
    done = predict(monkeypatch, capfd, *flags, "--plot", tmp_path / "out" / "t.png")
    assert done.status == 0 and "     0.00 to    " in done.out and " to    2.40 s " in done.out
    with Image.open(tmp_path / "out" / "t.png") as image:
        assert image.format == "PNG"
    assert [axes.get_title(loc="left") for axes in figures[0].axes] == ["a.mp4", "b.mp4"]
    assert [file.name for file in (tmp_path / "out").iterdir()] == ["t.png"]
    make_frames(tmp_path, {"frames": (50, 0)})
    flags = [tmp_path / "frames", "--weights", weights, "--window", 1]
    assert "--fps" in predict(monkeypatch, capfd, *flags).err
    result = answers(monkeypatch, capfd, *flags, "--fps", 20)[1][0]
    assert [(row["start"], row["end"]) for row in result["timeline"]] == [(0, 1), (.5, 1.5), (1, 2), (1.5, 2.5)]


def test_class_names_where_the_file_has_none(tmp_path, monkeypatch, capfd):
    clip(tmp_path / "v.mp4", 8)
    bare = make_classifier(tmp_path / "w.pth.tar", class_names=None)
    done = predict(monkeypatch, capfd, tmp_path / "v.mp4", "--weights", bare)
    assert done.status == 0 and "no class names" in done.err and done.out.splitlines()[1].split()[-1].isdigit()
    (tmp_path / "names.txt").write_text("".join(f"N{i}\n" for i in range(6)))
    result = answers(monkeypatch, capfd, tmp_path / "v.mp4", "--weights", bare, "--categories", tmp_path / "names.txt")[1]
    assert result[0]["predictions"][0]["class"].startswith("N")
    content = {key: torch.zeros(27, 512) if key == "new_fc.weight" else torch.zeros(27) if key == "new_fc.bias" else value
               for key, value in TSN.from_spec(ModelSpec(6, 8, arch="resnet18", shift=True)).state_dict().items()}
    released = tmp_path / "TSM_jester_RGB_resnet18_shift8_blockres_avg_segment8_e45.pth"
    save_checkpoint({"state_dict": content}, released)
    assert Predictor(released, device="cpu").class_names[26] == "Zooming Out With Two Fingers"


@pytest.mark.parametrize("flags, words", [
    ([], "no --weights"), (["--weights", "gone.pth"], "no such checkpoint: gone.pth"), (["--weights", "text"], "text"),
    (["--weights", "W,"], "name one checkpoint"),
    (["--weights", "W", "--window", "0"], "--window"), (["--weights", "W", "--stride", "1"], "--stride needs --window"),
    (["--weights", "W", "--plot", "x.png"], "--plot needs --window"), (["--weights", "W", "--topk", "0"], "--topk"),
    (["--weights", "W", "--protocol", "x"], "choose efficient"), (["--weights", "W", "--window", "nan"], "--window"),
    (["--weights", "W", "--test_segments", "0"], "--test_segments"), (["--weights", "FLOW"], "optical flow"),
    (["--weights", "W", "--categories", "text"], "1 class,"), (["--weights", "BARE"], "unknown model"),
    (["--weights", "W", "--categories", "gone"], "no such file"), (["--weights", "W", "--device", "tpu"], "tpu")])
def test_wrong_use_is_one_line(tmp_path, weights, monkeypatch, capfd, flags, words):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "text").write_text("text\n")
    save_checkpoint({"w": torch.zeros(2)}, tmp_path / "bare.pth")
    if "FLOW" in flags:
        make_classifier(tmp_path / "flow.pth", modality="Flow")
    places = {"W": weights, "FLOW": "flow.pth", "BARE": "bare.pth"}
    done = run(monkeypatch, capfd, "tools.predict", "v.mp4", *[places.get(flag, flag) for flag in flags])
    assert_refused(done, words)


def test_failures_are_reported_and_the_rest_is_answered(tmp_path, weights, monkeypatch, capfd):
    clip(tmp_path / "good.mp4", 9)
    whole = (tmp_path / "good.mp4").read_bytes()
    (tmp_path / "cut.mp4").write_bytes(whole[:len(whole) // 2])
    make_frames(tmp_path, {"gap": (5, 0)})
    (tmp_path / "gap" / "000003.jpg").unlink()
    (tmp_path / "nothing").mkdir()
    shutil.copy(tmp_path / "good.mp4", tmp_path / "good")
    done = predict(monkeypatch, capfd, *(tmp_path / n for n in ("cut.mp4", "gap", "nothing", "good", "good.mp4")),
                   "--weights", weights)
    assert done.status == 2 and "Traceback" not in done.err
    failed = [line for line in done.err.splitlines() if line.startswith("failed: ")]
    assert [line.split(": ")[1].rsplit("/", 1)[1] for line in failed] == ["cut.mp4", "gap", "nothing", "good"]
    for line, words in zip(failed, ("truncated", "000003.jpg is missing", "neither videos nor frames", "share one stem")):
        assert words in line
    assert done.out.startswith(f"{tmp_path}/good.mp4: 9 frames")
    short = predict(monkeypatch, capfd, tmp_path / "good.mp4", "--weights", weights, "--window", 1, "--stride", 0.001)
    assert short.status == 2 and "shorter than a frame (0.04 s)" in short.err


@pytest.mark.parametrize("flags", [[], ["--window", 1]])
def test_a_directory_of_videos_shows_the_time_left(tmp_path, weights, monkeypatch, capfd, flags):
    monkeypatch.setattr(progress, "FIRST_LINE", 0.0)
    monkeypatch.setattr(progress, "NEXT_LINES", 0.0)
    for name in ("a.mp4", "b.mp4", "c.mp4"):
        shutil.copy(real_video("carphone_pristine.mp4"), tmp_path / name)
    done = predict(monkeypatch, capfd, tmp_path, "--weights", weights, *flags)
    assert done.status == 0 and "predicting: 1 of 3 videos, " in done.err and "predicting: 3 of 3 videos in " in done.err
    assert "predicting" not in done.out
    assert "predicting" not in predict(monkeypatch, capfd, tmp_path / "a.mp4", "--weights", weights, *flags).err
