"""The modules that are exported: an inference form of a model, with what the export adds at its inputs and outputs."""
import copy
from typing import Union

import torch
from torch import Tensor, nn

from ops.backbones import find_backbone
from ops.common.errors import UserError
from ops.data.preprocessing import Preprocessing
from ops.evaluation.clip_runtime import mean_over_segments
from ops.fused_shift import fuse_temporal_shift
from ops.models import TSN
from ops.runtimes.model_info import ModelInfo
from ops.streaming.fused_online import fuse_online
from ops.streaming.online import OnlineTSM

Model = Union[TSN, OnlineTSM]


def deployable(model: Model) -> nn.Module:
    """The model in its fastest form for inference, on the CPU, in float32; the argument is unchanged."""
    model = copy.deepcopy(model).cpu().float()
    return fuse_online(model) if isinstance(model, OnlineTSM) else fuse_temporal_shift(model)


def make_graph(model: Model, info: ModelInfo) -> nn.Module:
    """The module to export: from the inputs of `info` to a tuple of its outputs."""
    graph = _StepGraph(model, info) if isinstance(model, OnlineTSM) else _ClipGraph(model, info)
    return graph.eval().requires_grad_(False)


class _Graph(nn.Module):
    """What both kinds share: preprocessing in front, precision inside, a classifier of its own where features are given."""

    def __init__(self, model: Model, info: ModelInfo) -> None:
        super().__init__()
        self.dtype = getattr(torch, info.precision) if info.precision != "int8" else torch.float32
        self.prepare = _Normalize(info.preprocessing) if info.with_preprocessing else nn.Identity()
        model = copy.deepcopy(model)
        self.classifier = detach_classifier(model) if info.features else nn.Identity()
        self.network = deployable(model)
        self.classifier.cpu().float()
        self.network.to(self.dtype)
        self.classifier.to(self.dtype)

    def outputs(self, scores: Tensor, state: tuple[Tensor, ...], features: bool) -> tuple[Tensor, ...]:
        return tuple(output.float() for output in (self.classifier(scores), *state, *((scores,) if features else ())))


class _ClipGraph(_Graph):
    def __init__(self, model: TSN, info: ModelInfo) -> None:
        super().__init__(model, info)
        self.features = bool(info.features)

    def forward(self, clips: Tensor) -> tuple[Tensor, ...]:
        scores = mean_over_segments(self.network(self.prepare(clips).to(self.dtype)))
        return self.outputs(scores, (), self.features)


class _StepGraph(_Graph):
    def __init__(self, model: OnlineTSM, info: ModelInfo) -> None:
        super().__init__(model, info)
        self.features = bool(info.features)

    def forward(self, frames: Tensor, *state: Tensor) -> tuple[Tensor, ...]:
        scores, *new_state = self.network(self.prepare(frames).to(self.dtype),
                                          *(tensor.to(self.dtype) for tensor in state))
        return self.outputs(scores, tuple(new_state), self.features)


class _Normalize(nn.Module):
    """uint8 RGB (N, T, H, W, 3), or (N, H, W, 3), -> the network's input (N, T*3, H, W)."""

    def __init__(self, preprocessing: Preprocessing) -> None:
        super().__init__()
        mean, std = (torch.tensor(values, dtype=torch.float64) for values in (preprocessing.mean, preprocessing.std))
        mean, std = mean.expand(3), std.expand(3)
        self.scale: Tensor
        self.offset: Tensor
        self.bgr = preprocessing.color == "BGR"
        # (x / 255 - mean) / std as one multiplication and one addition
        self.register_buffer("scale", (preprocessing.value_range / 255 / std).float().view(3, 1, 1))
        self.register_buffer("offset", (-mean / std).float().view(3, 1, 1))

    def forward(self, frames: Tensor) -> Tensor:
        pixels = frames.float().movedim(-1, -3)  # (N, T, 3, H, W)
        if self.bgr:
            pixels = torch.cat((pixels[..., 2:, :, :], pixels[..., 1:2, :, :], pixels[..., :1, :, :]), dim=-3)
        pixels = pixels * self.scale + self.offset
        return pixels.flatten(1, 2) if pixels.dim() == 5 else pixels


def detach_classifier(model: Model) -> nn.Module:
    """Take the classifier out of a model, in place, so that it gives features instead of scores; return the classifier.

    UserError for a model that averages probabilities, whose scores are no linear map of the mean features.
    """
    if not model.spec.before_softmax:
        raise UserError("features: this model averages probabilities (before_softmax=False): leave it out", "features")
    if model.new_fc is not None:
        classifier, model.new_fc = model.new_fc, None
        return classifier
    head = find_backbone(model.spec.arch).head
    classifier = getattr(model.base_model, head)
    setattr(model.base_model, head, nn.Identity())
    return classifier


def feature_count(model: Model) -> int:
    """The number of features that the classifier sees."""
    classifier = detach_classifier(copy.deepcopy(model))
    assert isinstance(classifier, nn.Linear)
    return classifier.in_features
