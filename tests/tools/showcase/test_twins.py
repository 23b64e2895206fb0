"""Videos and their time-reversed twins: the scores of both, and how the report and the README's image show them."""
import base64
import io
import re

import numpy as np
import pytest
from PIL import Image

from ops.checkpoints.checkpoint import load_checkpoint
from ops.data.loader import make_loader
from ops.data.test_protocol import PROTOCOLS
from ops.data.tsn_dataset import TSNDataSet
from ops.dataset_config import resolve_dataset
from ops.evaluation.clip_runtime import TorchClip
from ops.evaluation.evaluate import evaluate
from ops.prepare.gestures.definition import CLASSES
from tests.helpers.crops import pixels
from tests.helpers.members import member
from tests.helpers.programs import make_frames, write_list
from tools.showcase.twins import GAP, HEADER, SCALE, Clip, Scores, clip_block, draw_pairs, first_pairs, score_backwards

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture
def data(tmp_path):
    """Eight gestures of different lengths, with the same frames backwards in directories of their own."""
    directory = tmp_path / "gestures"
    videos = {f"{number}": (5 + number % 5, number % 8) for number in range(8)}
    make_frames(directory / "frames", videos)
    for number, (count, _) in videos.items():
        (tmp_path / "backwards" / number).mkdir(parents=True)
        for frame in range(1, count + 1):
            image = directory / "frames" / number / f"{frame:06d}.jpg"
            (tmp_path / "backwards" / number / f"{count + 1 - frame:06d}.jpg").write_bytes(image.read_bytes())
    for name in ("train", "val"):
        write_list(directory / f"{name}_videofolder.txt", videos)
    (directory / "category.txt").write_text("".join(f"{name}\n" for name in CLASSES))
    return resolve_dataset("gestures", "RGB", str(tmp_path), root_path=str(directory / "frames"))


def test_twins_are_scored_as_files_played_backwards_would_be(data, tmp_path):
    weights = member(tmp_path / "m.pth.tar", dataset="gestures", class_names=CLASSES, num_class=8, shift=True)
    runtime = TorchClip(load_checkpoint(weights).build())
    files = TSNDataSet(tmp_path / "backwards", data.val_list, 3, image_tmpl="{:06d}.jpg", test_mode=True,
                       transform=PROTOCOLS["efficient"].transform(runtime.preprocessing))
    wanted = evaluate(runtime, make_loader(files, 4, workers=0, train=False)).logits.numpy()
    assert np.allclose(score_backwards(weights, data, device="cpu"), wanted, atol=1e-5)


def test_both_directions_have_to_be_right():
    labels = np.array([0, 1, 2, 3])
    videos, twins = np.eye(8)[[0, 1, 2, 2]], np.eye(8)[[1, 1, 3, 2]]
    assert Scores(videos, twins, labels).both == 50  # the twin of class 1 is 0, and the last video is wrong itself
    assert Scores(np.eye(8)[labels], np.eye(8)[labels], labels).both == 0  # a model that ignores order


def test_pairs_are_the_first_videos_with_each_models_answers(data):
    labels = np.arange(8)
    blind = Scores(5 * np.eye(8)[labels], 5 * np.eye(8)[labels], labels)
    seeing = Scores(5 * np.eye(8)[labels], 5 * np.eye(8)[labels ^ 1], labels)
    pairs = first_pairs(data, CLASSES, {"tsm": seeing, "tsn": blind})
    assert [(video.true_class, twin.true_class) for video, twin in pairs] == list(zip(CLASSES[::2], CLASSES[1::2]))
    for video, twin in pairs:
        assert pixels(twin.frames) == pixels(video.frames[::-1])
        assert [answers["tsm"][0] for answers in (video.answers, twin.answers)] == [video.true_class, twin.true_class]
        assert video.answers["tsn"] == twin.answers["tsn"] == (video.true_class, pytest.approx(0.955, abs=1e-3))


def clip(true_class, tsm, tsn):
    frames = [Image.new("RGB", (96, 72), (10 * i, 0, 0)) for i in range(6)]
    return Clip(frames, true_class, {"tsm": (tsm, 0.9), "tsn": (tsn, 0.4)})


def test_a_block_marks_right_and_wrong_answers():
    block = clip_block(clip("Swiping <Left>", "Swiping <Left>", "Swiping Right"))
    assert "<span class=right>Swiping &lt;Left&gt;</span> (90%)" in block
    assert "<span class=wrong>Swiping Right</span> (40%)" in block
    code, = re.findall(r'base64,([^"]+)"', block)
    assert Image.open(io.BytesIO(base64.b64decode(code))).size == (6 * 98, 72)


def test_the_readmes_image_has_a_row_of_frames_per_clip():
    scores = Scores(np.eye(8), np.eye(8), np.arange(8))
    pair = clip("a", "a", "b"), clip("b", "b", "b")
    image = draw_pairs([pair], {"tsm": 97.8, "tsn": 45.8}, {"tsm": scores, "tsn": scores})
    for row in range(2):
        middle = SCALE * (HEADER + row * (72 + GAP) + 36)
        assert [image.getpixel((SCALE * (GAP + i * (96 + GAP) + 48), middle)) for i in range(6)] == [
            (10 * i, 0, 0) for i in range(6)]
