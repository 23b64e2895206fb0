"""Inspecting a single video."""
import numpy as np

from ops.prepare.findings import KINDS
from ops.prepare.inspect_video import inspect_video
from tests.helpers.clips import coded_image, encode


def test_a_full_check_finds_damage_in_the_middle_of_a_video(tmp_path):
    rng = np.random.default_rng(0)
    noise = rng.integers(0, 255, (40, 64, 96, 3), np.uint8)
    content = bytearray(encode(tmp_path / "v.mp4", list(noise), options={"g": "5", "bf": "0"}).read_bytes())
    assert inspect_video(tmp_path, "v.mp4", "", full=True).findings == {}
    place = len(content) // 8
    content[place:place + 60] = bytes(60)
    (tmp_path / "v.mp4").write_bytes(content)
    findings = inspect_video(tmp_path, "v.mp4", "", full=True).findings
    assert set(findings) & {"unreadable", "truncated"}


def test_the_data_format_decides_between_a_file_and_a_directory(tmp_path):
    encode(tmp_path / "v.mp4", [coded_image(i) for i in range(9)])
    report = inspect_video(tmp_path, "v.mp4", "{:06d}.jpg", num_frames=9, min_frames=8)
    assert (report.count, report.findings, dict(report.sizes)) == (9, {}, {(96, 64): 3}) and report.digest
    assert inspect_video(tmp_path, "v.mp4", "{:06d}.jpg", data_format="frames").findings.keys() == {"missing"}
    assert inspect_video(tmp_path, "v", "{:06d}.jpg", data_format="video").count == 9
    assert set(KINDS) >= set(inspect_video(tmp_path, "gone", "{:06d}.jpg").findings)
