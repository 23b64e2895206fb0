"""Augmentation of clips and batches: alike in all frames, within its bounds, with labels that follow."""
import numpy as np
import pytest
import torch
from torch.nn import functional as F
from torchvision import transforms

from ops.backbones import find_backbone
from ops.common.errors import UserError
from ops.data.augment import AUGMENTATIONS, ClipAugment, make_mix, training_transform
from ops.data.clip_transforms import GroupMultiScaleCrop
from ops.data.training_crop import TrainingCrop
from ops.models import TSN
from ops.training.step import consensus_loss
from tests.helpers.programs import assert_refused, make_somethingv2, run


def still(frames=4, size=48):
    """A clip whose frames are equal."""
    image = np.random.default_rng(0).integers(0, 256, (3, 6, 6), dtype=np.uint8)
    return torch.from_numpy(image).repeat_interleave(size // 6, 1).repeat_interleave(size // 6, 2)[None].repeat(
        frames, 1, 1, 1)


# ---- clips ----------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("name", AUGMENTATIONS)
def test_all_frames_are_changed_alike(name):
    """Every operation and strength: a still clip stays still."""
    clip, changed = still(), 0
    for seed in range(80):
        torch.manual_seed(seed)
        result = ClipAugment(name, erasing=0.3)(clip.clone())
        assert type(result) is torch.Tensor and result.dtype == torch.uint8 and result.shape == clip.shape
        assert all(torch.equal(frame, result[0]) for frame in result[1:])
        changed += not torch.equal(result, clip)
    assert changed > 60 if name != "none" else 8 < changed < 45


@pytest.mark.parametrize("name", [name for name in AUGMENTATIONS if name != "none"])
def test_a_seed_draws_one_augmentation(name):
    results = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        results.append(ClipAugment(name)(still()))
    assert torch.equal(results[0], results[1]) and not torch.equal(results[0], results[2])


def test_erasing_fills_one_rectangle_with_the_mean_color():
    clip, fill = torch.full((3, 3, 40, 40), 7, dtype=torch.uint8), (124.0, 116.0, 104.0)
    torch.manual_seed(0)
    erased = 0
    for _ in range(200):
        result = ClipAugment("none", 0.25, fill)(clip.clone())
        gone = (result != clip).all(1)  # (T, H, W)
        assert torch.equal(gone[0], gone[1]) and torch.equal(gone[0], gone[2])
        if gone.any():
            erased += 1
            rows, columns = gone[0].any(1).sum(), gone[0].any(0).sum()
            assert gone[0].sum() == rows * columns  # a rectangle
            assert result[:, :, gone[0]].permute(0, 2, 1).unique(dim=1).flatten().tolist() == list(fill) * 3
    assert 30 < erased < 72


@pytest.mark.parametrize("arch, color", [("resnet18", (123.675, 116.28, 103.53)), ("BNInception", (128, 117, 104))])
def test_normalization_maps_the_mean_color_to_zero(arch, color):
    assert find_backbone(arch).mean_color == pytest.approx(color)


def test_augmentation_comes_after_the_crop_and_before_bgr():
    crop = GroupMultiScaleCrop(32)
    frames = [np.dstack([np.full((40, 40), value, np.uint8) for value in (10, 20, 30)])] * 2
    seen = []
    clip = TrainingCrop(crop, color="BGR", augment=lambda x: seen.append(x.clone()) or x + 1)(frames)
    assert seen[0].shape == (2, 3, 32, 32) and seen[0][0, :, 0, 0].tolist() == [10, 20, 30]
    assert clip[:, 0, 0].tolist() == [31, 21, 11] * 2


def test_transforms_by_modality():
    def made(modality, **options):
        model = TSN(3, 2, modality, "resnet18", pretrain="none", print_spec=False)
        return training_transform(model.get_augmentation(flip=False), modality, **options)
    assert isinstance(made("RGB"), TrainingCrop) and made("RGB").augment is None
    assert isinstance(made("RGBDiff", augment="randaug").augment, ClipAugment)
    assert isinstance(made("Flow"), transforms.Compose)
    with pytest.raises(UserError, match="augment randaug needs color images"):
        made("Flow", augment="randaug")
    with pytest.raises(UserError, match="random_erasing needs color images"):
        made("Flow", erasing=0.5)


# ---- batches --------------------------------------------------------------------------------------------------

def coded(count=4, size=16):
    """Clips of one value each, (N, T*C, H, W), and their labels."""
    return torch.arange(1.0, count + 1).view(-1, 1, 1, 1).expand(count, 6, size, size).clone(), torch.arange(count)


def test_mixup_is_a_weighted_sum_of_clips_and_labels():
    clips, labels = coded()
    torch.manual_seed(0)
    shares = []
    for _ in range(200):
        mixed, soft = make_mix(5, mixup=0.4)(clips.clone(), labels)
        share = float(soft[0, 0])
        shares.append(share)
        before = [3, 0, 1, 2]  # the neighbor in the batch
        wanted = share * clips + (1 - share) * clips[before]
        assert torch.allclose(mixed, wanted, atol=1e-5)
        assert torch.allclose(soft, share * F.one_hot(labels, 5) + (1 - share) * F.one_hot(labels[before], 5), atol=1e-6)
    assert 0.4 < np.mean(shares) < 0.6 and np.std(shares) > 0.3  # Beta(0.4, 0.4): towards the ends


def test_cutmix_is_one_rectangle_of_the_neighbor_and_its_share():
    clips, labels = coded()
    torch.manual_seed(0)
    cut = 0
    for _ in range(100):
        mixed, soft = make_mix(4, cutmix=1.0)(clips.clone(), labels)
        other = mixed != clips
        assert all(torch.equal(other[0, 0], other[n, c]) for n in range(4) for c in range(6))
        rows, columns = other[0, 0].any(1).sum(), other[0, 0].any(0).sum()
        assert other[0, 0].sum() == rows * columns
        assert float(soft[1, 0]) == pytest.approx(float(other[0, 0].float().mean()), abs=1e-6)
        assert torch.equal(mixed[1][other[1]].unique(), torch.tensor([1.0])) or not other.any()
        cut += bool(other.any())
    assert cut > 80


def test_both_take_turns_and_neither_is_nothing():
    assert make_mix(4) is None
    clips, labels = coded()
    torch.manual_seed(0)
    mix = make_mix(4, mixup=0.5, cutmix=1.0)
    whole = sum(len(mix(clips.clone(), labels)[0][0].unique()) == 1 for _ in range(100))
    assert 30 < whole < 75


@pytest.mark.parametrize("shape", [(3, 5), (3, 4, 5)])
def test_the_loss_of_soft_labels_is_the_mean_of_the_losses(shape):
    torch.manual_seed(0)
    output, first, second = torch.randn(shape), torch.tensor([0, 4, 2]), torch.tensor([1, 1, 3])
    share = 0.3
    soft = share * F.one_hot(first, 5) + (1 - share) * F.one_hot(second, 5)
    wanted = share * consensus_loss(output, first) + (1 - share) * consensus_loss(output, second)
    assert float(consensus_loss(output, soft)) == pytest.approx(float(wanted), rel=1e-5)
    assert float(consensus_loss(output, F.one_hot(first, 5).float())) == pytest.approx(
        float(consensus_loss(output, first)), rel=1e-5)


# ---- from the command line ------------------------------------------------------------------------------------

SMALL = ["--arch", "resnet18", "--num_segments", 2, "--pretrain", "none", "--input_size", 32, "-b", 4, "--epochs", 1,
         "--shift", "--device", "cpu", "-j", 0, "--debug"]


def test_a_run_with_everything(tmp_path, monkeypatch, capfd):
    make_somethingv2(tmp_path)
    losses = set()
    for number in range(2):
        out = tmp_path / str(number)
        done = run(monkeypatch, capfd, "main", "somethingv2", "RGB", *SMALL, "--root_dataset", tmp_path, "--root_log",
                   out, "--root_model", out, "--augment", "randaug", "--mixup", 0.2, "--cutmix", 1,
                   "--random_erasing", 0.5)
        assert done.status == 0, done.err
        row = next(out.rglob("log.csv")).read_text().splitlines()[1].split(",")
        losses.add(row[2])
    assert len(losses) == 1 and np.isfinite(float(losses.pop()))  # the same seed: the same draws


@pytest.mark.parametrize("flags, words", [
    (["--augment", "autocrop"], ["--augment 'autocrop'", "randaug, colorjitter or trivialaugment"]),
    (["--mixup", -1], ["--mixup -1.0", "above 0"]), (["--cutmix", "nan"], ["--cutmix nan"]),
    (["--random_erasing", 1.5], ["--random_erasing 1.5", "0 (never) to 1"]), (["--mixup", "a"], ["--mixup", "'a'"]),
    (["--data_format", "avi"], ["--data_format 'avi'", "auto, frames, video or shards"])])
def test_wrong_flags(flags, words, tmp_path, monkeypatch, capfd):
    done = run(monkeypatch, capfd, "main", "somethingv2", "RGB", "--root_dataset", tmp_path, *flags)
    assert_refused(done, *words)
    done = run(monkeypatch, capfd, "tools.show_batch", "somethingv2", "RGB", "--root_dataset", tmp_path, *flags)
    assert_refused(done, *words)
    assert not list(tmp_path.iterdir())


def test_a_new_augmentation_is_one_row(monkeypatch):
    """The example of docs/architecture.md: blur, alike in all frames of a clip."""
    monkeypatch.setitem(AUGMENTATIONS, "blur", lambda transforms: transforms.GaussianBlur(5))
    frames = torch.zeros(3, 3, 17, 17, dtype=torch.uint8)
    frames[:, :, 8, 8] = 255
    torch.manual_seed(0)  # a strong blur
    blurred = ClipAugment("blur")(frames)
    assert 0 < blurred[0, 0, 8, 8] < 255 and blurred[0, 0, 8, 9] > 0
    assert (blurred == blurred[0, 0]).all()
