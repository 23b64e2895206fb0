"""Views: clips of the same item for other networks, of the same frames or region where their own size allows it."""
import numpy as np
import pytest
import torch
from PIL import Image

from ops.data.loader import make_loader, set_epoch
from ops.data.tsn_dataset import BadVideo, TSNDataSet, collate
from ops.dataset_config import DATASETS, DatasetPaths
from ops.models import TSN
from ops.spec import ModelSpec
from ops.training.train_set import training_set
from tests.helpers.datasets import write_flow

FRAMES, WIDTH, HEIGHT = 40, 120, 90


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """A video whose pixels tell where they are: red from left to right, green from top to bottom, blue by frame."""
    root = tmp_path_factory.mktemp("views")
    (root / "video").mkdir()
    red, green = np.meshgrid(np.linspace(0, 255, WIDTH), np.linspace(0, 255, HEIGHT))
    for i in range(1, FRAMES + 1):
        image = np.stack([red, green, np.full_like(red, 6 * i)], axis=2).astype(np.uint8)
        Image.fromarray(image).save(root / "video" / f"{i:05d}.png")
    (root / "list.txt").write_text(f"video {FRAMES} 0\n" * 3)
    return DatasetPaths("mine", 2, ["swiping left", "swiping right"], root / "list.txt", root / "list.txt", root,
                        "{:05d}.png", DATASETS["jester"])


def network(segments=4, size=32, **changes):
    with torch.device("meta"):
        return TSN.from_spec(ModelSpec(2, segments, **{"arch": "resnet18", "input_size": size, **changes}))


def frames(clip, segments, channels=3):
    return clip.view(segments, channels, *clip.shape[-2:]).float()


def ramp(clip, segments, color, axis):
    """The color at both edges of a clip, along an axis, and the middle one."""
    line = frames(clip, segments)[:, color].mean(dim=(0, 1 if axis == "x" else 2))
    return np.interp([0.0, 0.5, 1.0], (np.arange(len(line)) + 0.5) / len(line), line.numpy())


KEYS = [(epoch, index) for epoch in range(8) for index in range(3)]


@pytest.mark.parametrize("options", [{}, {"dense_sample": True}, {"augment": "colorjitter", "random_erasing": 0.5}], ids=str)
def test_the_items_own_clip_is_the_same_with_and_without_views(options, data):
    plain, watched = (training_set(network(), data, seed=3, views_for=others, **options)
                      for others in ([], [network(8, 64), network(3, 48)]))
    for key in KEYS:
        (clip, label), (same, own, views) = plain[key], watched[key]
        assert torch.equal(clip, same) and label == own
        assert [tuple(view.shape) for view in views] == [(24, 64, 64), (9, 48, 48)]
    drawn = []
    for videos in (plain, watched):  # an item without a key draws from the global generator, and leaves it in one state
        torch.manual_seed(5)
        drawn += [videos[0][0], torch.rand(1)]
    assert torch.equal(drawn[0], drawn[2]) and torch.equal(drawn[1], drawn[3])


@pytest.mark.parametrize("options", [{}, {"dense_sample": True}, {"augment": "randaug", "random_erasing": 0.5}], ids=str)
def test_a_network_of_the_same_form_sees_the_same_clip(options, data):
    videos = training_set(network(), data, seed=3, views_for=[network(arch="mobilenetv2")], **options)
    for key in KEYS:
        clip, _, (view,) = videos[key]
        assert torch.equal(clip, view)


@pytest.mark.parametrize("size", [32, 60, 96])
def test_a_view_shows_the_same_region_mirrored_alike_in_its_own_size(size, data):
    videos = training_set(network(4, 48), data, seed=1, views_for=[network(8, size)])
    mirrored = set()
    for key in KEYS:
        clip, label, (view,) = videos[key]
        for color, axis in ((0, "x"), (1, "y")):
            own, other = ramp(clip, 4, color, axis), ramp(view, 8, color, axis)
            assert np.allclose(own, other, atol=6), (key, own, other)
            if axis == "x":
                assert (own[0] > own[2]) == (label == 1)
        mirrored.add(label)
    assert mirrored == {0, 1}


@pytest.mark.parametrize("workers", [0, 1])
def test_a_pass_without_views_has_the_same_clips(workers, data):
    """The worker process lives from pass to pass, with its own copy of the data set."""
    videos = training_set(network(), data, seed=3, views_for=[network(8, 64)])
    loader = make_loader(videos, 3, workers=workers, train=True, seed=3)
    passes = []
    for views in (True, False, True):
        set_epoch(loader, 2, views=views)
        passes += loader
    assert [len(batch.views) for batch in passes] == [1, 0, 1]
    for batch in passes[1:]:
        assert torch.equal(batch.clips, passes[0].clips) and torch.equal(batch.labels, passes[0].labels)


def test_a_views_own_size_does_not_change_the_region(data):
    """A draw for 60 pixels would make the side of 59 pixels, 0.66 of 90, one of 60."""
    videos = training_set(network(4, 48), data, views_for=[network(4, 60)])
    drawn = {}
    for name, transform in (("own", videos.transform), ("view", videos.views[0].transform)):
        torch.manual_seed(0)
        drawn[name] = [transform.crop.sample((WIDTH, HEIGHT)) for _ in range(30)]
    assert drawn["own"] == drawn["view"] and 59 in {width for width, *_ in drawn["own"]}


def test_a_view_has_its_own_number_of_frames_from_the_whole_video(data):
    videos = training_set(network(4), data, views_for=[network(8)])
    for key in KEYS:
        clip, _, (view,) = videos[key]
        own, other = (frames(part, t)[:, 2].mean(dim=(1, 2)) / 6 for part, t in ((clip, 4), (view, 8)))
        for numbers, t in ((own, 4), (other, 8)):
            assert [int((round(float(number)) - 1) * t / FRAMES) for number in numbers] == list(range(t))


def test_a_dense_view_begins_with_the_same_frame(data):
    videos = training_set(network(4), data, dense_sample=True, views_for=[network(8)])
    for key in KEYS:
        clip, _, (view,) = videos[key]
        own, other = (frames(part, t)[:, 2].mean(dim=(1, 2)) for part, t in ((clip, 4), (view, 8)))
        assert torch.allclose(own, other[::2], atol=1)


def test_the_colors_of_a_view_are_in_its_networks_order(data):
    videos = training_set(network(), data, views_for=[network(arch="BNInception")])
    clip, _, (view,) = videos[0, 0]
    assert torch.equal(frames(clip, 4), frames(view, 4).flip(1))


def test_flow_has_views_too(tmp_path):
    """An image of x and one of y for each of the five frames of a segment; mirrored flow changes its sign along x."""
    write_flow(tmp_path, "flow_{}_{:05d}.jpg", frames=9)
    (tmp_path / "list.txt").write_text("12 9 0\n")
    videos = tmp_path / "list.txt"
    paths = DatasetPaths("mine", 2, ["swiping left", "swiping right"], videos, videos, tmp_path, "flow_{}_{:05d}.jpg",
                         DATASETS["jester"])
    flow = {"modality": "Flow"}
    videos = training_set(network(2, 32, **flow), paths, views_for=[network(2, 32, **flow), network(3, 40, **flow)])
    plain = TSNDataSet(tmp_path, paths.train_list, 2, 5, "Flow", paths.template, videos.transform, mirror_labels=[1, 0])
    for key in KEYS:
        key = (key[0], 0)
        clip, label, (same, other) = videos[key]
        assert torch.equal(clip, same) and torch.equal(clip, plain[key][0])
        own, theirs = (part.view(t, 10, -1).float().mean(dim=2) for part, t in ((clip, 2), (other, 3)))
        rising = [float(flow[0, 8] - flow[0, 0]) for flow in (own, theirs)]  # x of the fifth and of the first frame
        assert rising[0] == pytest.approx(rising[1], abs=2) and abs(rising[0]) > 20


def test_a_batch_has_the_views_of_its_readable_clips(data):
    videos = training_set(network(), data, views_for=[network(8, 48), network(2, 64)])
    batch, = make_loader(videos, 3, workers=2, train=True)
    assert [tuple(part.shape) for part in (batch.clips, *batch.views)] == [(3, 12, 32, 32), (3, 24, 48, 48), (3, 6, 64, 64)]
    batch = collate([BadVideo("a", "b"), videos[0, 0]])
    assert len(batch.bad) == 1 and [len(view) for view in batch.views] == [1, 1]
    assert collate([BadVideo("a", "b")]).views == []
