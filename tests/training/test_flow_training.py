"""Flow and RGBDiff from frames to scores: extracting flow, training, fine-tuning from RGB, testing, RGB + Flow."""
import json

import numpy as np
import pytest
import torch

from ops.checkpoints.checkpoint import load_checkpoint
from ops.common.errors import UserError
from ops.data.clip_transforms import ToClipTensor
from ops.data.tsn_dataset import TSNDataSet
from ops.dataset_config import mirror_labels, resolve_dataset
from ops.prepare.extract_flow import extract_flow_directory, write_flow_list
from tests.helpers.members import member
from tests.helpers.programs import run
from tests.prepare.test_extract_flow import moving, write_frames

CLASSES = ["Pushing left", "Pushing right", "Lifting", "Dropping"]
MOTIONS = [(-4, 0), (4, 0), (0, -4), (0, 4)]
LAYOUTS = {"something": "something_v1", "somethingv2": "rgb", "jester": "ucf"}  # the three layouts of the published loader
TEMPLATES = {"something": "{:05d}.jpg", "somethingv2": "{:06d}.jpg", "jester": "{:05d}.jpg"}
SOMETHING = {"dataset": "something", "class_names": CLASSES, "num_segments": 4, "shift": True}
FIRST = "base_model.conv1.weight"
SMALL = ["--arch", "resnet18", "--num_segments", 2, "--input_size", 32, "-b", 3, "--epochs", 1, "--debug", "-j", 0,
         "--lr", 0.01, "--gd", 20, "--shift", "--device", "cpu"]


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """Three data sets in their published places: moving textures, lists, and flow extracted from the textures."""
    root = tmp_path_factory.mktemp("data")
    images = [moving(7 + i % 3, *MOTIONS[i % 4], seed=i, size=(40, 56)) for i in range(10)]
    for dataset, layout in LAYOUTS.items():
        rgb, flow = resolve_dataset(dataset, "RGB", str(root)), resolve_dataset(dataset, "Flow", str(root))
        for i, frames in enumerate(images, 1):
            write_frames(rgb.frames / str(i), frames, TEMPLATES[dataset])
        rows = [f"{i} {len(frames)} {(i - 1) % 4}\n" for i, frames in enumerate(images, 1)]
        (root / rgb.entry.categories).write_text("\n".join(CLASSES))
        rgb.train_list.write_text("".join(rows[:6]))
        rgb.val_list.write_text("".join(rows[6:]))
        summary = extract_flow_directory(rgb.frames, flow.frames, frames=True, workers=1, layout=layout, height=0)
        assert summary.failures == []
        for rgb_list, flow_list in ((rgb.train_list, flow.train_list), (rgb.val_list, flow.val_list)):
            assert write_flow_list(rgb_list, flow_list, flow=flow.frames, layout=layout) == []
    return root


@pytest.fixture
def train(root, tmp_path, monkeypatch, capfd):
    """train(dataset, modality, *flags) -> (the finished run, its checkpoint)."""
    def start(dataset, modality, *flags):
        models = tmp_path / f"models {len(list(tmp_path.iterdir()))}"
        done = run(monkeypatch, capfd, "main", dataset, modality, *SMALL, "--root_dataset", root, "--root_log",
                   models / "log", "--root_model", models, *flags)
        assert done.status == 0, done.err
        file, = models.glob(f"TSM_{dataset}_{modality}_*/ckpt.pth.tar")
        return done, file
    return start


@pytest.fixture
def score(root, tmp_path, monkeypatch, capfd):
    """score(dataset, weights, *flags) -> (scores (N, classes), results, the last two lines)."""
    def start(dataset, weights, *flags):
        out = tmp_path / "report"
        done = run(monkeypatch, capfd, "test_models", dataset, "--weights", weights, "--root_dataset", root, "-j", 0,
                   "--batch_size", 3, "--device", "cpu", "--out", out, *flags)
        assert done.status == 0, done.err
        return np.load(out / "scores.npy"), json.loads((out / "results.json").read_text()), done.out.splitlines()[-2:]
    return start


@pytest.mark.parametrize("dataset", LAYOUTS)
def test_each_published_layout_trains_and_is_scored(dataset, train, score, root):
    done, file = train(dataset, "Flow", "--pretrain", "none")
    assert "training videos: 6" in done.err and "mirrored training clips: left and right classes swap" in done.err
    found = load_checkpoint(file)
    assert (found.spec.modality, found.weights[FIRST].shape[1]) == ("Flow", 10)
    scores, result, last = score(dataset, file)
    assert scores.shape == (4, 4) and np.isfinite(scores).all() and scores.std(0).max() > 0
    assert last == [f"Class Accuracy {result['class_accuracy']:.2f}%",
                    f"Overall Prec@1 {result['top1']:.2f}% Prec@5 100.00%"]


def test_the_three_layouts_give_the_network_the_same_clips(root):
    """Lists that count files and lists that count pairs of files must lead to the same frames."""
    clips = {}
    for dataset in LAYOUTS:
        data = resolve_dataset(dataset, "Flow", str(root))
        videos = TSNDataSet(data.frames, data.val_list, 3, 5, "Flow", data.template, ToClipTensor(),
                            random_shift=False)
        clips[dataset] = torch.stack([videos[i][0] for i in range(4)]).float()
    assert clips["jester"].shape == (4, 30, 40, 56)
    for dataset in LAYOUTS:
        assert (clips[dataset] - clips["jester"]).abs().mean() < 2, dataset  # what JPEG loses
    pushed_right = clips["jester"][3, :, 10:30, 14:42].median(dim=-1).values.median(dim=-1).values  # video 10
    assert pushed_right[::2].tolist() == pytest.approx([127.5 * (1 + 4 / 20)] * 15, abs=3)
    assert pushed_right[1::2].tolist() == pytest.approx([127.5] * 15, abs=3)


def test_mirrored_flow_is_reversed_and_has_the_mirrored_label(root):
    data = resolve_dataset("something", "Flow", str(root))
    options = dict(new_length=5, modality="Flow", image_tmpl=data.template, random_shift=False)
    plain = TSNDataSet(data.frames, data.train_list, 2, transform=ToClipTensor(), **options)
    turned = TSNDataSet(data.frames, data.train_list, 2, transform=ToClipTensor(), mirror_labels=mirror_labels(data),
                        **options)
    tosses = []
    for epoch in range(6):
        for index in range(6):
            (clip, label), (other, other_label) = plain[epoch, index], turned[epoch, index]
            mirrored = clip.flip(2)
            mirrored[::2] = 255 - mirrored[::2]
            tosses.append(other_label != label if label < 2 else torch.equal(other, mirrored))
            assert torch.equal(other, mirrored if tosses[-1] else clip)
            assert other_label == ([1, 0, 2, 3][label] if tosses[-1] else label)
    assert 8 < sum(tosses) < 28


def test_rgb_weights_start_flow_and_rgbdiff(train, score):
    _, rgb = train("something", "RGB", "--pretrain", "none")
    before = load_checkpoint(rgb).weights
    for modality, channels in (("Flow", 10), ("RGBDiff", 15)):
        done, file = train("something", modality, "--tune_from", rgb, "--lr", 1e-30)  # steps too small to change a weight
        assert f"first layer: RGB weights widened to {channels} channels" in done.err
        assert "the classifier is kept" in done.err
        after = load_checkpoint(file).weights
        torch.testing.assert_close(after[FIRST], before[FIRST].mean(1, keepdim=True).expand(-1, channels, -1, -1))
        assert all(torch.equal(value, before[key]) for key, value in after.items()
                   if key.endswith("weight") and key != FIRST)
        scores, result, _ = score("something", file)
        assert scores.shape == (4, 4) and scores.std(0).max() > 0 and result["segments"] == [2]
    again, tuned = train("something", "RGBDiff", "--tune_from", file)
    assert "widened" not in again.err and not torch.equal(load_checkpoint(tuned).weights[FIRST], after[FIRST])


def test_rgb_and_flow_are_scored_together_each_with_its_own_settings(tmp_path, score):
    """Each member has its own frames per clip, network, shift place, input channels, lists and frame directories."""
    rgb = member(tmp_path / "rgb.pth", **SOMETHING)
    flow = member(tmp_path / "flow.pth", **SOMETHING, modality="Flow", arch="resnet34", shift_place="block")
    first, _, _ = score("something", rgb, "--test_segments", 3, "--test_crops", 3)
    second, _, _ = score("something", flow, "--test_segments", 2, "--test_crops", 3)
    both, result, last = score("something", f"{rgb},{flow}", "--test_segments", "3,2", "--coeff", "1,1.5",
                               "--test_crops", 3)
    assert min(first.std(0).max(), second.std(0).max()) > 1e-3
    np.testing.assert_allclose(both, (first + 1.5 * second) / 2, atol=1e-5)
    assert result["segments"] == [3, 2] and f"Prec@1 {result['top1']:.2f}%" in last[1]
    assert result["top1"] == pytest.approx(100 * np.mean(both.argmax(1) == [2, 3, 0, 1]))


def test_a_list_that_counts_x_and_y_files_cannot_hold_one_file(tmp_path):
    (tmp_path / "list.txt").write_text("a 2 0\nb 1 0\n")
    with pytest.raises(UserError, match="'b' has 1 file, but flow lists of this data set count x and y files"):
        TSNDataSet(tmp_path, tmp_path / "list.txt", 1, 5, "Flow", "{:06d}-{}_{:05d}.jpg")
