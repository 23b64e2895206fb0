"""A model as plain settings: what a command line asks for, a checkpoint carries, and a TSN is built from."""
from dataclasses import asdict, dataclass, fields, replace
from typing import Any, Mapping, Optional

from ops.backbones import find_backbone
from ops.common.errors import UserError
from ops.models import TSN


@dataclass(frozen=True)
class ModelSpec:
    """Everything that decides a model's structure and preprocessing. Class names are "" where unknown."""
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

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "ModelSpec":
        """From a checkpoint's `settings`; unknown entries (of newer versions) are refused."""
        known = {field.name for field in fields(cls)}
        if not isinstance(values, Mapping) or not {"num_class", "num_segments"} <= set(values):
            raise UserError("the checkpoint's settings are incomplete: they must hold at least num_class and num_segments")
        unknown = sorted(set(values) - known)
        if unknown:
            raise UserError(f"the checkpoint was written by a newer version: unknown settings {', '.join(unknown)}")
        return cls(**values)

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    def with_(self, **changes: Any) -> "ModelSpec":
        """A copy with those of `changes` that are not None."""
        return replace(self, **{key: value for key, value in changes.items() if value is not None})

    @property
    def place(self) -> str:
        """The shift place, the backbone's default where none is asked for."""
        return self.shift_place or find_backbone(self.arch).default_place

    @property
    def bgr_255(self) -> bool:
        """Whether frames go in as BGR, 0-255 instead of RGB, 0-1."""
        return find_backbone(self.arch).bgr_255


def build_model(settings: ModelSpec, pretrain: Optional[str] = "none", partial_bn: bool = False,
                fc_lr5: bool = False, inplace: bool = False, print_spec: bool = False) -> TSN:
    """The TSN that `settings` describe; the other options concern training alone. print_spec: log what is built."""
    s = settings
    return TSN(s.num_class, s.num_segments, s.modality, base_model=s.arch, consensus_type=s.consensus_type,
               dropout=s.dropout, img_feature_dim=s.img_feature_dim, partial_bn=partial_bn, pretrain=pretrain,
               is_shift=s.shift, shift_div=s.shift_div, shift_place=s.place, fc_lr5=fc_lr5,
               temporal_pool=s.temporal_pool, non_local=s.non_local, shift_direction=s.shift_direction,
               inplace=inplace, input_size=s.input_size, non_local_type=s.non_local_type,
               print_spec=print_spec)


def preprocessing(model: TSN, settings: ModelSpec) -> dict[str, Any]:
    """What a frame goes through before the model, for whoever deploys it without this code."""
    return {"color": "BGR" if settings.bgr_255 else "RGB", "range": 255.0 if settings.bgr_255 else 1.0,
            "mean": list(model.normalization[0]), "std": list(model.normalization[1]), "scale_size": model.scale_size,
            "crop_size": model.crop_size, "resize": "PIL bilinear, shorter side", "crop": "center"}
