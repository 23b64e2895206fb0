"""Frame sources: pixels, missing and damaged frames, optical flow."""
import struct

import numpy as np
import pytest
from PIL import Image

from ops.common.errors import UserError
from ops.prepare.inspect_video import inspect_video
from ops.video.frames import FlowDirectory, FrameDirectory, _is_plain_jpeg, read_image, read_pixels
from tests.helpers.datasets import FLOW_TEMPLATES, TEMPLATE, grays, photo, refused, write_flow, write_video


@pytest.mark.parametrize("options", [{}, {"quality": 30}, {"quality": 98, "subsampling": 0}, {"subsampling": 1},
                                     {"progressive": True}, {"keep_rgb": True}])
@pytest.mark.parametrize("size", [(340, 256), (33, 17), (1, 1)])
def test_pixels_are_pils(options, size, tmp_path):
    Image.fromarray(photo(*size)).save(tmp_path / "a.jpg", **options)
    assert np.array_equal(read_pixels(tmp_path / "a.jpg"), np.asarray(read_image(tmp_path / "a.jpg")))


def test_pixels_of_other_images_are_pils(tmp_path):
    image = Image.fromarray(photo(40, 30))
    exif = image.getexif()
    exif[0x0112] = 6  # "turn me": PIL does not, so neither must read_pixels
    image.save(tmp_path / "turned.jpg", exif=exif)
    image.convert("L").save(tmp_path / "gray.jpg")
    image.quantize(16).save(tmp_path / "palette.png")
    image.convert("RGBA").save(tmp_path / "alpha.png")
    image.save(tmp_path / "really a png.jpg", format="PNG")
    for file in tmp_path.iterdir():
        pixels = read_pixels(file)
        assert np.array_equal(pixels, np.asarray(read_image(file))), file
        assert pixels.shape == (30, 40, 3) and pixels.flags.writeable


def test_which_images_are_decoded_the_fast_way(tmp_path):
    """All that extraction writes do; CMYK and files with more than one scan's data do not."""
    image, ways = Image.fromarray(photo(340, 256)), {}
    for name, mode, options in (("usual", "RGB", {"quality": 92, "subsampling": "4:2:0"}), ("gray", "L", {}),
                                ("progressive", "RGB", {"progressive": True}), ("cmyk", "CMYK", {})):
        image.convert(mode).save(tmp_path / f"{name}.jpg", **options)
        ways[name] = _is_plain_jpeg((tmp_path / f"{name}.jpg").read_bytes())
        assert np.array_equal(read_pixels(tmp_path / f"{name}.jpg"), np.asarray(read_image(tmp_path / f"{name}.jpg")))
    assert ways == {"usual": True, "gray": False, "progressive": False, "cmyk": False}
    usual = (tmp_path / "usual.jpg").read_bytes()
    assert not any(map(_is_plain_jpeg, (usual[:-1], usual + b" ", usual[:200], b"", usual.replace(b"\xff\0", b"\xff\1"))))


def test_frames_of_other_modes_become_rgb(tmp_path):
    gray, palette = Image.new("L", (4, 4), 77), Image.new("RGB", (4, 4), (10, 200, 30)).quantize(4)
    gray.save(tmp_path / "gray.png")
    palette.save(tmp_path / "palette.png")
    assert np.asarray(read_image(tmp_path / "gray.png"))[0, 0].tolist() == [77, 77, 77]
    assert np.asarray(read_image(tmp_path / "palette.png"))[0, 0].tolist() == [10, 200, 30]
    assert read_image(tmp_path / "palette.png", "L").mode == "L"


# ---- bad images -----------------------------------------------------------------------------------------------

@pytest.mark.parametrize("share", [0, 0.01, 0.3, 0.7, 0.99])
def test_bad_images_have_the_same_error_both_ways(share, tmp_path):
    path = tmp_path / "a.jpg"
    Image.fromarray(photo(64, 48)).save(path)
    content = path.read_bytes()
    path.write_bytes(content[:int(share * len(content))])
    with pytest.raises(UserError) as theirs:
        read_image(path)
    with pytest.raises(UserError) as ours:
        read_pixels(path)
    assert str(ours.value) == str(theirs.value) and str(path) in str(ours.value)
    path.unlink()
    with pytest.raises(UserError, match="missing frame"):
        read_pixels(path)


def noisy_jpeg(path):
    noise = np.random.default_rng(0).integers(0, 256, (48, 64, 3), dtype=np.uint8)
    Image.fromarray(noise).save(path)
    return path.read_bytes()


@pytest.mark.parametrize("share", [0, 0.001, 0.1, 0.3, 0.7, 0.99])
def test_truncated_frames_are_named(share, tmp_path):
    path = tmp_path / "00001.jpg"
    content = noisy_jpeg(path)
    path.write_bytes(content[:int(share * len(content))])
    with refused(f"unreadable frame: {path}"):
        read_image(path)


def test_every_truncation_of_an_image_is_refused_the_same_way(tmp_path):
    for name in ("a.jpg", "a.png"):
        path = tmp_path / name
        content = noisy_jpeg(path)
        for length in [*range(0, 200), *range(200, len(content) // 2, 211)]:
            path.write_bytes(content[:length])
            with refused(f"unreadable frame: {path}"):
                read_image(path)


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")  # pytest does not keep our filters
@pytest.mark.parametrize("width, height", [(13000, 7000), (13000, 14000), (65000, 65000)])
def test_every_reader_has_the_same_limit_of_pixels(width, height, tmp_path):
    """The head of a small JPEG says that it is a large one: beyond PIL's warning, and beyond its error."""
    path = tmp_path / "00001.jpg"
    Image.fromarray(photo(64, 48)).save(path)
    small = struct.pack(">HH", *Image.open(path).size[::-1])
    path.write_bytes(path.read_bytes().replace(small, struct.pack(">HH", height, width), 1))
    source, reasons = FrameDirectory(tmp_path, "{:05d}.jpg"), set()
    for work in (lambda: source.load("", [1]), lambda: source.load_arrays("", [1])):
        with pytest.raises(UserError, match=f"unreadable frame: {path}: it has more than 89478485 pixels") as info:
            work()
        reasons.add(str(info.value))
    assert len(reasons) == 1
    assert "it has more than 89478485 pixels" in inspect_video(tmp_path, "", "{:05d}.jpg").findings["unreadable"]


def test_files_that_are_not_images_are_named(tmp_path):
    for name, reason in (("text.jpg", "cannot identify image file"), ("directory.jpg", "[Errno 21] Is a directory")):
        path = tmp_path / name
        path.write_text("not an image") if name == "text.jpg" else path.mkdir()
        for read in (read_image, read_pixels):  # the same error in training and in evaluation
            with pytest.raises(UserError) as info:
                read(path)
            assert str(info.value).startswith(f"unreadable frame: {path}: {reason}") and " at 0x" not in str(info.value)


# ---- directories ----------------------------------------------------------------------------------------------

def test_frames_are_the_requested_ones(tmp_path):
    write_video(tmp_path / "a video with  two spaces", frames=30, shade=0)
    clip = FrameDirectory(tmp_path, TEMPLATE).load("a video with  two spaces", [1, 30, 7, 7])
    assert [frame.mode for frame in clip] == ["RGB"] * 4
    assert grays(clip) == pytest.approx([0, 145, 30, 30], abs=1)


@pytest.mark.parametrize("template", FLOW_TEMPLATES)
def test_flow_is_x_then_y_of_each_frame(template, tmp_path):
    write_flow(tmp_path, template)
    clip = FlowDirectory(tmp_path, template).load("12", [3, 1])
    assert [frame.mode for frame in clip] == ["L"] * 4
    assert grays(clip) == pytest.approx([30, 130, 10, 110], abs=2)


def test_flow_directories_that_are_numbers(tmp_path):
    with refused("flow video 'my clip'", "numbers"):
        FlowDirectory(tmp_path, FLOW_TEMPLATES[1]).load("my clip", [1])
