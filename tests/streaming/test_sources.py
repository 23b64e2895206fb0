"""Sources: the frames and times of cameras, files, directories and addresses, and the frames that the model gets."""
import os
import sys

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from ops.common.errors import UserError
from ops.data.test_protocol import TestProtocol
from ops.data.tsn_dataset import TSNDataSet
from ops.streaming import sources
from ops.streaming.online import OnlineTSM
from ops.streaming.sources import Address, Camera, Directory, FrameSelector, VideoFile, open_source
from ops.streaming.stream import frame_transform
from tests.helpers.clips import coded_image, number_of, real_video
from tests.helpers.streaming import decoded, make_weights, plug_in


@pytest.fixture(scope="module")
def online(tmp_path_factory):
    return OnlineTSM(make_weights(tmp_path_factory.mktemp("weights") / "small.pth.tar"))


@pytest.mark.parametrize("text, kind", [("webcam", Camera), ("webcam:3", Camera), ("/dev/video3", Camera),
                                        ("rtsp://host/a", Address), ("https://host/a.m3u8", Address)])
def test_each_name_opens_its_kind_of_source(text, kind):
    source = open_source(text, 12)
    assert type(source) is kind
    assert kind is Address or source.index == (3 if "3" in text else 0)


# ---- frames -------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("name", ["bikes.mp4", "carphone_pristine.mp4"])
def test_preprocessing_is_that_of_the_data_set(tmp_path, online, name):
    """A video, and its frames in a directory, give the pixels that the data set gives, bit for bit."""
    path = real_video(name)
    transform = frame_transform(online.preprocessing)
    (tmp_path / "list.txt").write_text(f"{name} 0\n")
    data = TSNDataSet(path.parent, tmp_path / "list.txt", num_segments=6, test_mode=True,
                      transform=TestProtocol().transform(online.preprocessing))
    video = list(VideoFile(path).frames())
    numbers = data.segment_frames(len(video))
    images = [video[number - 1].read() for number in numbers]
    wanted = data[0][0].view(6, 3, 64, 64)
    assert torch.equal(torch.cat([transform(image) for image in images]), wanted)

    (tmp_path / "frames").mkdir()
    for number, image in zip(numbers, images):
        image.save(tmp_path / "frames" / f"{number}.png")
    in_directory = [transform(frame.read()) for frame in Directory(tmp_path / "frames", 12).frames()]
    assert torch.equal(torch.cat(in_directory), wanted)

    # The same steps written out, after another conversion to RGB.
    image = Image.fromarray(decoded(path)[1][numbers[2] - 1])
    scale = 73 / min(image.size)
    image = image.resize([73 if side == min(image.size) else int(side * scale) for side in image.size], Image.BILINEAR)
    left, top = round((image.width - 64) / 2), round((image.height - 64) / 2)
    pixels = np.asarray(image.crop((left, top, left + 64, top + 64)), float) / 255
    by_hand = (pixels - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]
    seen = online.prepare(transform(images[2]))[0].permute(1, 2, 0).numpy()
    assert np.abs(seen - by_hand).mean() < 0.03
    assert np.abs(seen - by_hand[:, :, ::-1]).mean() > 0.05  # BGR would fail here


def test_camera_frames_are_rgb(monkeypatch):
    opened = plug_in(monkeypatch, real_video("bikes.mp4"))
    _, images = decoded(real_video("bikes.mp4"))
    for wanted, frame in zip(images[:3], Camera(2).frames()):
        image = np.asarray(frame.read(), float)
        assert np.abs(image - wanted).mean() < 2 < np.abs(image[:, :, ::-1] - wanted).mean()
        assert frame.time is None
    assert opened == [(2, cv2.CAP_V4L2 if sys.platform == "linux" else cv2.CAP_ANY)]


def test_a_directory_is_read_in_the_order_of_its_numbers(tmp_path):
    for number in (1, 2, 10, 9, 100):
        Image.fromarray(coded_image(number)).save(tmp_path / f"{number}.jpg")
    (tmp_path / "notes.txt").write_text("not a frame")
    (tmp_path / "._1.jpg").write_bytes(b"what macOS leaves beside an image")
    frames = list(Directory(tmp_path, 4).frames())
    assert [number_of(frame.read()) for frame in frames] == [1, 2, 9, 10, 100]
    assert [frame.time for frame in frames] == [0, 0.25, 0.5, 0.75, 1]


def test_an_unreadable_directory_is_one_line(monkeypatch, tmp_path):
    def refuse(*_):
        raise PermissionError(13, "Permission denied")
    for name, words in (("listdir", f"cannot read the directory {tmp_path}: Permission denied"), ("stat", "no such source")):
        with monkeypatch.context() as patch, pytest.raises(UserError, match=words):
            patch.setattr(os, name, refuse)
            open_source(str(tmp_path), 12)


def test_a_frame_that_cannot_be_converted_is_one_line(monkeypatch):
    def fail(*_):
        raise ValueError("no such pixel format")
    monkeypatch.setattr(sources, "frame_image", fail)
    frame = next(VideoFile(real_video("bikes.mp4")).frames())
    with pytest.raises(UserError, match="bikes.mp4: a frame cannot be converted to an image: no such pixel format"):
        frame.read()


# ---- the frames that the model gets --------------------------------------------------------------------------

@given(source=st.floats(1, 120), rate=st.floats(1, 60), jitter=st.lists(st.floats(-0.1, 0.1), min_size=200,
                                                                        max_size=200))
def test_the_model_gets_its_rate_or_every_frame(source, rate, jitter):
    selector = FrameSelector(rate)
    times = [(number + off) / source for number, off in enumerate(jitter)]
    taken = [seconds for seconds in times if selector.due(max(0.0, seconds))]
    wanted = min(200, 200 / source * rate)
    if source < 0.7 * rate:
        assert len(taken) == 200
    elif source > 1.1 * rate:
        assert abs(len(taken) - wanted) <= 2


@pytest.mark.parametrize("source, rate, taken", [
    (24, 12, [0, 2, 4, 6, 8]), (12, 12, [0, 1, 2, 3, 4]), (30, 12, [0, 3, 5, 8, 10]), (25, 10, [0, 3, 5, 8, 10])])
def test_the_first_frame_of_each_period_is_due(source, rate, taken):
    selector = FrameSelector(rate)
    rounded = [round(number / source, 3) for number in range(60)]  # as Matroska writes times
    assert [number for number, seconds in enumerate(rounded) if selector.due(seconds)][:5] == taken
