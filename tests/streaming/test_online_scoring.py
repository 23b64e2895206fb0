"""Whole videos streamed: the streamed frames, the running means, the scores over time, and the written report."""
import csv
import os
import signal

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from ops.common.errors import UserError
from ops.data.list_files import VideoRecord
from ops.data.preprocessing import Preprocessing
from ops.data.sampling import sample_test
from ops.data.test_protocol import TestProtocol
from ops.data.tsn_dataset import TSNDataSet
from ops.evaluation.metrics import Predictions
from ops.models import TSN
from ops.spec import ModelSpec
from ops.streaming.online import OnlineTSM
from ops.streaming.online_scoring import (
    OnlineScores,
    count_frames,
    running_means,
    score_online,
    streamed_indices,
    trained_stride,
    write_online_report,
)
from tests.helpers.charts import capture_figures, lines_of
from tests.helpers.clips import clip
from tests.helpers.golden_model import fill
from tests.helpers.programs import make_frames, write_list

SMALL = Preprocessing((0,), (1,), scale_size=36, crop_size=32)
VIDEOS = {"clip a": (9, 0), "b": (4, 1), "c": (12, 2), "d": (1, 1), "e": (9, 2)}


@pytest.fixture(scope="module")
def online(one_thread):
    model = TSN.from_spec(ModelSpec(3, 4, arch="mobilenetv2", shift=True, shift_direction="unidirectional",
                                    input_size=32))
    model.load_state_dict(fill(model.state_dict()))
    return OnlineTSM(model)


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
    root = tmp_path_factory.mktemp("videos")
    make_frames(root, VIDEOS)
    return TSNDataSet(root, write_list(root / "list.txt", VIDEOS), 4, image_tmpl="{:06d}.jpg", test_mode=True,
                      transform=TestProtocol().transform(SMALL))


def alone(online, videos, index, stride):
    """The running means of one video, computed frame by frame without the code under test."""
    record = videos.video_list[index]
    state, logits, rows = online.initial_state(1, 32, 32), [], []
    for i in range(1 + stride // 2, record.num_frames + 1, stride):
        frame = videos.transform(videos.source.load(record.path, [i]))
        row, state = online.step(online.prepare(frame[None]), state)
        logits.append(row[0])
        rows.append(sum(logits) / len(logits))
    return rows


@given(t=st.integers(1, 20), stride=st.integers(1, 40))
def test_a_video_of_t_strides_gives_the_frames_of_the_clip(t, stride):
    assert streamed_indices(t * stride, stride) == sample_test(t * stride, t)


@given(num_frames=st.integers(1, 300), stride=st.integers(1, 400))
def test_streamed_indices(num_frames, stride):
    indices = streamed_indices(num_frames, stride)
    assert 1 <= indices[0] and indices[-1] <= num_frames
    assert all(b - a == stride for a, b in zip(indices, indices[1:]))
    assert indices[0] <= stride / 2 + 1 and num_frames - indices[-1] < max(stride, num_frames / 2 + 1)


def test_streamed_indices_by_hand():
    assert streamed_indices(5, 1) == [1, 2, 3, 4, 5]
    assert streamed_indices(9, 3) == [2, 5, 8]
    assert streamed_indices(7, 4) == [3, 7]
    assert streamed_indices(1, 10) == [1] and streamed_indices(4, 10) == [3]


def test_trained_stride():
    records = [VideoRecord(["x", count, 0]) for count in (30, 37, 36, 200)]
    assert trained_stride(records, 8) == 5  # median 36.5 over 8
    assert trained_stride(records, 100) == 1
    assert trained_stride(records, 8, dense=True) == 8


@pytest.mark.parametrize("streams, workers", [(1, 0), (2, 0), (5, 2)])
@pytest.mark.parametrize("stride", [1, 3])
def test_scores_equal_each_video_alone(online, videos, streams, workers, stride):
    result = score_online(online, videos, stride, streams=streams, workers=workers)
    each = [alone(online, videos, i, stride) for i in range(5)] if stride == 1 else [
        alone(online, videos, i, stride) or alone(online, videos, i, 1) for i in range(5)]
    longest = max(map(len, each))
    assert longest == {1: 12, 3: 4}[stride] and result.stride == stride
    largest = max(float(row.abs().max()) for rows in each for row in rows)
    for logits, rows in zip(result.scores.logits, each):
        assert float((logits - rows[-1]).abs().max()) < 1e-4 * largest
    labels = [label for _, label in VIDEOS.values()]
    assert result.scores.labels.tolist() == labels
    for n in range(longest):
        now = [rows[min(n, len(rows) - 1)] for rows in each]
        right = np.mean([int(row.argmax()) == label for row, label in zip(now, labels)])
        assert result.top1[n] == pytest.approx(100 * right)
        assert result.running[n] == sum(len(rows) > n for rows in each)
    assert result.top1[-1] == pytest.approx(result.scores.top1)


def test_numbers_of_frames_missing_in_the_list_are_counted(online, tmp_path):
    """Lines `clip.mp4 label` give the same gap and scores as lines that hold the number of frames."""
    counts = {"a.mp4": 12, "b.mp4": 7, "c.mp4": 9}
    for name, count in counts.items():
        clip(tmp_path / name, count)
    (tmp_path / "uncounted.txt").write_text("".join(f"{name} 1\n" for name in counts))
    lists = [write_list(tmp_path / "counted.txt", {name: (count, 1) for name, count in counts.items()}),
             tmp_path / "uncounted.txt"]
    counted, uncounted = (TSNDataSet(tmp_path, path, 4, test_mode=True, transform=TestProtocol().transform(SMALL))
                          for path in lists)
    with pytest.raises(UserError, match="choose online_stride"):
        trained_stride(uncounted.video_list, 4)
    wanted, got = (score_online(online, videos, stride=1) for videos in (counted, uncounted))
    assert torch.equal(got.scores.logits, wanted.scores.logits) and got.running.tolist() == wanted.running.tolist()
    assert len(got.running) == 12
    assert trained_stride(count_frames(uncounted), 4) == trained_stride(counted.video_list, 4) == 2
    assert [record.num_frames for record in uncounted.video_list] == list(counts.values())


def test_a_killed_worker_is_one_line(online, videos):
    killed = TSNDataSet(videos.root_path, videos.list_file, 4, image_tmpl="{:06d}.jpg", test_mode=True,
                        transform=lambda _: os.kill(os.getpid(), signal.SIGKILL))
    with pytest.raises(UserError, match="worker process of the loader (is killed by signal|exited unexpectedly)"):
        score_online(online, killed, 1, workers=1)


def test_the_last_running_mean_equals_the_clip_models_logits(online):
    """12 frames at stride 3 are the 4 frames of the clip."""
    model = TSN.from_spec(online.spec)
    model.load_state_dict(fill(model.state_dict()))
    pixels = torch.randint(0, 256, (12, 3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    chosen = pixels[[i - 1 for i in streamed_indices(12, 3)]]
    with torch.no_grad():
        wanted = model.eval()(online.prepare(chosen).flatten(0, 1)[None])[0]
    got = running_means(online, [chosen])[0][-1]
    assert float((got - wanted).abs().max()) <= 1e-5 * float(wanted.abs().max())


def test_several_views_per_frame_are_refused(online, videos):
    crops = TSNDataSet(videos.root_path, videos.list_file, 4, image_tmpl="{:06d}.jpg", test_mode=True,
                       transform=TestProtocol(crops=3).transform(SMALL))
    with pytest.raises(UserError, match="omit test_crops"):
        score_online(online, crops, 1)
    with pytest.raises(UserError, match="online_stride 0"):
        score_online(online, videos, 0)


def test_report(tmp_path, monkeypatch):
    figures = capture_figures(monkeypatch)
    top1 = np.array([10.0, 40.0, 40.0, 90.0])
    result = OnlineScores(Predictions(torch.eye(4), torch.arange(4)), top1, np.array([4, 4, 3, 1]), 5)
    write_online_report(result, tmp_path / "report")
    with open(tmp_path / "report" / "accuracy_over_time.csv", newline="") as f:
        rows = list(csv.DictReader(f))
    assert [float(row["top1"]) for row in rows] == top1.tolist()
    assert [row["frames"] for row in rows] == ["1", "2", "3", "4"]
    assert [row["source_frame"] for row in rows] == ["3", "8", "13", "18"]
    assert [row["videos_running"] for row in rows] == ["4", "4", "3", "1"]
    axes, = figures[0].axes
    running, accuracy = lines_of(axes).values()
    assert accuracy == [(1, 10), (2, 40), (3, 40), (4, 90)] and running == [(1, 100), (2, 100), (3, 75), (4, 25)]
    assert "every 5 frames" in axes.get_xlabel()
    with Image.open(tmp_path / "report" / "accuracy_over_time.png") as image:
        assert image.format == "PNG"


def test_one_frame_draws_too(tmp_path):
    result = OnlineScores(Predictions(torch.eye(2), torch.arange(2)), np.array([100.0]), np.array([2]), 1)
    write_online_report(result, tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"accuracy_over_time.csv", "accuracy_over_time.png"}
