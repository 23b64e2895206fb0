"""Traps of the published online demo, each with a test that bears its name."""
import numpy as np
import pytest
import torch

from online_demo.mobilenet_v2_tsm import MobileNetV2
from ops.models import TSN
from ops.spec import ModelSpec
from ops.streaming import sources
from ops.streaming.online import OnlineTSM
from ops.streaming.stream import frame_transform


def test_the_demo_feeds_rgb_to_an_rgb_model(tmp_path, monkeypatch):
    """OpenCV's images are BGR. When a red scene reaches the network, its first channel must be the highest."""
    class RedCamera:
        def __init__(self, *args):
            self.left = 3

        def isOpened(self):
            return True

        def set(self, *args):
            return True

        def get(self, *args):
            return 0.0

        def read(self):
            self.left -= 1
            return self.left >= 0, np.full((48, 64, 3), (20, 60, 220), np.uint8)  # blue, green, red

        def release(self):
            pass
    monkeypatch.setattr(sources.cv2, "VideoCapture", RedCamera)
    online = OnlineTSM(TSN.from_spec(ModelSpec(4, 2, arch="resnet18", shift=True, shift_direction="unidirectional",
                                               input_size=32)))
    frame = next(sources.Camera(0).frames())
    pixels = frame_transform(online.preprocessing)(frame.read())
    assert [round(float(channel.float().mean())) for channel in pixels[0]] == [220, 60, 20]
    red = online.prepare(pixels)[0].mean((1, 2)).tolist()
    assert red == pytest.approx([(220 / 255 - 0.485) / 0.229, (60 / 255 - 0.456) / 0.224, (20 / 255 - 0.406) / 0.225],
                                abs=1e-4)


def test_the_demo_does_not_start_from_uninitialised_buffers():
    """Every buffer starts as zeros: NaN in reused memory must not reach the answer for the first frame."""
    poison = [torch.full(shape, float("nan")) for shape in MobileNetV2(3, 32).buffer_shapes()]
    del poison
    published = MobileNetV2(3, 32).eval()
    online = OnlineTSM(TSN.from_spec(ModelSpec(4, 2, arch="resnet18", shift=True, shift_direction="unidirectional",
                                               input_size=32)))
    for buffers in (published.initial_buffers(), online.initial_state()):
        assert len(buffers) == (10 if buffers[0].shape[1] == 3 else 8)
        assert all(torch.equal(buffer, torch.zeros_like(buffer)) for buffer in buffers)
    with torch.no_grad():
        assert published(torch.zeros(1, 3, 32, 32), *published.initial_buffers())[0].isfinite().all()
