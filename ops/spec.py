"""ModelSpec: every option that shapes a network, from the command line to the checkpoint."""
from dataclasses import dataclass, field, fields, replace
from typing import Any, Mapping, Optional

from ops.backbones import find_backbone
from ops.common.choices import CONSENSUS_TYPES, DIRECTIONS, MODALITIES, MOST, NON_LOCAL_TYPES
from ops.common.errors import UserError, shown
from ops.data.sampling import frames_per_segment

# Marks an option that a checkpoint omits at its default: earlier versions of this code refuse unknown options, and can
# then read the checkpoint too. Mark every new option.
_NEWER: Mapping[str, Any] = {"newer": True}


def _has_type(value: Any, wanted: Any) -> bool:
    """Whether a stored value is of an option's type; True and False are not numbers here."""
    if isinstance(value, bool):
        return wanted is bool
    return isinstance(value, (int, float) if wanted is float else wanted)


@dataclass(frozen=True)
class ModelSpec:
    """The options of a network; `ops.models.TSN.from_spec` builds it, and checks them (`check`).

    num_class: classes. num_segments: T, frames per clip. modality: of MODALITIES. arch: of `ops.backbones.BACKBONES`.
    shift, shift_div, shift_direction: see `ops.temporal_shift`. shift_place: "" for the backbone's default (`place`).
    shift_stages: numbers of the stages that shift, ascending, with commas between them; "" for all. See
    `ops.backbones.Backbone.stages`, where the stem has number 0.
    consensus_type: see `ops.basic_ops`. dropout: in front of the classifier; 0 leaves the classifier in the backbone.
    img_feature_dim: no layer depends on it, but published command lines and checkpoints have it. temporal_pool: halve T
    in front of layer2. non_local, non_local_type: see `ops.non_local`. input_size: height and width of the crops, pixels.
    new_length: see `segment_length`; None for the published 1 (RGB) or 5. before_softmax: False puts a softmax in front of
    the consensus. multi_label: the output of a class is the logit of its own presence in the video, whatever other classes
    it has (sigmoid); otherwise the classes exclude each other (softmax).
    """
    num_class: int
    num_segments: int
    modality: str = "RGB"
    arch: str = "resnet50"
    shift: bool = False
    shift_div: int = 8
    shift_place: str = ""
    shift_direction: str = "bidirectional"
    consensus_type: str = "avg"
    dropout: float = 0.5
    img_feature_dim: int = 256
    temporal_pool: bool = False
    non_local: bool = False
    non_local_type: str = "embedded_gaussian"
    input_size: int = 224
    new_length: Optional[int] = field(default=None, metadata=_NEWER)
    before_softmax: bool = field(default=True, metadata=_NEWER)
    multi_label: bool = field(default=False, metadata=_NEWER)
    shift_stages: str = field(default="", metadata=_NEWER)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any], what: str = "the checkpoint") -> "ModelSpec":
        """From the settings of a checkpoint, or of `what`. UserError if any are missing, unknown or of the wrong type."""
        if not isinstance(values, Mapping) or not {"num_class", "num_segments"} <= set(values):
            raise UserError(f"{what}: its settings are incomplete: they must hold at least num_class and num_segments")
        known = {field.name: field.type for field in fields(cls)}
        unknown = sorted(shown(name)[:40] for name in values if name not in known)
        if unknown:
            raise UserError(f"{what} was written by a newer version: unknown settings {', '.join(unknown)}")
        for name, value in values.items():
            if not _has_type(value, known[name]):
                raise UserError(f"{what} is damaged: its setting {name} is {shown(value)[:40]!r}")
        return cls(**values)

    @classmethod
    def from_options(cls, options: Mapping[str, Any], **known: Any) -> "ModelSpec":
        """From a program's options of the same names; `known` wins over `options`, and None means the default."""
        given = {**options, **known}
        return cls(**{field.name: given[field.name] for field in fields(cls) if given.get(field.name) is not None})

    def to_dict(self) -> dict[str, Any]:
        """The entry `settings` of a checkpoint."""
        return {field.name: getattr(self, field.name) for field in fields(self)
                if not (field.metadata.get("newer") and getattr(self, field.name) == field.default)}

    def with_(self, **changes: Any) -> "ModelSpec":
        """A copy with those of `changes` that are not None."""
        return replace(self, **{key: value for key, value in changes.items() if value is not None})

    # ---- derived values -----------------------------------------------------------------------------------

    @property
    def place(self) -> str:
        """`shift_place`, or the backbone's default place."""
        return self.shift_place or find_backbone(self.arch).shift.default

    @property
    def segment_length(self) -> int:
        """Images (RGB), pairs of x and y (Flow) or differences of neighbouring images (RGBDiff) per segment."""
        return self.new_length or (1 if self.modality == "RGB" else 5)

    @property
    def frame_channels(self) -> int:
        """C, the channels of one segment in the backbone's input."""
        return (2 if self.modality == "Flow" else 3) * self.segment_length

    @property
    def clip_channels(self) -> int:
        """T*C, the channels of a clip in the input of `ops.models.TSN.forward`."""
        planes = 2 if self.modality == "Flow" else 3
        return self.num_segments * planes * frames_per_segment(self.modality, self.segment_length)

    # ---- checking -----------------------------------------------------------------------------------------

    def check(self) -> None:
        """UserError for an option that is out of range, or two that do not work together.

        Whether `shift_div` fits the channels of a layer is checked when that layer is built.
        """
        backbone = find_backbone(self.arch)
        if self.num_class < 1:
            raise UserError(f"num_class {self.num_class}: a model needs at least one class")
        self._in_range("num_segments", 1, "frames per clip (published: 8 or 16)")
        self._in_range("input_size", 32, "pixels (published: 224)")
        if self.new_length is not None:
            self._in_range("new_length", 1, "images per segment")
        if self.modality not in MODALITIES:  # not as an option: main.py takes it by position
            raise UserError(f"modality {self.modality!r}: choose {' or '.join(MODALITIES)}")
        if self.consensus_type != "rnn":  # published behaviour: see ConsensusModule
            self._one_of("consensus_type", CONSENSUS_TYPES)
        self._one_of("shift_direction", DIRECTIONS)
        self._one_of("non_local_type", NON_LOCAL_TYPES)
        if self.shift:
            backbone.shift.check(self.place)
        if self.shift_stages:
            self._check_shift_stages(backbone.shift.stages)
        for option in ("temporal_pool", "non_local"):
            if getattr(self, option) and not backbone.resnet:
                raise UserError(f"{option} works on ResNets, not on {self.arch}: leave it out", option)
        if not 0 <= self.dropout < 1:
            raise UserError(f"dropout {self.dropout}: choose 0 (none) to below 1", "dropout")
        if not self.before_softmax and self.consensus_type != "avg":
            raise UserError("before_softmax=False works with the avg consensus only")
        if not self.before_softmax and self.multi_label:
            raise UserError("before_softmax=False is for classes that exclude each other: not for multi_label=True")

    def _check_shift_stages(self, offered: tuple[int, ...]) -> None:
        what, chosen = f"shift_stages {self.shift_stages!r}", self.shift_stages.split(",")
        if not self.shift:
            raise UserError(f"{what} limits a shift, and this network has none: give shift, or leave shift_stages out",
                            "shift_stages", "shift")
        if not offered:
            raise UserError(f"{what}: {self.arch} shifts between its blocks, which are not chosen by stage: choose them by"
                            " a 12-digit mask as shift_place", "shift_stages", "shift_place")
        if chosen != [str(number) for number in offered if str(number) in chosen]:
            raise UserError(f"{what}: {self.arch} can shift in stages {', '.join(map(str, offered))}: choose some of them,"
                            f" in this order, with commas between them ({offered[-2]},{offered[-1]})", "shift_stages")

    def _in_range(self, name: str, minimum: int, unit: str) -> None:
        value = getattr(self, name)
        if value < minimum:
            raise UserError(f"{name} {value}: choose {minimum} or more {unit}", name)
        if value > MOST:
            raise UserError(f"{name} {value}: choose at most {MOST} {unit}", name)

    def _one_of(self, name: str, allowed: tuple[str, ...]) -> None:
        value = getattr(self, name)
        if value not in allowed:
            raise UserError(f"{name} {value!r}: choose {' or '.join(allowed)}", name)
