"""tools/extract_features.py: features per clip, per frame and streamed, of lists and of videos."""
import csv
import shutil

import numpy as np
import pytest
import torch

from ops.checkpoints import load_checkpoint
from tests.helpers.clips import real_video
from tests.helpers.members import member
from tests.helpers.programs import assert_refused, make_frames, make_somethingv2, run

VIDEOS, T = 4, 3


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    root = tmp_path_factory.mktemp("data")
    make_somethingv2(root, train=1, val=VIDEOS)
    make_frames(root / "short", {"video": (T, 0)})
    member(root / "tsm.pth.tar", shift=True, shift_direction="unidirectional")
    member(root / "both_ways.pth.tar", shift=True)
    return root


def extract(monkeypatch, capfd, data, out, *more, weights="tsm.pth.tar"):
    return run(monkeypatch, capfd, "tools.extract_features", *more, "--weights", data / weights, "--out", out, "-j", 0)


def of_list(monkeypatch, capfd, data, out, *more):
    return extract(monkeypatch, capfd, data, out, "--dataset", "somethingv2", "--root_dataset", data, *more)


def files(directory):
    return {path.name: path.read_bytes() for path in directory.iterdir()}


def test_a_list_gives_what_the_network_sees(data, tmp_path, monkeypatch, capfd):
    done = of_list(monkeypatch, capfd, data, tmp_path / "frames", "--per", "frame")
    assert done.status == 0 and "features of 4 videos written now" in done.out
    assert of_list(monkeypatch, capfd, data, tmp_path / "clips").status == 0
    rows = list(csv.DictReader((tmp_path / "frames" / "index.csv").open()))
    assert rows == [{"file": f"{i:06d}.npy", "video": f"clip {i + 1}", "label": str((i + 1) % 4)} for i in range(VIDEOS)]
    frames = np.stack([np.load(tmp_path / "frames" / row["file"]) for row in rows])
    assert frames.shape == (VIDEOS, T, 512) and frames.dtype == np.float32
    assert np.allclose([np.load(tmp_path / "clips" / row["file"]) for row in rows], frames.mean(1), atol=1e-6)
    tested = run(monkeypatch, capfd, "test_models", "somethingv2", "--weights", data / "tsm.pth.tar", "--root_dataset", data,
                 "-j", 0, "--out", tmp_path / "report")
    assert tested.status == 0
    with torch.inference_mode():
        logits = load_checkpoint(data / "tsm.pth.tar").build().forward_head(torch.from_numpy(frames))
    assert np.allclose(logits, np.load(tmp_path / "report" / "scores.npy"), atol=1e-5)


def test_parts_and_an_interrupted_run_give_the_same_files(data, tmp_path, monkeypatch, capfd):
    assert of_list(monkeypatch, capfd, data, tmp_path / "whole").status == 0
    for part in ("2/2", "1/2"):
        assert of_list(monkeypatch, capfd, data, tmp_path / "parts", "--part", part).status == 0
    assert files(tmp_path / "parts") == files(tmp_path / "whole")
    (tmp_path / "parts" / "000002.npy").unlink()
    assert "features of 1 video written now" in of_list(monkeypatch, capfd, data, tmp_path / "parts").out
    assert files(tmp_path / "parts") == files(tmp_path / "whole")
    done = of_list(monkeypatch, capfd, data, tmp_path / "parts", "--per", "frame")
    assert_refused(done, "made with other settings", "per")


def test_a_stream_of_the_clips_frames_gives_the_clips_features(data, tmp_path, monkeypatch, capfd):
    """Streamed from a zero state, T frames are a clip of a one-way shift."""
    for kind in ("frame", "stream"):
        assert extract(monkeypatch, capfd, data, tmp_path / kind, data / "short" / "video", "--per", kind).status == 0
    streamed, clip = (np.load(tmp_path / kind / "000000.npy") for kind in ("stream", "frame"))
    assert streamed.shape == clip.shape == (T, 512)
    assert np.allclose(streamed, clip, rtol=1e-4, atol=1e-5) and clip.std(axis=0).max() > 0


def test_a_video_that_cannot_be_read_is_listed_and_the_others_are_done(data, tmp_path, monkeypatch, capfd):
    shutil.copy(real_video("bikes.mp4"), tmp_path / "a.mp4")
    (tmp_path / "b.mp4").write_bytes(b"no video")
    done = extract(monkeypatch, capfd, data, tmp_path / "out", tmp_path / "a.mp4", tmp_path / "b.mp4", "--per", "stream",
                   "--stride", 5)
    assert done.status == 2 and "features of 1 video written now" in done.out
    assert f"failed: {tmp_path / 'b.mp4'}: " in done.err and "Traceback" not in done.err
    assert np.load(tmp_path / "out" / "000000.npy").shape == (50, 512)
    assert (tmp_path / "out" / "index.csv").read_text() == f"file,video,label\n000000.npy,{tmp_path / 'a.mp4'},\n"


def test_wrong_requests_are_one_line(data, tmp_path, monkeypatch, capfd):
    video = data / "short" / "video"
    for words, argv in (("one of the two", []), ("one of the two", [video, "--dataset", "somethingv2"]),
                        ("nowhere.mp4: there is no such file", [tmp_path / "nowhere.mp4"])):
        assert_refused(extract(monkeypatch, capfd, data, tmp_path / "out", *argv), words)
    refused = extract(monkeypatch, capfd, data, tmp_path / "out", video, "--per", "stream", weights="both_ways.pth.tar")
    assert_refused(refused, "two-way shift", "--force")
    assert extract(monkeypatch, capfd, data, tmp_path / "out", video, "--per", "stream", "--force",
                   weights="both_ways.pth.tar").status == 0
