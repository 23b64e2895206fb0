"""Lists, frames and batches: what is read, what is refused and in which words, and that chance is reproducible."""
import contextlib

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision import transforms

from ops.common.errors import UserError
from ops.data import sampling
from ops.data.clip_transforms import GroupMultiScaleCrop, ToClipTensor
from ops.data.list_files import VideoRecord, read_list
from ops.data.loader import EpochSampler, make_loader, set_epoch
from ops.data.tsn_dataset import BadVideo, TSNDataSet, collate
from ops.video.frames import FlowDirectory, FrameDirectory, read_image, read_pixels

TEMPLATE = "{:05d}.jpg"
VIDEOS = {"a video with  two spaces": 30, "sub directory/clip 7": 12, "plain": 9, "short": 2}


def write_video(directory, frames, shade):
    """JPEGs of one gray each, which tells the frame: shade + 5 * (index - 1), exact but for JPEG's rounding."""
    directory.mkdir(parents=True)
    for i in range(frames):
        Image.new("RGB", (40, 32), (shade + 5 * i,) * 3).save(directory / TEMPLATE.format(i + 1), quality=95)


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
    """A root with the VIDEOS and `list.txt`; labels are the videos' places in it."""
    root = tmp_path_factory.mktemp("videos")
    for i, (name, frames) in enumerate(VIDEOS.items()):
        write_video(root / name, frames, 20 * i)
    (root / "list.txt").write_text("".join(f"{name} {frames} {i}\n"
                                           for i, (name, frames) in enumerate(VIDEOS.items())))
    return root


def grays(clip):
    return [np.asarray(frame).mean() for frame in clip]


def dataset(root, list_file="list.txt", **options):
    return TSNDataSet(root, root / list_file, **{"num_segments": 3, "image_tmpl": TEMPLATE, **options})


@contextlib.contextmanager
def refused(*words):
    """A UserError of one line with all of `words` in it."""
    with pytest.raises(UserError) as info:
        yield
    message = str(info.value)
    assert "\n" not in message
    for word in words:
        assert str(word) in message, message


# ---- lists ----------------------------------------------------------------------------------------------------

def rows(records):
    return [(record.path, record.num_frames, record.label) for record in records]


def test_list_of_paths_with_spaces(tmp_path):
    (tmp_path / "list.txt").write_text("plain/v_1 30 0\n\na b  c 12 3\n  indented name 5   1\t\r\nvideo 12 40 7\n")
    records = read_list(tmp_path / "list.txt", num_class=8)
    assert rows(records) == [("plain/v_1", 30, 0), ("a b  c", 12, 3), ("indented name", 5, 1), ("video 12", 40, 7)]
    assert all(isinstance(record, VideoRecord) for record in records)


def test_list_in_other_letters(tmp_path):
    (tmp_path / "list.txt").write_text("手势/видео é 3 0\n", encoding="utf-8")
    assert rows(read_list(tmp_path / "list.txt")) == [("手势/видео é", 3, 0)]


def test_list_as_windows_editors_save_it(tmp_path):
    (tmp_path / "list.txt").write_bytes("first 3 0\r\nsecond 4 1\r\n".encode("utf-8-sig"))
    assert rows(read_list(tmp_path / "list.txt")) == [("first", 3, 0), ("second", 4, 1)]


@pytest.mark.parametrize("line, words", [
    ("video 10", "is not of the form: path num_frames label"),
    ("10 3", "is not of the form"),
    ("video", "is not of the form"),
    ("video ten 3", "'video ten 3' is not of the form"),
    ("video 10 3.5", "is not of the form"),
    ("video,10,3", "is not of the form"),
    ("my video 0 3", "'my video' has 0 frames"),
    ("my video -4 3", "has -4 frames"),
    ("video 10 8", "label 8 is outside the classes 0 to 7"),
    ("video 10 -1", "label -1 is outside the classes 0 to 7"),
])
def test_list_lines_that_are_wrong(line, words, tmp_path):
    path = tmp_path / "my list.txt"
    path.write_text(f"good one 10 7\n\n{line}\n")
    with refused(f"{path}:3: ", words):
        read_list(path, num_class=8)


def test_negative_label_without_a_class_count(tmp_path):
    (tmp_path / "list.txt").write_text("video 10 -1\n")
    with pytest.raises(UserError, match="list.txt:1: .*label -1") as info:
        read_list(tmp_path / "list.txt")
    assert "0 to 0" not in str(info.value)  # nobody said that there is one class


def test_labels_are_free_without_a_class_count(tmp_path):
    (tmp_path / "list.txt").write_text("video 10 5000\n")
    assert read_list(tmp_path / "list.txt")[0].label == 5000


def test_lists_that_cannot_be_read(tmp_path):
    (tmp_path / "empty.txt").write_text(" \n\n")
    with refused("empty.txt is empty", "path num_frames label"):
        read_list(tmp_path / "empty.txt")
    with refused("missing.txt", "No such file"):
        read_list(tmp_path / "missing.txt")
    with refused(tmp_path, "directory"):
        read_list(tmp_path)
    (tmp_path / "binary.txt").write_bytes(b"\xff\xfe\x00video\n")
    with refused("binary.txt"):
        read_list(tmp_path / "binary.txt")


# ---- frames ---------------------------------------------------------------------------------------------------

def test_frames_are_the_asked_for_ones(videos):
    name = "a video with  two spaces"
    clip = FrameDirectory(videos, TEMPLATE).load(name, [1, 30, 7, 7])
    assert [frame.mode for frame in clip] == ["RGB"] * 4
    assert grays(clip) == pytest.approx([0, 145, 30, 30], abs=1)


def test_frames_of_other_modes_become_rgb(tmp_path):
    gray, palette = Image.new("L", (4, 4), 77), Image.new("RGB", (4, 4), (10, 200, 30)).quantize(4)
    gray.save(tmp_path / "gray.png")
    palette.save(tmp_path / "palette.png")
    assert np.asarray(read_image(tmp_path / "gray.png"))[0, 0].tolist() == [77, 77, 77]
    assert np.asarray(read_image(tmp_path / "palette.png"))[0, 0].tolist() == [10, 200, 30]
    assert read_image(tmp_path / "palette.png", "L").mode == "L"


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


def test_every_cut_of_a_image_is_refused_in_one_way(tmp_path):
    for name in ("a.jpg", "a.png"):
        path = tmp_path / name
        content = noisy_jpeg(path)
        for length in [*range(0, 200), *range(200, len(content) // 2, 211)]:
            path.write_bytes(content[:length])
            with refused(f"unreadable frame: {path}"):
                read_image(path)


def test_what_is_no_image_is_named(tmp_path):
    for name, reason in (("text.jpg", "cannot identify image file"), ("directory.jpg", "[Errno 21] Is a directory")):
        path = tmp_path / name
        path.write_text("not an image") if name == "text.jpg" else path.mkdir()
        for read in (read_image, read_pixels):  # training says the same words as evaluation
            with pytest.raises(UserError) as info:
                read(path)
            assert str(info.value).startswith(f"unreadable frame: {path}: {reason}") and " at 0x" not in str(info.value)


def test_missing_frame_is_named(videos, tmp_path):
    (tmp_path / "list.txt").write_text("sub directory/clip 7 90 0\n")
    data = TSNDataSet(videos, tmp_path / "list.txt", 3, image_tmpl=TEMPLATE, random_shift=False)
    with refused("missing frame", videos / "sub directory/clip 7" / "00016.jpg", "train with skip_bad"):
        data[0]


# ---- samples --------------------------------------------------------------------------------------------------

def test_samples_are_the_samplers_frames(videos):
    data = dataset(videos, random_shift=False)
    assert len(data) == 4
    for i, frames in enumerate(VIDEOS.values()):
        clip, label = data[i]
        assert label == i
        assert grays(clip) == pytest.approx([20 * i + 5 * (k - 1) for k in sampling.sample_test(frames, 3)], abs=1)


def test_protocols_ask_for_the_samplers_frames(videos):
    cases = [
        (dict(random_shift=False), sampling.sample_test(100, 3)),
        (dict(test_mode=True), sampling.sample_test(100, 3)),
        (dict(test_mode=True, twice_sample=True), sampling.sample_twice(100, 3)),
        (dict(test_mode=True, dense_sample=True), sampling.sample_dense_test(100, 3)),
        (dict(random_shift=False, dense_sample=True), sampling.sample_dense_val(100, 3)),
        (dict(random_shift=False, new_length=5), sampling.sample_test(100, 3, 5)),
        (dict(random_shift=False, new_length=5, modality="RGBDiff"), sampling.sample_test(100, 3, 6)),
    ]
    for options, wanted in cases:
        assert dataset(videos, **options).segment_indices(100) == wanted, options
    for options, sample in ((dict(), sampling.sample_train), (dict(dense_sample=True), sampling.sample_dense_train)):
        torch.manual_seed(4)
        found = dataset(videos, **options).segment_indices(100)
        torch.manual_seed(4)
        assert found == sample(100, 3), options


def test_transform_gets_images_and_its_result_is_the_sample(videos):
    sample, _ = dataset(videos, random_shift=False, transform=ToClipTensor())[2]
    assert sample.shape == (9, 32, 40) and sample.dtype == torch.uint8
    wanted = [40 + 5 * (k - 1) for k in sampling.sample_test(9, 3) for _ in "RGB"]
    assert sample.float().mean((1, 2)).tolist() == pytest.approx(wanted, abs=1)


@pytest.mark.parametrize("modality, length", [("RGB", 1), ("RGB", 4), ("RGBDiff", 2), ("RGBDiff", 5)])
def test_segments_are_neighbouring_frames_and_the_last_one_repeats(modality, length, videos):
    images = length + (modality == "RGBDiff")
    data = dataset(videos, random_shift=False, new_length=length, modality=modality)
    for i, frames in enumerate(VIDEOS.values()):
        wanted = [min(first + k, frames) for first in sampling.sample_test(frames, 3, images)
                  for k in range(images)]
        assert grays(data[i][0]) == pytest.approx([20 * i + 5 * (k - 1) for k in wanted], abs=1)


def test_a_mirrored_clip_has_the_mirrored_label(noisy):
    plain = dataset(noisy, random_shift=False, transform=ToClipTensor())
    swapping = dataset(noisy, random_shift=False, transform=ToClipTensor(), mirror_labels=[1, 0, *range(2, 10)])
    tosses = []
    for epoch in range(20):
        for index in range(3):
            (clip, label), (mirrored, other) = plain[epoch, index], swapping[epoch, index]
            tosses.append(torch.equal(mirrored, clip.flip(2)))
            assert tosses[-1] or torch.equal(mirrored, clip)
            assert other == ([1, 0, 2][label] if tosses[-1] else label)
    assert 15 < sum(tosses) < 45


def test_impossible_options_are_refused(videos):
    with refused("num_segments 0: choose 1 or more"):
        dataset(videos, num_segments=0)
    with refused("dense_sample and twice_sample exclude each other"):
        dataset(videos, dense_sample=True, twice_sample=True)
    with refused("list.txt:4: ", "label 3 is outside the classes 0 to 2"):
        dataset(videos, num_class=3)


# ---- optical flow ---------------------------------------------------------------------------------------------

FLOW_TEMPLATES = ["flow_{}_{:05d}.jpg", "{:06d}-{}_{:05d}.jpg", "{:06d}.jpg"]


def write_flow(root, template, frames=4):
    """A video 12 whose flow at frame i is 10 * i along x and 100 + 10 * i along y."""
    directory = root / ("000012" if template.count("{") == 3 else "12")
    directory.mkdir(parents=True)
    for i in range(1, frames + 1):
        x, y = (Image.new("L", (16, 16), value) for value in (10 * i, 100 + 10 * i))
        if template.count("{") == 1:
            Image.merge("RGB", [x, y, Image.new("L", (16, 16), 128)]).save(
                directory / template.format(i), quality=95, subsampling=0)
        for axis, image in zip("xy", (x, y)):
            if template.count("{") == 2:
                image.save(directory / template.format(axis, i))
            elif template.count("{") == 3:
                image.save(directory / template.format(12, axis, i))


@pytest.mark.parametrize("template", FLOW_TEMPLATES)
def test_flow_is_x_then_y_of_each_frame(template, tmp_path):
    write_flow(tmp_path, template)
    clip = FlowDirectory(tmp_path, template).load("12", [3, 1])
    assert [frame.mode for frame in clip] == ["L"] * 4
    assert grays(clip) == pytest.approx([30, 130, 10, 110], abs=2)


@pytest.mark.parametrize("template, listed", [*zip(FLOW_TEMPLATES, (4, 8, 4))])  # the second one's lists count files
def test_flow_clips(template, listed, tmp_path):
    write_flow(tmp_path, template)
    (tmp_path / "list.txt").write_text(f"12 {listed} 1\n")
    data = TSNDataSet(tmp_path, tmp_path / "list.txt", 2, 3, "Flow", template, random_shift=False)
    clip, label = data[0]
    assert sampling.sample_test(4, 2, 3) == [1, 2] and label == 1
    wanted = [value for i in (1, 2, 3, 2, 3, 4) for value in (10 * i, 100 + 10 * i)]
    assert grays(clip) == pytest.approx(wanted, abs=2)


def test_flow_directories_that_are_numbers(tmp_path):
    with refused("flow video 'my clip'", "numbers"):
        FlowDirectory(tmp_path, FLOW_TEMPLATES[1]).load("my clip", [1])


def test_a_flow_list_that_counts_a_single_file(tmp_path):
    (tmp_path / "list.txt").write_text("12 1 0\n")
    for dense in (False, True):
        with refused("list.txt: '12' has 1 file", "x and y files"):
            TSNDataSet(tmp_path, tmp_path / "list.txt", 2, 1, "Flow", FLOW_TEMPLATES[1], dense_sample=dense)[0]


# ---- chance ---------------------------------------------------------------------------------------------------

AUGMENT = transforms.Compose([GroupMultiScaleCrop(16, fix_crop=False), ToClipTensor()])


@pytest.fixture(scope="module")
def noisy(tmp_path_factory):
    """Ten videos of noise, so that every place of a crop looks different; labels 0 to 9."""
    root = tmp_path_factory.mktemp("noisy")
    rng = np.random.default_rng(0)
    for i in range(10):
        (root / f"v {i}").mkdir()
        for k in range(1, 7):
            Image.fromarray(rng.integers(0, 256, (32, 40, 3), dtype=np.uint8)).save(
                root / f"v {i}" / TEMPLATE.format(k))
    (root / "list.txt").write_text("".join(f"v {i} 6 {i}\n" for i in range(10)))
    return root


def test_an_item_of_an_epoch_depends_on_seed_epoch_and_index_alone(noisy):
    data = dataset(noisy, transform=AUGMENT, seed=3)
    torch.manual_seed(0)
    first = data[5, 2][0]
    torch.manual_seed(1)
    torch.rand(7)
    assert torch.equal(data[5, 2][0], first)
    assert data[5, 2][1] == 2
    others = [data[6, 2][0], dataset(noisy, transform=AUGMENT, seed=4)[5, 2][0]]
    assert not any(torch.equal(other, first) for other in others)


def test_an_item_leaves_the_global_random_state_alone(noisy):
    data = dataset(noisy, transform=AUGMENT)
    before = torch.random.get_rng_state()
    data[0, 0]
    assert torch.equal(torch.random.get_rng_state(), before)


def test_items_of_an_epoch_draw_apart(tmp_path):
    """Two copies of one video give different crops: neighbours share no randomness."""
    rng = np.random.default_rng(0)
    for i in range(2):
        (tmp_path / f"{i}").mkdir()
    for k in range(1, 7):
        image = Image.fromarray(rng.integers(0, 256, (32, 40, 3), dtype=np.uint8))
        for i in range(2):
            image.save(tmp_path / f"{i}" / TEMPLATE.format(k))
    (tmp_path / "list.txt").write_text("0 6 0\n1 6 1\n")
    data = dataset(tmp_path, transform=AUGMENT)
    assert not any(torch.equal(data[epoch, 0][0], data[epoch, 1][0]) for epoch in range(5))


def epochs_of(loader, epochs):
    result = []
    for epoch in epochs:
        set_epoch(loader, epoch)
        result.append([(batch.clips, batch.labels.tolist()) for batch in loader])
    return result


def equal(first, second):
    return all(torch.equal(a[0], b[0]) and a[1] == b[1] for a, b in zip(first, second, strict=True))


def test_workers_change_nothing_and_epochs_everything(noisy):
    data = dataset(noisy, transform=AUGMENT, seed=1)
    alone = epochs_of(make_loader(data, 4, workers=0, train=True, seed=1), [0, 1, 2])
    torch.manual_seed(99)
    together = epochs_of(make_loader(data, 4, workers=2, train=True, seed=1), [0, 1, 2])
    assert all(equal(a, b) for a, b in zip(alone, together))
    resumed = epochs_of(make_loader(data, 4, workers=2, train=True, seed=1), [2])
    assert equal(resumed[0], alone[2])
    orders = [[label for _, labels in epoch for label in labels] for epoch in alone]
    assert all(len(order) == 8 == len(set(order)) for order in orders)  # full batches only
    assert orders[0] != orders[1] != orders[2] != orders[0] and orders[0] != sorted(orders[0])


def test_sampler_shuffles_by_seed_and_epoch():
    def order(seed, epoch):
        sampler = EpochSampler(range(50), seed)
        sampler.epoch = epoch
        assert len(sampler) == 50
        keys = list(sampler)
        assert {key[0] for key in keys} == {epoch} and sorted(key[1] for key in keys) == list(range(50))
        return [key[1] for key in keys]

    assert order(0, 0) == order(0, 0)
    assert len({tuple(order(seed, epoch)) for seed in range(4) for epoch in range(4)}) == 16


def test_validation_is_in_order_and_whole(noisy):
    for workers in (0, 2):
        loader = make_loader(dataset(noisy, random_shift=False, transform=ToClipTensor()), 4, workers=workers, train=False)
        set_epoch(loader, 3)  # without a meaning here
        assert [batch.labels.tolist() for batch in loader] == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]


def test_a_small_training_set_is_one_smaller_batch(noisy):
    loader = make_loader(dataset(noisy, transform=AUGMENT), 64, workers=0, train=True)
    assert [sorted(batch.labels.tolist()) for batch in loader] == [list(range(10))]


# ---- bad videos -----------------------------------------------------------------------------------------------

@pytest.fixture
def damaged(tmp_path):
    """Six videos of four frames: number 1 lacks a frame, number 4 has a cut one; labels 0 to 5."""
    for i in range(6):
        write_video(tmp_path / f"v {i}", 4, 40 * i)
    (tmp_path / "v 1" / "00003.jpg").unlink()
    cut = tmp_path / "v 4" / "00002.jpg"
    cut.write_bytes(cut.read_bytes()[:300])
    (tmp_path / "list.txt").write_text("".join(f"v {i} 4 {i}\n" for i in range(6)))
    return tmp_path


def test_skip_bad_says_which_and_why(damaged):
    data = dataset(damaged, num_segments=4, transform=ToClipTensor(), skip_bad=True)
    samples = [data[0, i] for i in range(6)]
    assert [isinstance(sample, BadVideo) for sample in samples] == [False, True, False, False, True, False]
    assert samples[1].path == "v 1" and "missing frame" in samples[1].reason and "00003.jpg" in samples[1].reason
    assert samples[4].path == "v 4" and "unreadable frame" in samples[4].reason and "00002.jpg" in samples[4].reason


def test_without_skip_bad_a_bad_video_stops(damaged):
    data = dataset(damaged, num_segments=4, transform=ToClipTensor())
    data[0]
    with refused(damaged / "v 1" / "00003.jpg"):
        data[1]
    with refused(damaged / "v 4" / "00002.jpg"):
        data[4]


@pytest.mark.parametrize("workers", [0, 2])
def test_a_bad_video_stops_a_loader_with_its_one_line(workers, damaged):
    loader = make_loader(dataset(damaged, num_segments=4, transform=ToClipTensor()), 2, workers=workers, train=False)
    with pytest.raises(UserError) as info:
        list(loader)
    if workers:  # the traceback keeps them; left to the garbage collector, they would be waited for 5 seconds each
        loader._iterator._shutdown_workers()
    message = info.value.for_command_line()
    assert message.startswith(f"missing frame: {damaged / 'v 1' / '00003.jpg'}: ") and "--skip_bad" in message
    assert "\n" not in message and "Traceback" not in message


@pytest.mark.parametrize("workers", [0, 2])
def test_bad_videos_are_left_out_and_never_replaced(workers, damaged):
    data = dataset(damaged, num_segments=4, transform=ToClipTensor(), skip_bad=True)
    batches = list(make_loader(data, 6, workers=workers, train=True))
    assert len(batches) == 1
    clips, labels, bad = batches[0]
    assert sorted(labels.tolist()) == [0, 2, 3, 5] and sorted(video.path for video in bad) == ["v 1", "v 4"]
    for clip, label in zip(clips, labels.tolist()):
        wanted = [40 * label + 5 * k for k in range(4) for _ in "RGB"]
        assert clip.float().mean((1, 2)).tolist() == pytest.approx(wanted, abs=1)


def test_collate_without_a_good_video():
    batch = collate([BadVideo("a", "gone"), BadVideo("b", "cut")])
    assert batch.clips is None and batch.labels.shape == (0,) and [video.path for video in batch.bad] == ["a", "b"]


def test_collate_stacks_in_order():
    clips = [torch.full((3, 2, 2), i, dtype=torch.uint8) for i in range(3)]
    batch = collate([(clips[2], 7), BadVideo("a", "gone"), (clips[0], 4)])
    assert batch.clips[:, 0, 0, 0].tolist() == [2, 0] and batch.labels.tolist() == [7, 4]
    assert batch.labels.dtype == torch.long and batch.bad == [BadVideo("a", "gone")]
