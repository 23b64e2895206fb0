"""Test protocols: how many clips and crops of a video are scored, and their transforms (TSM, sec. 5.1)."""
from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from ops.common.errors import UserError
from ops.data.sampling import ClipSampler, sampling_mode

if TYPE_CHECKING:
    from torchvision import transforms

    from ops.data.preprocessing import Preprocessing

CROPS = (1, 3, 5, 10)


@dataclass(frozen=True)
class TestProtocol:
    """How a video is scored.

    crops: 1 center; 3 left, right, center; 5 corners and center; 10 those and their mirror images.
    full_res: crops as large as the scaled frames' shorter side (256 of 256 rather than 224). dense: 10 clips of 64
    neighboring frames. twice: 2 clips of frames from the whole video. Neither: 1 such clip.
    """
    __test__: ClassVar = False  # pytest must not collect it for its name
    crops: int = 1
    full_res: bool = False
    dense: bool = False
    twice: bool = False

    def __post_init__(self) -> None:
        if self.crops not in CROPS:
            raise UserError(f"test_crops {self.crops}: choose {', '.join(map(str, CROPS))}", "test_crops")
        sampling_mode("test", dense=self.dense, twice=self.twice)

    @property
    def clips(self) -> int:
        """The number of clips of one video."""
        return self.sampler(num_segments=1).clips

    def sampler(self, num_segments: int, frames_per_segment: int = 1) -> ClipSampler:
        """Chooses the frames of the protocol's clips."""
        return ClipSampler(num_segments, frames_per_segment, sampling_mode("test", dense=self.dense, twice=self.twice))

    @property
    def words(self) -> str:
        """A description for help texts and reports."""
        kind = "64-frame" if self.dense else "whole-video"
        return (f"{self.clips} {kind} clip{'s' * (self.clips > 1)} x {self.crops} crop{'s' * (self.crops > 1)}"
                f"{' at full resolution' * self.full_res}")

    @property
    def mirrored(self) -> list[bool]:
        """Whether each view is a mirror image, in the order of `transform`."""
        return [self.crops == 10 and crop % 2 == 1 for crop in range(self.crops) for _ in range(self.clips)]

    def size(self, preprocessing: Preprocessing) -> int:
        """Height and width of a view, pixels."""
        return preprocessing.scale_size if self.full_res else preprocessing.crop_size

    @property
    def views(self) -> int:
        """The number of times that the network runs on a video."""
        return self.crops * self.clips

    def transform(self, preprocessing: Preprocessing) -> transforms.Compose:
        """PIL frames to one uint8 tensor (views * T * C, H, W), crop after crop, for `preprocessing.apply`."""
        from torchvision import transforms  # not at the top: PROTOCOLS are choices of a flag

        from ops.data.clip_transforms import (
            GroupCenterCrop,
            GroupFullResSample,
            GroupOverSample,
            GroupScale,
            ToClipTensor,
        )
        size, scale_size = self.size(preprocessing), preprocessing.scale_size
        steps: list[Any]
        if self.crops == 1:
            steps = [GroupScale(scale_size), GroupCenterCrop(size)]
        elif self.crops == 3:
            steps = [GroupFullResSample(size, scale_size, flip=False)]
        else:
            steps = [GroupOverSample(size, scale_size, flip=self.crops == 10)]
        return transforms.Compose(steps + [ToClipTensor(preprocessing.color)])


# The published settings: Something-Something's two, and the non-local networks' on Kinetics.
PROTOCOLS = {"efficient": TestProtocol(), "accurate": TestProtocol(crops=3, full_res=True, twice=True),
             "kinetics-dense": TestProtocol(crops=3, full_res=True, dense=True)}
