"""Test protocols: crops, views, and the frames of their clips."""
import pytest
from PIL import Image

from ops.common.errors import UserError
from ops.data.preprocessing import Preprocessing
from ops.data.sampling import ClipSampler
from ops.data.test_protocol import TestProtocol
from tests.helpers.crops import chart, check_crops


@pytest.mark.parametrize("crops, full_res, places, size", [
    (1, False, [(6, 2)], 12),
    (3, False, [(0, 2), (12, 2), (6, 2)], 12),
    (5, False, [(0, 0), (12, 0), (0, 4), (12, 4), (6, 2)], 12),
    (10, False, [(0, 0), (12, 0), (0, 4), (12, 4), (6, 2)], 12),
    (1, True, [(4, 0)], 16),
    (3, True, [(0, 0), (8, 0), (4, 0)], 16),
])
def test_protocols_crop_by_crop(crops, full_res, places, size):
    clip = chart(24, 16)  # already has the scale size
    protocol = TestProtocol(crops=crops, full_res=full_res)
    tensor = protocol.transform(Preprocessing((0,), (1,), scale_size=16, crop_size=12))(clip)
    views = tensor.view(protocol.views, len(clip) * 3, size, size)
    assert protocol.mirrored == [crops == 10 and i % 2 == 1 for i in range(protocol.views)]
    images = [Image.fromarray(frame) for view in views
              for frame in view.view(len(clip), 3, size, size).permute(0, 2, 3, 1).numpy()]
    check_crops(images, places, clip, size, flip=crops == 10)


def test_protocols_count_views_and_refuse_wrong_options():
    assert (TestProtocol().views, TestProtocol(10, dense=True).views, TestProtocol(3, twice=True).views) == (1, 100, 6)
    with pytest.raises(UserError, match="test_crops 4: choose 1, 3, 5, 10"):
        TestProtocol(4)
    with pytest.raises(UserError, match="exclude each other"):
        TestProtocol(dense=True, twice=True)


@pytest.mark.parametrize("protocol, mode, clips", [
    (TestProtocol(), "test", 1), (TestProtocol(twice=True), "twice", 2), (TestProtocol(dense=True), "dense_test", 10)])
def test_protocols_choose_the_frames_of_their_clips(protocol, mode, clips):
    assert protocol.sampler(8, frames_per_segment=5) == ClipSampler(8, 5, mode)
    assert len(protocol.sampler(8).frames(100)) == 8 * clips == 8 * protocol.clips
