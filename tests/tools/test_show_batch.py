"""tools/show_batch.py draws the training set's own clips with their labels."""
import numpy as np
import pytest
import torch
from PIL import Image

import opts
from ops.data.batch_pictures import GAP, LINE, BatchPictures
from ops.data.preprocessing import Preprocessing
from ops.dataset_config import resolve_dataset
from ops.models import TSN
from ops.spec import ModelSpec
from ops.training.train_set import training_set
from tests.helpers.programs import assert_refused, make_somethingv2, run

FLAGS = ["somethingv2", "RGB", "--num_segments", 3, "--input_size", 32, "--arch", "resnet18"]


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    directory = tmp_path_factory.mktemp("root")
    make_somethingv2(directory)
    return directory


def show(monkeypatch, capfd, root, out, *flags):
    return run(monkeypatch, capfd, "tools.show_batch", *FLAGS, "--root_dataset", root, "--out", out, *flags)


def clips_of(root, indices):
    """The data set's own clips of epoch 0, (T, H, W, 3) uint8, by training item."""
    args = opts.parse_train([*map(str, FLAGS), "--root_dataset", str(root)])
    data = resolve_dataset("somethingv2", "RGB", args.root_dataset)
    model = TSN.from_spec(ModelSpec(data.num_class, 3, arch="resnet18", input_size=32))
    videos = training_set(model, data)
    return {index: videos[0, index][0].unflatten(0, (3, 3)).permute(0, 2, 3, 1).numpy() for index in indices}


def test_the_image_shows_the_clips_of_the_loader(root, tmp_path, monkeypatch, capfd):
    done = show(monkeypatch, capfd, root, tmp_path / "batch.png", "--clips", 4, "-b", 7)
    assert done.status == 0, done.err
    assert done.err.count("warning: --batch-size has no effect: --clips determines the number of clips") == 1
    assert "4 clips of 3 images of 32x32" in done.out
    sheet = np.asarray(Image.open(tmp_path / "batch.png"))
    assert sheet.shape == (GAP + 4 * (LINE + 32 + GAP), GAP + 3 * (32 + GAP), 3)
    wanted = clips_of(root, range(12))
    for row in range(4):
        top = GAP + row * (LINE + 32 + GAP) + LINE
        tiles = [sheet[top:top + 32, GAP + t * (32 + GAP):][:, :32].astype(int) for t in range(3)]
        assert any(all(np.abs(tile - frame).max() <= 1 for tile, frame in zip(tiles, clip)) for clip in wanted.values())
        assert (sheet[top - LINE:top] < 128).any()  # a label
    assert not [path for path in tmp_path.iterdir() if path.name != "batch.png"]


def test_images_go_below_runs_by_default(root, tmp_path, monkeypatch, capfd):
    """A clone stays clean: git ignores runs/."""
    monkeypatch.chdir(tmp_path)
    done = run(monkeypatch, capfd, "tools.show_batch", *FLAGS, "--root_dataset", root, "--clips", 2)
    assert done.status == 0 and done.out.startswith("runs/show_batch/somethingv2_RGB.png: 2 clips")
    assert [path.name for path in tmp_path.iterdir()] == ["runs"]
    assert Image.open(tmp_path / "runs" / "show_batch" / "somethingv2_RGB.png").format == "PNG"


def test_a_gif_has_one_frame_per_segment(root, tmp_path, monkeypatch, capfd):
    done = show(monkeypatch, capfd, root, tmp_path / "b.gif", "--clips", 5, "--mixup", 0.5)
    assert done.status == 0 and "no effect" not in done.err
    image = Image.open(tmp_path / "b.gif")
    assert image.n_frames == 3 and image.size == (GAP + 4 * (32 + GAP), GAP + 2 * (LINE + 32 + GAP))


@pytest.mark.parametrize("arch", ["resnet18", "BNInception"])
@pytest.mark.parametrize("modality, per_segment, channels", [("RGB", 1, 3), ("Flow", 2, 10), ("RGBDiff", 1, 18)])
def test_normalization_is_undone(modality, per_segment, channels, arch):
    model = TSN(4, 2, modality, arch, pretrain="none", input_size=32, print_spec=False)
    clip = torch.randint(0, 256, (1, 2 * channels, 32, 32), dtype=torch.uint8)
    prepared = model.preprocessing.apply(clip)[0]
    images = BatchPictures(model.preprocessing, 2, modality).images(prepared)
    assert len(images) == 2 * per_segment
    first = clip[0, channels:channels + (1 if modality == "Flow" else 3)]  # of the second segment
    shown = np.atleast_3d(np.asarray(images[per_segment])).transpose(2, 0, 1)
    assert np.array_equal(shown, first.flip(0) if arch == "BNInception" and modality != "Flow" else first)


def test_mixed_labels_show_their_shares():
    preprocessing = Preprocessing((0.5,), (0.5,))
    named = BatchPictures(preprocessing, 2, class_names=["Left", "Right", "Up"])
    assert named.text(torch.tensor([0.0, 1.0, 0.0])) == named.text(torch.tensor(1)) == "Right"
    assert named.text(torch.tensor([0.25, 0.0, 0.75])) == "0.75 Up + 0.25 Left"
    assert BatchPictures(preprocessing, 2).text(torch.tensor([0.0, 0.0, 1.0])) == "class 2"


def test_wrong_arguments_are_a_one_line_error(root, tmp_path, monkeypatch, capfd):
    assert_refused(show(monkeypatch, capfd, root, tmp_path / "b.jpg"), "b.jpg", ".png or .gif")
    assert_refused(show(monkeypatch, capfd, root, tmp_path / "b.png", "--clips", 0), "--clips 0")
    assert_refused(show(monkeypatch, capfd, root, tmp_path / "no" / "\0.png"), "cannot write")
    assert_refused(run(monkeypatch, capfd, "tools.show_batch", "nothing", "RGB"), "unknown data set 'nothing'")
    assert not list(tmp_path.rglob("*.png"))
