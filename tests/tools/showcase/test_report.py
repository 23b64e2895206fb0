"""The report page: which log it reads, and how its images are embedded."""
import base64
import io
import re
from pathlib import Path

import pytest
from PIL import Image

from ops.common.errors import UserError
from tests.helpers.clips import clip
from tools import quickstart
from tools.showcase.page import chart_tag, encode_image, image_tag, poster_url
from tools.showcase.report import Example, draw_examples, example_block, read_training_log


def embedded(tag):
    """The images inside some HTML."""
    return [Image.open(io.BytesIO(base64.b64decode(code))) for code in re.findall(r'base64,([^"]+)"', tag)]


def example(true_class, tsm, tsn):
    frames = [Image.new("RGB", (96, 72), (10 * i, 0, 0)) for i in range(8)]
    return Example(frames, true_class, {"tsm": (tsm, 0.9), "tsn": (tsn, 0.4)})


def test_the_report_shows_the_run_that_was_tested(tmp_path):
    """Runs of other epochs are in the same directory: by name, e10 comes before e5, and e9 after it."""
    for epochs, top1 in ((10, 30), (5, 61.5), (9, 20)):
        (tmp_path / "log" / quickstart.run_name("tsm", epochs)).mkdir(parents=True)
        (tmp_path / "log" / quickstart.run_name("tsm", epochs) / "log.csv").write_text(f"epoch,val_top1\n0,{top1}\n1,\n")
    rows = read_training_log(tmp_path, quickstart.checkpoint(Path("moved"), "tsm", 5))
    assert rows == [{"epoch": 0, "val_top1": 61.5}, {"epoch": 1}]
    with pytest.raises(UserError, match="there is no .*_e7_none_cos/log.csv, the log of .*ckpt.pth.tar: run scripts"):
        read_training_log(tmp_path, quickstart.checkpoint(tmp_path, "tsm", 7))


def test_a_chart_is_shown_at_half_its_pixels():
    tag = chart_tag(encode_image(Image.new("RGB", (300, 200)), "PNG"), 'a "chart"')
    assert "width=150" in tag and 'alt="a &quot;chart&quot;"' in tag and embedded(tag)[0].size == (300, 200)
    assert "width" not in image_tag(encode_image(Image.new("RGB", (300, 200)), "PNG"), "frames")


def test_a_poster_is_the_first_frame_from_its_time_on(tmp_path):
    clip(tmp_path / "v.mp4", 25)
    assert embedded(f'"{poster_url(tmp_path / "v.mp4", 0.5)}"')[0].format == "JPEG"
    assert poster_url(tmp_path / "v.mp4", 60.0) == ""


def test_an_example_marks_right_and_wrong_answers():
    block = example_block(example("Swiping <Left>", "Swiping <Left>", "Swiping Right"))
    assert "<span class=right>Swiping &lt;Left&gt;</span> (90%)" in block
    assert "<span class=wrong>Swiping Right</span> (40%)" in block
    assert embedded(block)[0].size == (8 * 98, 72)


def test_the_readmes_image_has_a_row_of_frames_per_example():
    image = draw_examples([example("a", "a", "b"), example("b", "b", "a")], {"tsm": 97.8, "tsn": 45.8})
    for row in range(2):
        colors = [image.getpixel((10 + i * 99 + 48, 46 + row * 80 + 36)) for i in range(8)]
        assert colors == [(10 * i, 0, 0) for i in range(8)]
    assert image.height == 48 + 2 * 80
