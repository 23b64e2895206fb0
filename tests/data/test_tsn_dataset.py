"""TSNDataSet: samples, optical flow, random draws that can be repeated, unreadable videos."""
import numpy as np
import pytest
import torch
from PIL import Image
from torchvision import transforms

from ops.data import sampling
from ops.data.clip_transforms import GroupMultiScaleCrop, ToClipTensor
from ops.data.tsn_dataset import BadVideo, TSNDataSet, collate
from tests.helpers.datasets import FLOW_TEMPLATES, TEMPLATE, VIDEOS, dataset, grays, refused, write_flow


def test_samples_are_the_samplers_frames(videos):
    data = dataset(videos, random_shift=False)
    assert len(data) == 4
    for i, frames in enumerate(VIDEOS.values()):
        clip, label = data[i]
        assert label == i
        assert grays(clip) == pytest.approx([20 * i + 5 * (k - 1) for k in sampling.sample_test(frames, 3)], abs=1)


def test_protocols_use_the_samplers_frames(videos):
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
def test_segments_are_neighboring_frames_and_the_last_one_repeats(modality, length, videos):
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


def test_missing_frame_is_named(videos, tmp_path):
    (tmp_path / "list.txt").write_text("sub directory/clip 7 90 0\n")
    data = TSNDataSet(videos, tmp_path / "list.txt", 3, image_tmpl=TEMPLATE, random_shift=False)
    with refused("missing frame", videos / "sub directory/clip 7" / "00016.jpg", "train with skip_bad"):
        data[0]


def test_impossible_options_are_refused(videos):
    with refused("num_segments 0: choose 1 or more"):
        dataset(videos, num_segments=0)
    with refused("dense_sample and twice_sample exclude each other"):
        dataset(videos, dense_sample=True, twice_sample=True)
    with refused("list.txt:4: ", "label 3 is outside the classes 0 to 2"):
        dataset(videos, num_class=3)


# ---- optical flow ---------------------------------------------------------------------------------------------

@pytest.mark.parametrize("template, listed", [*zip(FLOW_TEMPLATES, (4, 8, 4))])  # the second one's lists count files
def test_flow_clips(template, listed, tmp_path):
    write_flow(tmp_path, template)
    (tmp_path / "list.txt").write_text(f"12 {listed} 1\n")
    data = TSNDataSet(tmp_path, tmp_path / "list.txt", 2, 3, "Flow", template, random_shift=False)
    clip, label = data[0]
    assert sampling.sample_test(4, 2, 3) == [1, 2] and label == 1
    wanted = [value for i in (1, 2, 3, 2, 3, 4) for value in (10 * i, 100 + 10 * i)]
    assert grays(clip) == pytest.approx(wanted, abs=2)


def test_a_flow_list_that_counts_a_single_file(tmp_path):
    (tmp_path / "list.txt").write_text("12 1 0\n")
    for dense in (False, True):
        with refused("list.txt: '12' has 1 file", "x and y files"):
            TSNDataSet(tmp_path, tmp_path / "list.txt", 2, 1, "Flow", FLOW_TEMPLATES[1], dense_sample=dense)[0]


# ---- random draws ---------------------------------------------------------------------------------------------

AUGMENT = transforms.Compose([GroupMultiScaleCrop(16, fix_crop=False), ToClipTensor()])


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


def test_items_of_an_epoch_draw_independently(tmp_path):
    """Two copies of one video give different crops: neighbors have unrelated random draws."""
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


# ---- unreadable videos ----------------------------------------------------------------------------------------

def test_skip_bad_names_the_video_and_the_reason(damaged):
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


def test_collate_without_a_good_video():
    batch = collate([BadVideo("a", "gone"), BadVideo("b", "cut")])
    assert batch.clips is None and batch.labels.shape == (0,) and [video.path for video in batch.bad] == ["a", "b"]


def test_collate_stacks_in_order():
    clips = [torch.full((3, 2, 2), i, dtype=torch.uint8) for i in range(3)]
    batch = collate([(clips[2], 7), BadVideo("a", "gone"), (clips[0], 4)])
    assert batch.clips[:, 0, 0, 0].tolist() == [2, 0] and batch.labels.tolist() == [7, 4]
    assert batch.labels.dtype == torch.long and batch.bad == [BadVideo("a", "gone")]
