"""The places where a backbone can shift, and how the shift is put there; imports torch when it is needed, not before."""
from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from pkgutil import resolve_name
from typing import TYPE_CHECKING, Any, Callable, Optional

from ops.common.errors import UserError

if TYPE_CHECKING:
    from torch import nn


class ShiftPlaces(ABC):
    """The places that a backbone offers to the option `shift_place`.

    default: the place unless another is named. in_keys: whether state-dict keys show where the network shifts. stages:
    numbers of the stages (`ops.backbones.Backbone.stages`) to which the option `shift_stages` can limit the shift.
    """
    default = "blockres"
    in_keys = True
    stages: tuple[int, ...] = ()

    def check(self, place: str) -> None:
        """UserError for a place that this backbone does not offer."""
        from ops.temporal_shift import check_place
        check_place(place)

    @abstractmethod
    def insert(self, net: nn.Module, n_segment: int, place: str, **options: Any) -> None:
        """Put the shift into `net`, in place.

        n_segment: T. options: of `TemporalShift`; a ResNet's temporal_pool; `only`: whether the module of a name is to
        shift, in a network that has `stages`.
        """


class ResNetPlaces(ShiftPlaces):
    """torchvision ResNets: see `ops.temporal_shift.make_temporal_shift`."""
    stages = (1, 2, 3, 4)

    def insert(self, net: nn.Module, n_segment: int, place: str, *, only: Optional[Callable[[str], bool]] = None,
               **options: Any) -> None:
        from ops.temporal_shift import make_temporal_shift
        if only is not None:
            options["stages"] = [number for number in self.stages if only(f"layer{number}")]
        make_temporal_shift(net, n_segment, place=place, **options)


@dataclass(frozen=True)
class BlockPlaces(ShiftPlaces):
    """Other networks of residual blocks (TSM, sec. 3.3).

    shifts: "module:function", true for a module that is a block that shifts. conv: name, inside a block, of the
    convolution that begins its residual branch. "blockres" shifts the input of that convolution, so that the shortcut
    keeps the frame's own features; "block" shifts the input of the whole block.
    """
    shifts: str
    conv: str
    stages: tuple[int, ...] = ()

    def insert(self, net: nn.Module, n_segment: int, place: str, *, only: Optional[Callable[[str], bool]] = None,
               **options: Any) -> None:
        from ops.temporal_shift import TemporalShift
        self.check(place)
        shifts = resolve_name(self.shifts)
        blocks = [name for name, module in net.named_modules() if shifts(module) and (only is None or only(name))]
        for name in blocks if place == "block" else [f"{block}.{self.conv}" for block in blocks]:
            holder, _, attribute = name.rpartition(".")
            shift = TemporalShift(net.get_submodule(name), n_segment, **options)
            setattr(net.get_submodule(holder), attribute, shift)


class BNInceptionPlaces(ShiftPlaces):
    """BNInception: between its blocks, which have no shortcut. Its shift has no weights and no keys."""
    default = "block"
    in_keys = False

    def check(self, place: str) -> None:
        from archs.bn_inception import shift_points
        try:
            shift_points(place)
        except ValueError as error:  # archs know nothing of our errors
            raise UserError(str(error), "shift_place", "shift") from None

    def insert(self, net: nn.Module, n_segment: int, place: str, **options: Any) -> None:
        from archs.bn_inception import BNInception
        from ops.temporal_shift import StandaloneShift
        assert isinstance(net, BNInception)
        self.check(place)
        net.install_shift(place, lambda channels: StandaloneShift(channels, n_segment, **options))
