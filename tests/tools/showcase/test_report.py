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
from tools.showcase.report import read_training_log


def embedded(tag):
    """The images inside some HTML."""
    return [Image.open(io.BytesIO(base64.b64decode(code))) for code in re.findall(r'base64,([^"]+)"', tag)]


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
