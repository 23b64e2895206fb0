"""Which frames of a video make a clip: functions of counts alone and, for training, of random numbers.

`ClipSampler` is the record that the data set, the test protocols and prediction share. The `sample_*` functions are
its modes: each returns the 1-based first frame of each of T = num_segments segments. A segment reads several
neighboring frames from there on where the modality needs them (`frames_per_segment`). The test rows are in
tests/golden/sampling.json.
"""
from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Optional

from ops.common.errors import UserError

if TYPE_CHECKING:
    import torch

DENSE_SPAN = 64  # frames that a densely sampled clip covers (non-local networks, arXiv:1711.07971, sec. 4.1)
DENSE_CLIPS = 10
MODES = ("train", "test", "twice", "dense_train", "dense_val", "dense_test")


def frames_per_segment(modality: str, new_length: int = 1) -> int:
    """The neighboring frames that a segment reads. RGBDiff takes differences, so it reads one frame more than it yields."""
    return new_length + (modality == "RGBDiff")


def sampling_mode(phase: str, *, dense: bool = False, twice: bool = False) -> str:
    """One of MODES. phase: train, val or test. dense: clips of 64 neighboring frames. twice: two clips, in tests only."""
    if dense and twice:
        raise UserError("dense_sample and twice_sample exclude each other: choose one", "dense_sample", "twice_sample")
    if dense:
        return f"dense_{phase}"
    return "train" if phase == "train" else "twice" if twice and phase == "test" else "test"


@dataclass(frozen=True)
class ClipSampler:
    """Chooses the frames of a clip, or of a test's several clips.

    num_segments: T. frames_per_segment: see the function. mode: train (a random frame of each of T parts), test (the
    middles of the parts; validation too), twice (the middles, then the beginnings), or one of 64 neighboring frames:
    dense_train (at a random place), dense_val (in the middle), dense_test (ten clips).
    """
    num_segments: int
    frames_per_segment: int = 1
    mode: str = "test"

    def __post_init__(self) -> None:
        if self.num_segments < 1:
            raise UserError(f"num_segments {self.num_segments}: choose 1 or more frames per clip (published: 8 or 16)",
                            "num_segments")
        assert self.mode in MODES, self.mode

    @property
    def clips(self) -> int:
        """The number of clips of one video."""
        return {"twice": 2, "dense_test": DENSE_CLIPS}.get(self.mode, 1)

    def frames(self, num_frames: int, generator: Optional[torch.Generator] = None) -> list[int]:
        """The 1-based frames to read: clips * T * frames_per_segment; beyond the end the last frame repeats.

        generator: source of the random numbers of a training mode (default: torch's global state).
        """
        return self.expand(self.first_frames(num_frames, generator), num_frames)

    def first_frames(self, num_frames: int, generator: Optional[torch.Generator] = None) -> list[int]:
        """The 1-based first frame of each segment: clips * T."""
        t, length = self.num_segments, self.frames_per_segment
        if self.mode == "train":
            return sample_train(num_frames, t, length, generator=generator)
        if self.mode == "twice":
            return sample_twice(num_frames, t, length)
        if self.mode == "dense_train":
            return sample_dense_train(num_frames, t, generator)
        if self.mode == "dense_val":
            return sample_dense_val(num_frames, t)
        return sample_dense_test(num_frames, t) if self.mode == "dense_test" else sample_test(num_frames, t, length)

    def expand(self, first_frames: list[int], num_frames: int) -> list[int]:
        """Every frame of the segments that begin at `first_frames`."""
        return [min(first + i, num_frames) for first in first_frames for i in range(self.frames_per_segment)]


# ---- the modes ------------------------------------------------------------------------------------------------

def _positions(num_frames: int, new_length: int) -> int:
    """The number of frames at which a segment can begin, at least one."""
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
    # published behaviour: rounding decides ties, and it depends on adding two products rather than multiplying a sum.
    return [int(part * phase + part * i) + 1 for i in range(num_segments)]


def sample_train(num_frames: int, num_segments: int, new_length: int = 1, *,
                 generator: Optional[torch.Generator] = None) -> list[int]:
    """A random frame of each of T equal parts (TSN, sec. 3.1); T indices, never decreasing.

    A video with fewer positions than T yields jittered, repeated frames of its whole length (the published code
    repeats frame 1 there, which hides the motion).
    """
    import torch  # not at the top: flags name test protocols, which are made of samplers, before torch is imported
    positions = _positions(num_frames, new_length)
    part = positions // num_segments
    if part > 0:  # published behaviour: parts of whole frames; the remainder at the end is never drawn
        jitter = torch.randint(part, (num_segments,), generator=generator)
        return [i * part + int(jitter[i]) + 1 for i in range(num_segments)]
    random = torch.rand(num_segments, generator=generator)
    return [min(int((i + float(random[i])) * positions / num_segments), positions - 1) + 1
            for i in range(num_segments)]


def sample_dense_train(num_frames: int, num_segments: int,
                       generator: Optional[torch.Generator] = None) -> list[int]:
    """A clip of 64 neighboring frames at a random place, every (64 // T)-th of them; T indices."""
    import torch
    starts = _dense_starts(num_frames)
    # published behaviour: the last place is never drawn
    start = int(torch.randint(max(starts - 1, 1), (1,), generator=generator))
    return _dense_clip(num_frames, num_segments, start)


def sample_dense_val(num_frames: int, num_segments: int) -> list[int]:
    """The clip of 64 neighboring frames in the middle of the video; T indices."""
    return _dense_clip(num_frames, num_segments, (_dense_starts(num_frames) - 1) // 2)


def sample_dense_test(num_frames: int, num_segments: int) -> list[int]:
    """Ten clips of 64 neighboring frames, evenly placed; 10*T indices."""
    last = _dense_starts(num_frames) - 1
    starts = [i * last / (DENSE_CLIPS - 1) for i in range(DENSE_CLIPS)]
    return [index for start in starts for index in _dense_clip(num_frames, num_segments, int(start))]


def _dense_starts(num_frames: int) -> int:
    return max(1, 1 + num_frames - DENSE_SPAN)


def _dense_clip(num_frames: int, num_segments: int, start: int) -> list[int]:
    if num_segments > DENSE_SPAN:
        raise UserError(f"num_segments {num_segments} with dense_sample: choose {DENSE_SPAN} or fewer",
                        "num_segments", "dense_sample")
    stride = DENSE_SPAN // num_segments
    return [(i * stride + start) % num_frames + 1 for i in range(num_segments)]  # short videos start again
