"""The fast way to a training clip against the published one, pixel by pixel and draw by draw; batches and memory."""
import os
import signal
from collections import Counter

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision import transforms

from ops.common.errors import UserError
from ops.data.clip_transforms import GroupMultiScaleCrop, ToClipTensor, mirror
from ops.data.loader import make_loader
from ops.data.training_crop import TrainingCrop, resize_into
from ops.data.tsn_dataset import TSNDataSet
from ops.video.frames import _is_plain_jpeg, read_image, read_pixels


def photo(width, height, seed=0):
    """A smooth image with edges, as a camera makes them."""
    rng = np.random.default_rng(seed)
    small = Image.fromarray(rng.integers(0, 256, (8, 10, 3), dtype=np.uint8))
    image = np.array(small.resize((width, height), Image.Resampling.BICUBIC))
    image[height // 3:height // 2, width // 4:width // 2] = rng.integers(0, 256, 3)
    return image


# ---- images -------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("options", [{}, {"quality": 30}, {"quality": 98, "subsampling": 0}, {"subsampling": 1},
                                     {"progressive": True}, {"keep_rgb": True}])
@pytest.mark.parametrize("size", [(340, 256), (33, 17), (1, 1)])
def test_pixels_are_pils(options, size, tmp_path):
    Image.fromarray(photo(*size)).save(tmp_path / "a.jpg", **options)
    assert np.array_equal(read_pixels(tmp_path / "a.jpg"), np.asarray(read_image(tmp_path / "a.jpg")))


def test_pixels_of_other_images_are_pils(tmp_path):
    image = Image.fromarray(photo(40, 30))
    exif = image.getexif()
    exif[0x0112] = 6  # "turn me": PIL does not, so neither may we
    image.save(tmp_path / "turned.jpg", exif=exif)
    image.convert("L").save(tmp_path / "gray.jpg")
    image.quantize(16).save(tmp_path / "palette.png")
    image.convert("RGBA").save(tmp_path / "alpha.png")
    image.save(tmp_path / "really a png.jpg", format="PNG")
    for file in tmp_path.iterdir():
        pixels = read_pixels(file)
        assert np.array_equal(pixels, np.asarray(read_image(file))), file
        assert pixels.shape == (30, 40, 3) and pixels.flags.writeable


def test_which_images_may_go_the_quick_way(tmp_path):
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


@pytest.mark.parametrize("share", [0, 0.01, 0.3, 0.7, 0.99])
def test_bad_images_are_refused_in_pils_words(share, tmp_path):
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


# ---- crops ----------------------------------------------------------------------------------------------------

def published(crop, frames, mirrored, roll=False):
    clip = [Image.fromarray(np.ascontiguousarray(frame)) for frame in frames]
    return ToClipTensor("BGR" if roll else "RGB")(crop(mirror(clip, False) if mirrored else clip))


def in_planes(frames):
    """The same images as a video decoder leaves them."""
    return [frame.transpose(2, 0, 1).copy().transpose(1, 2, 0) for frame in frames]


@pytest.mark.parametrize("width, height, goal", [(340, 256, 224), (171, 128, 112), (120, 160, 112), (400, 300, 64),
                                                 (90, 70, 112), (113, 113, 112), (7, 5, 32)])
@pytest.mark.parametrize("form", [list, in_planes])
def test_a_clip_is_the_published_one_within_two_levels(width, height, goal, form):
    frames = [photo(width, height, seed) for seed in range(3)]
    crop = GroupMultiScaleCrop(goal)
    total, worst = 0.0, 0
    for seed in range(16):
        mirrored, roll = bool(seed % 2), bool(seed % 4 > 1)
        torch.manual_seed(seed)
        wanted = published(crop, frames, mirrored, roll).int()
        torch.manual_seed(seed)
        found = TrainingCrop(crop, "BGR" if roll else "RGB")(form(frames), mirrored)
        assert found.dtype == torch.uint8 and found.shape == (9, goal, goal)
        difference = (found.int() - wanted).abs()
        total, worst = total + float(difference.float().mean()), max(worst, int(difference.max()))
    assert worst <= 2 and total / 16 < 0.4


def test_noise_that_shrinks_is_filtered_as_by_pil():
    """Without PIL's wider filter (antialiasing) noise would keep its contrast."""
    noise = np.random.default_rng(0).integers(0, 256, (300, 300, 3), dtype=np.uint8)
    planes = np.empty((3, 100, 100), np.uint8)
    resize_into(planes, noise)
    wanted = np.asarray(Image.fromarray(noise).resize((100, 100), Image.Resampling.BILINEAR)).transpose(2, 0, 1)
    assert np.abs(planes.astype(int) - wanted).max() <= 1


def test_a_smaller_frame_is_filled_up_as_by_pil():
    frames = [photo(60, 50), photo(40, 30, 1)]
    crop = GroupMultiScaleCrop(32)
    for seed in range(8):
        torch.manual_seed(seed)
        wanted = published(crop, frames, False).int()
        torch.manual_seed(seed)
        assert (TrainingCrop(crop)(frames).int() - wanted).abs().max() <= 2


class Chart:
    """A source whose pixels tell their place: red the column, green the row."""
    @staticmethod
    def load_arrays(video, indices):
        columns, rows = np.meshgrid(np.arange(160), np.arange(120))
        return [np.dstack([columns, rows, 0 * rows]).astype(np.uint8)] * len(indices)

    def load(self, video, indices):
        return [Image.fromarray(frame) for frame in self.load_arrays(video, indices)]


def place(clip):
    """Where a chart's crop lies and how large it is, rounded: the colors of two opposite corners."""
    return tuple(clip[channel, corner, corner].item() for channel in (0, 1) for corner in (0, -1))


def test_crops_and_flips_are_those_of_the_published_way(tmp_path):
    """Through the data set: the same seeds draw the same crops and coin tosses, so the distribution is the same."""
    (tmp_path / "list.txt").write_text("x 8 0\n" * 600)
    crop = GroupMultiScaleCrop(112)
    places = []
    for transform in (transforms.Compose([crop, ToClipTensor()]), TrainingCrop(crop)):
        data = TSNDataSet(tmp_path, tmp_path / "list.txt", 1, transform=transform, mirror_labels=[0], seed=2)
        data.source = Chart()
        places.append([place(data[0, i][0]) for i in range(600)])
    assert all(abs(a - b) <= 2 for ours, theirs in zip(*places) for a, b in zip(ours, theirs))
    mirrored = sum(left > right for left, right, _, _ in places[1])
    assert 250 < mirrored < 350
    assert len(Counter(places[1])) > 150  # of ten sizes, thirteen places, two directions


# ---- batches --------------------------------------------------------------------------------------------------

@pytest.fixture
def videos(tmp_path):
    for i in range(8):
        (tmp_path / f"v{i}").mkdir()
        for k in range(1, 5):
            Image.fromarray(photo(60, 50, 10 * i + k)).save(tmp_path / f"v{i}" / f"{k}.jpg")
    (tmp_path / "list.txt").write_text("".join(f"v{i} 4 {i}\n" for i in range(8)))
    return tmp_path


def shared_memory():
    return sorted(name for name in os.listdir("/dev/shm") if name.startswith("torch_"))


@pytest.mark.skipif(not os.path.isdir("/dev/shm"), reason="this system shows no shared memory as files")
def test_an_error_in_a_worker_leaves_no_shared_memory(videos):
    (videos / "v6" / "2.jpg").write_bytes(b"")
    data = TSNDataSet(videos, videos / "list.txt", 4, image_tmpl="{}.jpg",
                      transform=TrainingCrop(GroupMultiScaleCrop(32)))
    before = shared_memory()
    loader = make_loader(data, 2, workers=2, train=True)
    with pytest.raises(UserError, match="unreadable frame.*2.jpg"):
        for batch in loader:
            assert batch.clips.is_shared()  # stacked where both processes see it: no further copy
    del loader, batch
    assert [name for name in shared_memory() if name not in before] == []


class Deadly(torch.utils.data.Dataset):
    """Three items, of which the second kills the process that asks for it."""

    def __len__(self):
        return 3

    def __getitem__(self, index):
        if index == 1:
            os.kill(os.getpid(), signal.SIGKILL)
        return torch.zeros(1000, 1000, dtype=torch.uint8), index


@pytest.mark.skipif(not os.path.isdir("/dev/shm"), reason="this system shows no shared memory as files")
def test_a_worker_that_dies_is_one_line_and_leaves_no_shared_memory():
    before = shared_memory()
    loader = make_loader(Deadly(), 1, workers=1, train=False)
    with pytest.raises(UserError, match="a worker process of the loader .*(Killed|unexpectedly).*workers 0") as info:
        for _ in loader:
            pass
    assert "\n" not in str(info.value)
    del loader
    assert [name for name in shared_memory() if name not in before] == []
