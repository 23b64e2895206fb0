"""Entry points for torch.hub, which loads them from a clone: torch.hub.load("DIRECTORY", "tsm", source="local").

Options are those of `ops.spec.ModelSpec` (num_class, num_segments, arch, shift_div, ...).
"""
from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ops.models import TSN

dependencies = ["torch", "torchvision", "numpy", "PIL"]


def tsn(pretrained: str = "", **options: Any) -> TSN:
    """A TSN, in evaluation mode: clips (N, T*C, H, W), normalized by its `preprocessing`, in, logits (N, num_class) out.

    pretrained: a weight file, a directory of `save_pretrained`, or the name of a released model, which is downloaded; the
    options are then those that the file does not describe. "": random weights; by default 400 classes, 8 frames, ResNet-50.
    """
    return _build(pretrained, {**options, "shift": False})


def tsm(pretrained: str = "", **options: Any) -> TSN:
    """A TSM, a TSN with the temporal shift (arXiv:1811.08383), likewise."""
    return _build(pretrained, {**options, "shift": True})


def _build(pretrained: str, options: dict[str, Any]) -> TSN:
    from ops.checkpoints import find_weights, load_checkpoint
    from ops.common.errors import UserError
    from ops.models import TSN
    from ops.spec import ModelSpec
    if not pretrained:
        return TSN.from_spec(ModelSpec(**{"num_class": 400, "num_segments": 8, **options})).eval()
    shift = options.pop("shift")
    found = load_checkpoint(find_weights(pretrained), **options)
    if found.known_spec is not None and found.spec.shift != shift:
        kind = "TSM" if found.spec.shift else "TSN"
        raise UserError(f"{pretrained} is a {kind}: load it with the entry point {kind.lower()}")
    return found.build()
