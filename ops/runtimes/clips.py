"""Exported models as what evaluation and prediction expect of a network."""
from typing import Optional, Sequence

import torch
from torch import Tensor

from ops.common.errors import UserError
from ops.data.preprocessing import Preprocessing
from ops.runtimes.base import Engine, to_rgb_last
from ops.spec import ModelSpec
from ops.streaming.step_runtime import StepRuntime


class ExportedClip:
    """An exported clip model as a `ClipRuntime`. Several threads may share one."""

    def __init__(self, engine: Engine, class_names: Optional[Sequence[str]] = None) -> None:
        self.engine, self.info = engine, engine.info
        self.spec: ModelSpec = self.info.spec
        self.preprocessing: Preprocessing = self.info.preprocessing
        self.class_names = class_names or self.info.class_names

    def __call__(self, clips: Tensor) -> Tensor:
        """uint8 (N, T*C, H, W), scaled, cropped and ordered by `preprocessing` -> logits (N, num_class), float32.

        UserError for another shape or type than the model was exported for.
        """
        return self.run(clips)[0]

    def run(self, clips: Tensor) -> list[Tensor]:
        """All outputs of the model, (N, ...) each: logits, and the features where the export has them."""
        self._check(clips)
        size = self.info.batch
        if size is None:
            return self.engine.run([self.prepare(clips)])
        parts = [self._run_padded(part, size) for part in clips.split(size)]
        return [torch.cat(outputs) for outputs in zip(*parts)]

    def _run_padded(self, clips: Tensor, size: int) -> list[Tensor]:
        padding = clips.new_zeros(size - len(clips), *clips.shape[1:])
        return [output[:len(clips)] for output in self.engine.run([self.prepare(torch.cat((clips, padding)))])]

    def prepare(self, clips: Tensor) -> Tensor:
        """uint8 clips as for a call -> the model's input."""
        if self.info.with_preprocessing:
            return to_rgb_last(clips, self.preprocessing.color)
        return self.preprocessing.apply(clips)

    def _check(self, clips: Tensor) -> None:
        info = self.info
        wanted = (info.spec.clip_channels, info.height, info.width)
        if clips.dtype != torch.uint8:
            raise UserError(f"clips of type {str(clips.dtype).removeprefix('torch.')}: this model takes uint8, 0 to 255")
        if tuple(clips.shape[1:]) != wanted or not len(clips):
            raise UserError(f"clips of shape {tuple(clips.shape)}: this model was exported for (clips,"
                            f" {', '.join(map(str, wanted))}): export one for that size with tools/export.py")


class StepClip:
    """A step runtime as a `ClipRuntime`: a clip's frames are streamed from a zero state, and their logits averaged."""

    def __init__(self, step: StepRuntime, class_names: Optional[Sequence[str]] = None) -> None:
        self.step = step
        self.spec: ModelSpec = step.spec
        self.preprocessing: Preprocessing = step.preprocessing
        self.class_names = class_names or step.class_names

    def __call__(self, clips: Tensor) -> Tensor:
        """uint8 (N, T*3, H, W) -> logits (N, num_class), float32."""
        return self.each_frame(clips).mean(dim=1)

    def each_frame(self, clips: Tensor) -> Tensor:
        """uint8 (N, T*3, H, W) -> logits of every frame, (N, T, num_class)."""
        frames = clips.unflatten(1, (-1, 3))
        state = self.step.initial_state(len(clips), *clips.shape[-2:])
        rows = []
        for t in range(frames.shape[1]):
            logits, state = self.step.step(self.step.prepare(frames[:, t]), state)
            rows.append(logits.float().cpu())
        return torch.stack(rows, dim=1)
