"""Frame indices: the published tables, the bounds that always hold, and what training draws."""
from collections import Counter

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ops.common.errors import UserError
from ops.data.sampling import (
    MODES,
    ClipSampler,
    frames_per_segment,
    sample_dense_test,
    sample_dense_train,
    sample_dense_val,
    sample_test,
    sample_train,
    sample_twice,
    sampling_mode,
)

FRAMES, SEGMENTS, LENGTHS = st.integers(1, 500), st.integers(1, 40), st.integers(1, 8)
SEEDS = st.integers(0, 2 ** 31)


def seeded(seed):
    return torch.Generator().manual_seed(seed)


# ---- the published tables -------------------------------------------------------------------------------------

def test_fixed_rows_are_the_published_ones(golden):
    rows = golden("sampling")
    assert len(rows) == 364
    for row in rows:
        case = row["num_frames"], row["num_segments"], row["new_length"]
        assert sample_test(*case) == row["test"], case
        assert sample_twice(*case) == row["test_twice"], case


def test_dense_rows_are_the_published_ones(golden):
    rows = [row for row in golden("sampling") if "test_dense" in row]
    assert len(rows) == 192
    for row in rows:
        case = row["num_frames"], row["num_segments"]
        assert sample_dense_test(*case) == row["test_dense"], case


def test_rows_by_hand():
    assert sample_test(80, 8) == [6, 16, 26, 36, 46, 56, 66, 76]
    assert sample_twice(80, 8) == [6, 16, 26, 36, 46, 56, 66, 76, 1, 11, 21, 31, 41, 51, 61, 71]
    assert sample_test(9, 3, new_length=5) == [1, 3, 5]  # five places to begin at
    assert sample_test(3, 3, new_length=5) == [1, 1, 1]
    assert sample_dense_val(100, 8) == [19 + 8 * i for i in range(8)]  # starts 0 to 36, the middle one is 18
    assert sample_dense_test(73, 2)[::2] == list(range(1, 11))  # starts 0 to 9
    assert sample_dense_test(73, 2)[1::2] == list(range(33, 43))


# ---- the record -----------------------------------------------------------------------------------------------

def test_the_record_reads_whole_segments_of_the_published_rows(golden):
    for row in golden("sampling"):
        frames, t, length = row["num_frames"], row["num_segments"], row["new_length"]
        dense = [("dense_test", "test_dense")] if "test_dense" in row else []
        for mode, key in (("test", "test"), ("twice", "test_twice"), *dense):
            sampler = ClipSampler(t, length, mode)
            assert sampler.first_frames(frames) == row[key]
            assert sampler.frames(frames) == [min(first + i, frames) for first in row[key] for i in range(length)]
            assert len(sampler.frames(frames)) == sampler.clips * t * length


@pytest.mark.parametrize("mode, sample", [
    ("test", lambda frames, g: sample_test(frames, 3, 2)), ("twice", lambda frames, g: sample_twice(frames, 3, 2)),
    ("train", lambda frames, g: sample_train(frames, 3, 2, generator=g)),
    ("dense_val", lambda frames, g: sample_dense_val(frames, 3)),
    ("dense_train", lambda frames, g: sample_dense_train(frames, 3, g)),
    ("dense_test", lambda frames, g: sample_dense_test(frames, 3))])
def test_each_mode_is_its_function(mode, sample):
    for frames in (1, 5, 100):
        assert ClipSampler(3, 2, mode).first_frames(frames, seeded(1)) == sample(frames, seeded(1))


def test_modes_of_the_phases():
    plain = {phase: sampling_mode(phase) for phase in ("train", "val", "test")}
    dense = {phase: sampling_mode(phase, dense=True) for phase in plain}
    twice = {phase: sampling_mode(phase, twice=True) for phase in plain}  # two clips belong to tests
    assert plain == {"train": "train", "val": "test", "test": "test"}
    assert dense == {"train": "dense_train", "val": "dense_val", "test": "dense_test"}
    assert twice == {**plain, "test": "twice"}
    assert {*plain.values(), *dense.values(), *twice.values()} == set(MODES)
    with pytest.raises(UserError, match="^dense_sample and twice_sample exclude each other"):
        sampling_mode("test", dense=True, twice=True)


def test_rgbdiff_reads_one_more_frame_per_segment():
    assert [frames_per_segment(modality, 5) for modality in ("RGB", "Flow", "RGBDiff")] == [5, 5, 6]


def test_a_clip_has_at_least_one_segment():
    with pytest.raises(UserError, match="^num_segments 0: choose 1 or more frames per clip"):
        ClipSampler(0)


# ---- what always holds ----------------------------------------------------------------------------------------

def check(indices, count, num_frames, new_length):
    assert len(indices) == count
    if num_frames < new_length:
        assert set(indices) == {1}
    else:
        assert min(indices) >= 1 and max(indices) + new_length - 1 <= num_frames
    assert all(type(index) is int for index in indices)


@settings(max_examples=200, deadline=None)
@given(FRAMES, SEGMENTS, LENGTHS)
def test_fixed_clips_stay_within_the_video(num_frames, t, length):
    middles, both = sample_test(num_frames, t, length), sample_twice(num_frames, t, length)
    check(middles, t, num_frames, length)
    check(both, 2 * t, num_frames, length)
    beginnings = both[t:]
    assert both[:t] == middles == sorted(middles)
    assert beginnings == sorted(beginnings) and beginnings[0] == 1
    assert all(first <= middle for first, middle in zip(beginnings, middles))


@settings(max_examples=200, deadline=None)
@given(FRAMES, SEGMENTS, LENGTHS, SEEDS)
def test_training_clips_stay_within_the_video_and_in_order(num_frames, t, length, seed):
    indices = sample_train(num_frames, t, length, generator=seeded(seed))
    check(indices, t, num_frames, length)
    assert indices == sorted(indices)


@settings(max_examples=200, deadline=None)
@given(FRAMES, st.integers(1, 64), SEEDS)
def test_dense_clips_are_64_neighboring_frames(num_frames, t, seed):
    clips = [sample_dense_train(num_frames, t, seeded(seed)), sample_dense_val(num_frames, t)]
    ten = sample_dense_test(num_frames, t)
    clips += [ten[i * t:(i + 1) * t] for i in range(10)]
    check(ten, 10 * t, num_frames, 1)
    for clip in clips:
        check(clip, t, num_frames, 1)
        steps = {(after - before) % num_frames for before, after in zip(clip, clip[1:])}
        assert steps <= {(64 // t) % num_frames}  # a short video starts again
        if num_frames >= 64:
            assert clip == sorted(clip) and clip[-1] - clip[0] < 64


@settings(max_examples=100, deadline=None)
@given(st.integers(64, 500), st.integers(1, 64))
def test_ten_dense_clips_reach_from_the_first_frame_to_the_last_start(num_frames, t):
    starts = sample_dense_test(num_frames, t)[::t]
    assert starts == sorted(starts) and starts[0] == 1 and starts[-1] == num_frames - 63
    steps = [after - before for before, after in zip(starts, starts[1:])]
    assert max(steps) - min(steps) <= 1


def test_a_dense_clip_with_more_segments_than_frames_is_refused():
    for sample in (sample_dense_train, sample_dense_val, sample_dense_test):
        with pytest.raises(UserError, match="num_segments 65 with dense_sample: choose 64 or fewer"):
            sample(300, 65)


# ---- what training draws --------------------------------------------------------------------------------------

@pytest.mark.parametrize("num_frames, t, length", [(23, 4, 1), (80, 8, 1), (8, 8, 1), (30, 3, 5), (7, 1, 1)])
def test_training_draws_every_frame_of_each_part_equally_often(num_frames, t, length):
    part, draws, generator = (num_frames - length + 1) // t, 2000, seeded(0)
    clips = [sample_train(num_frames, t, length, generator=generator) for _ in range(draws)]
    for i in range(t):
        counts = Counter(clip[i] for clip in clips)
        assert set(counts) == set(range(i * part + 1, (i + 1) * part + 1))
        chi_square = sum((count - draws / part) ** 2 / (draws / part) for count in counts.values())
        assert chi_square < part + 5 * (2 * part) ** 0.5


def test_training_draws_parts_independently():
    generator = seeded(0)
    pairs = {tuple(sample_train(8, 2, 1, generator=generator)) for _ in range(500)}
    assert pairs == {(a, b) for a in range(1, 5) for b in range(5, 9)}


@settings(max_examples=100, deadline=None)
@given(st.integers(2, 30), st.integers(1, 20), SEEDS)
def test_training_clips_of_short_videos_show_the_whole_motion(num_frames, more, seed):
    indices = sample_train(num_frames, num_frames + more, 1, generator=seeded(seed))
    assert indices[0] == 1 and indices[-1] == num_frames
    assert max(after - before for before, after in zip(indices, indices[1:])) <= 2


def test_training_clips_of_short_videos_vary():
    generator = seeded(0)
    clips = [sample_train(3, 8, 1, generator=generator) for _ in range(200)]
    assert len({tuple(clip) for clip in clips}) > 1
    for i in range(8):  # segment i covers (3i/8, 3(i+1)/8) of the three frames
        assert {clip[i] for clip in clips} == {int(3 * (i + r) / 8) + 1 for r in (0, 0.5, 0.999)}


@pytest.mark.parametrize("num_frames, starts", [(64, 1), (65, 1), (66, 2), (80, 16), (30, 1)])
def test_dense_training_draws_every_place_but_the_last(num_frames, starts):
    generator = seeded(0)
    drawn = {sample_dense_train(num_frames, 8, generator)[0] for _ in range(400)}
    assert drawn == set(range(1, starts + 1))


@pytest.mark.parametrize("sample", [lambda g: sample_train(100, 8, generator=g), lambda g: sample_train(5, 8, generator=g),
                                    lambda g: sample_dense_train(300, 8, g)], ids=["parts", "short", "dense"])
def test_a_generator_decides_and_leaves_the_global_state_alone(sample):
    before = torch.random.get_rng_state()
    first = [sample(seeded(5)) for _ in range(3)]
    assert first[0] == first[1] == first[2]
    generator = seeded(5)
    assert len({tuple(sample(generator)) for _ in range(30)}) > 1
    assert torch.equal(torch.random.get_rng_state(), before)


def test_without_a_generator_torch_decides():
    torch.manual_seed(3)
    first = sample_train(100, 8)
    assert sample_train(100, 8) != first
    torch.manual_seed(3)
    assert sample_train(100, 8) == first
