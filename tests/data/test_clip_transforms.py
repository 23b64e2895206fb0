"""Clip transforms against PIL and NumPy by hand. The pixels of `chart` frames show their original position."""
from collections import Counter

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torchvision import transforms

from ops.data.clip_transforms import (
    GroupCenterCrop,
    GroupFullResSample,
    GroupMultiScaleCrop,
    GroupNormalize,
    GroupOverSample,
    GroupRandomCrop,
    GroupRandomHorizontalFlip,
    GroupRandomSizedCrop,
    GroupScale,
    IdentityTransform,
    Stack,
    ToClipTensor,
    ToTorchFormatTensor,
)
from ops.data.preprocessing import Preprocessing
from tests.helpers.crops import chart, check_crops, pixels

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def noise(width, height, frames=3, mode="RGB", seed=0):
    rng = np.random.default_rng(seed)
    shape = (height, width, 3) if mode == "RGB" else (height, width)
    return [Image.fromarray(rng.integers(0, 256, shape, dtype=np.uint8)) for _ in range(frames)]


def corner(frame):
    """Of a chart's crop: (left, top, frame)."""
    return tuple(int(value) for value in np.asarray(frame)[0, 0])


def is_crop(frame, source, left, top, width, height):
    return np.array_equal(np.asarray(frame), np.asarray(source)[top:top + height, left:left + width])


# ---- scaling and cropping -------------------------------------------------------------------------------------

@pytest.mark.parametrize("size, goal, wanted", [
    ((340, 256), 256, (340, 256)),
    ((320, 240), 256, (341, 256)),
    ((240, 320), 256, (256, 341)),
    ((100, 75), 32, (42, 32)),
    ((50, 50), 64, (64, 64)),
])
def test_scale_is_pil_bilinear_on_the_shorter_side(size, goal, wanted):
    clip = noise(*size)
    scaled = GroupScale(goal)(clip)
    assert [frame.size for frame in scaled] == [wanted] * 3
    assert pixels(scaled) == pixels([frame.resize(wanted, Image.Resampling.BILINEAR) for frame in clip])


@pytest.mark.parametrize("size, crop, left, top", [
    ((12, 10), 8, 2, 1),
    ((11, 9), 8, 2, 0),  # halves round to even
    ((8, 8), 8, 0, 0),
    ((13, 8), (4, 5), 4, 2),
])
def test_center_crop(size, crop, left, top):
    clip = chart(*size)
    height, width = crop if isinstance(crop, tuple) else (crop, crop)
    for frame, source in zip(GroupCenterCrop(crop)(clip), clip):
        assert is_crop(frame, source, left, top, width, height)


def test_random_crop_goes_everywhere_and_is_one_for_the_clip():
    clip, places = chart(9, 6), Counter()
    torch.manual_seed(0)
    for _ in range(600):
        cropped = GroupRandomCrop((4, 5))(clip)
        left, top, _ = corner(cropped[0])
        assert all(is_crop(frame, source, left, top, 5, 4) for frame, source in zip(cropped, clip))
        places[left, top] += 1
    assert set(places) == {(x, y) for x in range(5) for y in range(3)}
    assert min(places.values()) > 15  # 40 expected


@pytest.mark.parametrize("transform, wanted", [
    (GroupScale((30, 20)), (20, 30)),  # (height, width), as torchvision
    (GroupCenterCrop((30, 20)), (20, 30)),
    (GroupRandomCrop((30, 20)), (20, 30)),
    (GroupMultiScaleCrop((30, 20)), (30, 20)),  # (width, height), as PIL
    (GroupOverSample((30, 20)), (30, 20)),
    (GroupFullResSample((30, 20)), (30, 20)),
    (GroupOverSample((30, 20), scale_size=(25, 50)), (30, 20)),
])
def test_pairs_have_the_published_order(transform, wanted):
    """The published classes disagree: torchvision's order in some, PIL's in others."""
    assert {frame.size for frame in transform(noise(64, 48))} == {wanted}


def test_random_sized_crop_is_one_for_the_clip():
    clip = [chart(80, 60)[0]] * 3
    torch.manual_seed(0)
    results = [GroupRandomSizedCrop(16)(clip) for _ in range(5)]
    for cropped in results:
        assert [frame.size for frame in cropped] == [(16, 16)] * 3
        assert pixels(cropped[1:]) == pixels(cropped[:1] * 2)
    assert len({str(pixels(cropped[:1])) for cropped in results}) == 5


def test_random_sized_crop_is_torchvisions():
    clip = noise(80, 60)
    torch.manual_seed(1)
    ours = GroupRandomSizedCrop(16)(clip)
    torch.manual_seed(1)
    box = transforms.RandomResizedCrop.get_params(clip[0], [0.08, 1.0], [3 / 4, 4 / 3])
    top, left, height, width = box
    wanted = [frame.crop((left, top, left + width, top + height)).resize((16, 16), Image.Resampling.BILINEAR)
              for frame in clip]
    assert pixels(ours) == pixels(wanted)


def test_identity():
    clip = noise(4, 4)
    assert IdentityTransform()(clip) is clip


# ---- mirroring ------------------------------------------------------------------------------------------------

def test_flip_is_one_toss_for_the_clip():
    clip = chart(5, 4, frames=3)
    mirrored = pixels(np.asarray(frame)[:, ::-1] for frame in clip)
    torch.manual_seed(0)
    results = [pixels(GroupRandomHorizontalFlip()(clip)) for _ in range(200)]
    assert all(result in (mirrored, pixels(clip)) for result in results)
    assert 70 < results.count(mirrored) < 130


def test_flip_of_flow_inverts_motion_along_x():
    clip = noise(5, 4, frames=4, mode="L")
    mirrored = [np.asarray(frame)[:, ::-1] for frame in clip]
    inverted = pixels(255 - frame if i % 2 == 0 else frame for i, frame in enumerate(mirrored))
    for results in ([pixels(GroupRandomHorizontalFlip(is_flow=True)(clip)) for _ in range(40)],
                    [pixels(GroupRandomHorizontalFlip()(clip, is_flow=True)) for _ in range(40)]):
        assert all(result in (inverted, pixels(clip)) for result in results)
        assert inverted in results and pixels(clip) in results


# ---- the training crop ----------------------------------------------------------------------------------------

def test_multi_scale_sizes_and_positions_by_hand():
    crop = GroupMultiScaleCrop(224, [1, .875, .75, .66])
    assert crop.crop_sizes((340, 256)) == [
        (256, 256), (224, 256), (256, 224), (224, 224), (192, 224), (224, 192), (192, 192), (168, 192),
        (192, 168), (168, 168)]
    corners = [(0, 0), (116, 0), (0, 32), (116, 32), (58, 16)]
    assert crop.fill_fix_offset(False, 340, 256, 224, 224) == corners
    assert sorted(crop.fill_fix_offset(True, 340, 256, 224, 224)) == sorted(corners + [
        (0, 16), (116, 16), (58, 32), (58, 0), (29, 8), (87, 8), (29, 24), (87, 24)])


def test_multi_scale_sides_near_the_input_become_equal_to_it():
    sizes = GroupMultiScaleCrop(224, [1, .875]).crop_sizes((400, 226))
    assert set(sizes) == {(224, 224), (197, 224), (224, 197), (197, 197)}
    assert (226, 226) not in sizes
    assert set(GroupMultiScaleCrop(224, [1]).crop_sizes((400, 227))) == {(227, 227)}
    assert set(GroupMultiScaleCrop(224, [1]).crop_sizes((400, 222))) == {(224, 222)}  # the image ends there
    assert set(GroupMultiScaleCrop(224, [1]).crop_sizes((222, 400))) == {(222, 224)}


@settings(max_examples=150, deadline=None)
@given(st.integers(1, 500), st.integers(1, 500), st.one_of(st.integers(1, 300), st.sampled_from(["near"])),
       st.integers(-3, 3), st.booleans(), st.booleans(), st.integers(0, 2), st.integers(0, 10 ** 6))
def test_multi_scale_crops_stay_within_the_image(width, height, input_size, step, fix, more, distort, seed):
    if input_size == "near":
        input_size = max(min(width, height) + step, 1)
    crop = GroupMultiScaleCrop(input_size, max_distort=distort, fix_crop=fix, more_fix_crop=more)
    torch.manual_seed(seed)
    for _ in range(10):
        w, h, left, top = crop.sample((width, height))
        assert 1 <= w and 1 <= h
        assert 0 <= left <= width - w and 0 <= top <= height - h


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 60), st.integers(1, 60), st.integers(1, 40), st.integers(0, 10 ** 6))
def test_multi_scale_crop_is_pils_crop_and_resize_of_every_frame(width, height, input_size, seed):
    clip, crop = noise(width, height), GroupMultiScaleCrop(input_size)
    torch.manual_seed(seed)
    w, h, left, top = crop.sample((width, height))
    torch.manual_seed(seed)
    wanted = [frame.crop((left, top, left + w, top + h)).resize((input_size,) * 2, Image.Resampling.BILINEAR)
              for frame in clip]
    assert pixels(crop(clip)) == pixels(wanted)


def test_multi_scale_crop_to_a_rectangle():
    crop = GroupMultiScaleCrop((30, 20), [1])
    assert crop(noise(64, 48))[0].size == (30, 20)
    assert crop.crop_sizes((64, 21)) == [(21, 20)]


@pytest.mark.parametrize("more, places", [(False, 5), (True, 13)])
def test_multi_scale_draws_every_size_and_position_equally_often(more, places):
    crop = GroupMultiScaleCrop(224, [1, .875, .75, .66], more_fix_crop=more)
    torch.manual_seed(0)
    draws = [crop.sample((340, 257)) for _ in range(50 * 10 * places)]
    # The places of a crop as high as the image coincide in part, so two of the ten sizes are left out.
    found = Counter(draw for draw in draws if draw[1] < 257)
    sizes = Counter()
    for (w, h, _, _), count in found.items():
        sizes[w, h] += count
    assert len(sizes) == 8 and len(found) == 8 * places
    mean = sum(found.values()) / len(found)
    chi_square = sum((count - mean) ** 2 / mean for count in found.values())
    assert abs(chi_square - len(found)) < 5 * (2 * len(found)) ** 0.5
    assert max(sizes.values()) < 1.3 * min(sizes.values())


def test_multi_scale_without_fixed_positions_goes_everywhere():
    crop = GroupMultiScaleCrop(8, [1], fix_crop=False)
    torch.manual_seed(0)
    assert {crop.sample((11, 8))[2:] for _ in range(200)} == {(x, 0) for x in range(4)}


def test_augmentation_draws_from_torchs_generator_alone():
    clip = noise(60, 50)
    steps = transforms.Compose([GroupMultiScaleCrop(32), GroupRandomHorizontalFlip()])
    results = []
    for seed in (1, 1, 2):
        np.random.seed(len(results))
        torch.manual_seed(seed)
        results.append(pixels(steps(clip)))
    assert results[0] == results[1] != results[2]


# ---- the test crops -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("flip", [False, True])
@pytest.mark.parametrize("size, places", [
    ((20, 16), [(0, 0), (8, 0), (0, 4), (8, 4), (4, 2)]),
    ((23, 15), [(0, 0), (8, 0), (0, 0), (8, 0), (4, 0)]),  # fourths of 11 and 3, rounded down
])
def test_five_or_ten_crops(size, places, flip):
    clip = chart(*size)
    check_crops(GroupOverSample(12, flip=flip)(clip), places, clip, 12, flip)


@pytest.mark.parametrize("flip", [False, True])
@pytest.mark.parametrize("size, crop, places", [
    ((20, 12), 12, [(0, 0), (8, 0), (4, 0)]),
    ((12, 21), 12, [(0, 4), (0, 4), (0, 4)]),
    ((21, 18), 12, [(0, 2), (8, 2), (4, 2)]),
])
def test_three_or_six_crops(size, crop, places, flip):
    clip = chart(*size)
    check_crops(GroupFullResSample(crop, flip=flip)(clip), places, clip, crop, flip)


@pytest.mark.parametrize("kind", [GroupOverSample, GroupFullResSample])
def test_crops_scale_first(kind):
    clip = noise(40, 30)
    scaled = [frame.resize((26, 20), Image.Resampling.BILINEAR) for frame in clip]
    assert pixels(kind(16, 20)(clip)) == pixels(kind(16)(scaled))
    assert pixels(kind(16, 20)(clip)) != pixels(kind(16)(clip))


def test_mirrored_crops_of_flow_are_inverted_along_x():
    clip = noise(12, 12, frames=4, mode="L")
    crops = GroupFullResSample(12, flip=True)(clip)
    wanted = [np.asarray(frame)[:, ::-1] for frame in clip]
    wanted[0], wanted[2] = 255 - wanted[0], 255 - wanted[2]
    assert pixels(crops[4:8]) == pixels(wanted)
    assert pixels(crops[:4]) == pixels(clip)


# ---- to tensors -----------------------------------------------------------------------------------------------

@pytest.mark.parametrize("mode, channels", [("RGB", 3), ("L", 1)])
def test_stack_puts_frames_side_by_side(mode, channels):
    clip = noise(5, 4, mode=mode)
    stacked = Stack()(clip)
    assert stacked.shape == (4, 5, 3 * channels) and stacked.dtype == np.uint8
    for i, frame in enumerate(clip):
        assert np.array_equal(stacked[..., i * channels:(i + 1) * channels],
                              np.asarray(frame).reshape(4, 5, channels))


def test_roll_is_bgr():
    red = [Image.new("RGB", (2, 2), (200, 100, 50))] * 2
    assert Stack(roll=True)(red)[0, 0].tolist() == [50, 100, 200] * 2
    assert ToClipTensor("BGR")(red)[:, 0, 0].tolist() == [50, 100, 200] * 2
    assert ToClipTensor("RGB")(red)[:, 0, 0].tolist() == [200, 100, 50] * 2


@pytest.mark.parametrize("mode, channels", [("RGB", 3), ("L", 1)])
def test_clip_tensor_is_frame_major(mode, channels):
    clip = noise(5, 4, mode=mode)
    tensor = ToClipTensor()(clip)
    assert tensor.dtype == torch.uint8 and tensor.shape == (3 * channels, 4, 5) and tensor.is_contiguous()
    for i, frame in enumerate(clip):
        image = torch.from_numpy(np.asarray(frame).reshape(4, 5, channels).copy())
        assert torch.equal(tensor[i * channels:(i + 1) * channels], image.permute(2, 0, 1))


def test_tensor_of_an_array_or_an_image():
    image = noise(5, 4)[0]
    array = np.asarray(image)
    for source in (image, array):
        assert np.array_equal(ToTorchFormatTensor(div=False)(source).numpy(), array.transpose(2, 0, 1))
        assert np.array_equal(ToTorchFormatTensor()(source).numpy(),
                              array.transpose(2, 0, 1).astype(np.float32) / np.float32(255))
    assert ToTorchFormatTensor()(noise(5, 4, mode="L")[0]).shape == (1, 4, 5)


@pytest.mark.parametrize("mode, roll, div, mean, std", [
    ("RGB", False, True, MEAN, STD),
    ("RGB", True, False, (104, 117, 128), (1, 1, 1)),  # BNInception
    ("RGB", True, False, (104, 117, 128), (1,)),
    ("L", False, True, (0.5,), (0.226,)),  # flow
])
def test_device_and_cpu_normalization_are_bit_identical(mode, roll, div, mean, std):
    clips = [noise(7, 6, frames=4, mode=mode, seed=seed) for seed in range(2)]
    slow = torch.stack([GroupNormalize(mean, std)(ToTorchFormatTensor(div)(Stack(roll)(clip))) for clip in clips])
    preprocessing = Preprocessing(mean, std, "BGR" if roll else "RGB", 1.0 if div else 255.0)
    packed = torch.stack([ToClipTensor(preprocessing.color)(clip) for clip in clips])
    before = packed.clone()
    fast = preprocessing.apply(packed)
    assert torch.equal(fast, slow) and fast.dtype == torch.float32
    assert torch.equal(packed, before)
    by_hand = np.stack([clip_planes(clip, roll) for clip in clips]).astype(np.float32)
    repeats = by_hand.shape[1]
    mean, std = [np.resize(np.float32(v), repeats).reshape(1, -1, 1, 1) for v in (mean, std)]
    by_hand = (by_hand / np.float32(255) if div else by_hand) - mean
    assert np.array_equal(fast.numpy(), by_hand / std)


def clip_planes(clip, roll):
    """(T*C, H, W), the planes of a clip in the network's order."""
    frames = [np.atleast_3d(np.asarray(frame)).transpose(2, 0, 1) for frame in clip]
    return np.concatenate([frame[::-1] if roll else frame for frame in frames])
