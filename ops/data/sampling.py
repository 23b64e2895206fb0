"""Which frames of a video make a clip: pure functions of counts (and, for training, of random numbers).

All return 1-based indices of each segment's first frame, with T = num_segments; a segment reads `new_length`
frames from there on (1 for RGB, 5 for optical flow). The test rows are tabled in tests/golden/sampling.json.
"""
from typing import Optional
import torch
from ops.common.errors import UserError


DENSE_SPAN = 64  # frames that a densely sampled clip covers (non-local networks, arXiv:1711.07971, sec. 4.1)
DENSE_CLIPS = 10


def _positions(num_frames: int, new_length: int) -> int:
    """At how many frames a segment can begin; at least one."""
    return max(num_frames - new_length + 1, 1)


def sample_test(num_frames: int, num_segments: int, new_length: int = 1) -> list[int]:
    """The middle of each of T equal parts (TSN, sec. 3.1); T indices."""
    return _spread(_positions(num_frames, new_length), num_segments, 0.5)


def sample_twice(num_frames: int, num_segments: int, new_length: int = 1) -> list[int]:
    """Two clips: the middles of the T parts, then their beginnings; 2*T indices."""
    positions = _positions(num_frames, new_length)
    return _spread(positions, num_segments, 0.5) + _spread(positions, num_segments, 0.0)


def _spread(positions: int, num_segments: int, phase: float) -> list[int]:
    part = positions / num_segments
    # published behaviour: the sum of two rounded products decides ties, so its form is part of the numbers.
    return [int(part * phase + part * i) + 1 for i in range(num_segments)]


def sample_train(num_frames: int, num_segments: int, new_length: int = 1,
                 generator: Optional[torch.Generator] = None) -> list[int]:
    """A random frame of each of T equal parts (TSN, sec. 3.1); T indices, never decreasing.

    A video with fewer positions than T yields jittered, repeated frames of its whole length (the published code
    repeats frame 1 there, which hides the motion).
    """
    positions = _positions(num_frames, new_length)
    part = positions // num_segments
    if part > 0:  # published behaviour: whole-numbered parts, the remainder at the end is never drawn
        jitter = torch.randint(part, (num_segments,), generator=generator)
        return [i * part + int(jitter[i]) + 1 for i in range(num_segments)]
    random = torch.rand(num_segments, generator=generator)
    return [min(int((i + float(random[i])) * positions / num_segments), positions - 1) + 1
            for i in range(num_segments)]


def sample_dense_train(num_frames: int, num_segments: int,
                       generator: Optional[torch.Generator] = None) -> list[int]:
    """A clip of 64 neighbouring frames at a random place, every (64 // T)-th of them; T indices."""
    starts = _dense_starts(num_frames)
    # published behaviour: the last place is never drawn
    start = int(torch.randint(max(starts - 1, 1), (1,), generator=generator))
    return _dense_clip(num_frames, num_segments, start)


def sample_dense_val(num_frames: int, num_segments: int) -> list[int]:
    """The clip of 64 neighbouring frames in the middle of the video; T indices."""
    return _dense_clip(num_frames, num_segments, (_dense_starts(num_frames) - 1) // 2)


def sample_dense_test(num_frames: int, num_segments: int) -> list[int]:
    """Ten clips of 64 neighbouring frames, evenly placed; 10*T indices."""
    last = _dense_starts(num_frames) - 1
    starts = [i * last / (DENSE_CLIPS - 1) for i in range(DENSE_CLIPS)]
    return [index for start in starts for index in _dense_clip(num_frames, num_segments, int(start))]


def _dense_starts(num_frames: int) -> int:
    return max(1, 1 + num_frames - DENSE_SPAN)


def _dense_clip(num_frames: int, num_segments: int, start: int) -> list[int]:
    if num_segments > DENSE_SPAN:
        raise UserError(f"--num_segments {num_segments} with --dense_sample: choose {DENSE_SPAN} or fewer")
    stride = DENSE_SPAN // num_segments
    return [(i * stride + start) % num_frames + 1 for i in range(num_segments)]  # short videos start again
