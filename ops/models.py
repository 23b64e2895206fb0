"""TSN: an image network applied to every frame, a shift between frames, a consensus over frames."""
import logging
from typing import Any, Optional

from torch import Tensor, nn
from torchvision import transforms

from archs.bn_inception import BNInception
from archs.mobilenet_v2 import InvertedResidual, MobileNetV2
from ops.backbones import Backbone, build_backbone, find_backbone, inflate_first_conv
from ops.basic_ops import ConsensusModule
from ops.common.errors import UserError
from ops.data.clip_transforms import GroupMultiScaleCrop, GroupRandomHorizontalFlip
from ops.non_local import NON_LOCAL_TYPES, make_non_local
from ops.temporal_shift import (
    RESNET_PLACES,
    StandaloneShift,
    TemporalShift,
    make_temporal_pool,
    make_temporal_shift,
    pooled_segments,
    segments_per_layer,
)

log = logging.getLogger(__name__)

MODALITIES = ("RGB", "Flow", "RGBDiff")


class TSN(nn.Module):
    """Temporal Segment Network (arXiv:1608.00859) with the temporal shift of TSM (arXiv:1811.08383).

    num_class: classes. num_segments: T, frames per clip. base_model: see `ops.backbones.BACKBONES`.
    consensus_type: "avg" or "identity". before_softmax: False puts a softmax before the consensus (avg only).
    dropout: in front of the classifier `new_fc`; 0 leaves the classifier in the backbone and `new_fc` None.
    partial_bn: freeze every BatchNorm2d but the first. print_spec: log what is built. pretrain: "imagenet",
    a weight file, or "none"/"" for random weights. is_shift, shift_div, shift_place, shift_direction, inplace:
    see `ops.temporal_shift`. temporal_pool: halve T in front of layer2 (ResNet). non_local, non_local_type: see
    `ops.non_local` (ResNet). new_length: images per segment, 1 for RGB, else 5 (Flow: 5 pairs of x and y; RGBDiff:
    5 differences of 6 images). fc_lr5: the classifier learns 5 (weight) and 10 (bias) times as fast.
    input_size: height and width of the crops, pixels. img_feature_dim, crop_num: kept for callers of the
    published class, which never used them either.
    Raises UserError (a ValueError) for options that do not work together.
    """

    def __init__(self, num_class: int, num_segments: int, modality: str, base_model: str = "resnet101",
                 new_length: Optional[int] = None, consensus_type: str = "avg", before_softmax: bool = True,
                 dropout: float = 0.8, img_feature_dim: int = 256, crop_num: int = 1, partial_bn: bool = True,
                 print_spec: bool = True, pretrain: Optional[str] = "imagenet", is_shift: bool = False,
                 shift_div: int = 8, shift_place: Optional[str] = "blockres", fc_lr5: bool = False,
                 temporal_pool: bool = False, non_local: bool = False, shift_direction: str = "bidirectional",
                 inplace: bool = False, input_size: int = 224,
                 non_local_type: str = "embedded_gaussian") -> None:
        super().__init__()
        _check(num_class, num_segments, modality, dropout, before_softmax, consensus_type, input_size, non_local_type)
        self.modality = modality
        self.num_class = num_class
        self.num_segments = num_segments
        self.before_softmax = before_softmax
        self.dropout = dropout
        self.crop_num = crop_num
        self.consensus_type = consensus_type
        self.img_feature_dim = img_feature_dim
        self.pretrain = pretrain
        self.is_shift = is_shift
        self.shift_div = shift_div
        self.shift_place = shift_place or find_backbone(base_model).default_place
        self.shift_direction = shift_direction
        self.base_model_name = base_model
        self.fc_lr5 = fc_lr5
        self.temporal_pool = temporal_pool
        self.non_local = non_local
        self.non_local_type = non_local_type
        self.new_length = new_length or (1 if modality == "RGB" else 5)
        self.input_size = input_size
        self.reshape = True
        self._enable_pbn = partial_bn

        backbone = find_backbone(base_model)
        self.input_mean, self.input_std = self._input_statistics(backbone)
        self.base_model = build_backbone(base_model, pretrain)
        if modality != "RGB":
            inflate_first_conv(self.base_model, self.frame_channels)
        if is_shift:
            self._insert_shift(inplace)
        if non_local:
            make_non_local(self.base_model, segments_per_layer(num_segments, temporal_pool), non_local_type)
        if temporal_pool:
            make_temporal_pool(self.base_model, num_segments)
        self._replace_head(backbone.last_layer)
        self.consensus = ConsensusModule(consensus_type)
        if print_spec:
            log.info("TSN: %s, %s, %d segments, %s consensus, dropout %g", base_model, modality, num_segments,
                     consensus_type, dropout)

    # ---- building -----------------------------------------------------------------------------------------

    def _input_statistics(self, backbone: Backbone) -> tuple[list[float], list[float]]:
        """The published mean and std of the input's channels, in the frames' range (0-1 or 0-255)."""
        mean, std = list(backbone.mean), list(backbone.std)
        if self.modality == "Flow":
            return ([128.0], std[:1]) if backbone.bgr_255 else ([0.5], [sum(std) / len(std)])
        if self.modality == "RGBDiff":
            zeros, twice = [0.0] * 3 * self.new_length, [sum(std) / len(std) * 2] * 3 * self.new_length
            return (mean * (1 + self.new_length), std) if backbone.bgr_255 else (mean + zeros, std + twice)
        return mean, std

    def _insert_shift(self, inplace: bool) -> None:
        options: dict[str, Any] = {"n_div": self.shift_div, "inplace": inplace, "direction": self.shift_direction}
        if isinstance(self.base_model, BNInception):
            self._shift_between_blocks(self.base_model, options)
            return
        if self.base_model_name == "mobilenetv2":
            make_mobilenet_shift(self.base_model, self.num_segments, self.shift_place, **options)
        else:
            make_temporal_shift(self.base_model, self.num_segments, place=self.shift_place,
                                temporal_pool=self.temporal_pool, **options)

    def _shift_between_blocks(self, net: BNInception, options: dict[str, Any]) -> None:
        try:
            net.install_shift(self.shift_place, lambda channels: StandaloneShift(channels, self.num_segments, **options))
        except UserError:
            raise
        except ValueError as error:  # archs know nothing of our errors
            raise UserError(str(error)) from None

    def _replace_head(self, last_layer: str) -> None:
        """Dropout in the backbone and the classifier behind it, or, without dropout, the classifier inside."""
        features = getattr(self.base_model, last_layer).in_features
        classifier = nn.Linear(features, self.num_class)
        nn.init.normal_(classifier.weight, 0, 0.001)
        nn.init.constant_(classifier.bias, 0)
        setattr(self.base_model, last_layer, classifier if self.dropout == 0 else nn.Dropout(self.dropout))
        self.new_fc = None if self.dropout == 0 else classifier

    # ---- partial BatchNorm (TSN, sec. 3.3) ----------------------------------------------------------------

    def partialBN(self, enable: bool) -> None:
        """Freeze (True) or train (False) every BatchNorm2d but the first, from the next call of train() on."""
        self._enable_pbn = enable

    def train(self, mode: bool = True) -> "TSN":
        super().train(mode)
        norms = [m for m in self.base_model.modules() if isinstance(m, nn.BatchNorm2d)]
        for norm in norms[1:]:
            norm.train(mode and not self._enable_pbn)
            norm.requires_grad_(not self._enable_pbn)
        return self

    def get_optim_policies(self) -> list[dict[str, Any]]:
        """The published optimizer groups: `params`, `name`, and multipliers of learning rate and decay."""
        groups: dict[str, list] = {name: [] for name in _GROUPS}
        convs = norms = 0
        for module in self.modules():
            own = list(module.parameters(recurse=False))
            if isinstance(module, (nn.Conv1d, nn.Conv2d, nn.Conv3d)):
                convs += 1
                kind = "first_conv" if convs == 1 else "normal"
                groups[f"{kind}_weight"].append(own[0])
                groups[f"{kind}_bias"].extend(own[1:])
            elif isinstance(module, nn.Linear):
                groups["lr5_weight" if self.fc_lr5 else "normal_weight"].append(own[0])
                groups["lr10_bias" if self.fc_lr5 else "normal_bias"].extend(own[1:])
            elif isinstance(module, nn.BatchNorm2d):
                norms += 1
                groups["BN scale/shift"].extend(own if norms == 1 or not self._enable_pbn else [])
            elif isinstance(module, nn.BatchNorm3d):  # of non-local blocks: new, so partial BN must not freeze it
                groups["BN scale/shift"].extend(own)
            else:
                assert not own, f"{type(module)} has parameters but no learning policy"
        # A first layer that was inflated from RGB has the most to learn (published behaviour for Flow).
        faster = 5 if self.modality == "Flow" else 1
        return [{"params": groups[name], "name": name, "lr_mult": lr * (faster if "first_conv" in name else 1),
                 "decay_mult": decay} for name, (lr, decay) in _GROUPS.items()]

    # ---- forward ------------------------------------------------------------------------------------------

    def forward(self, input: Tensor, no_reshape: bool = False) -> Tensor:
        """(N, T*C, H, W), (N, T, C, H, W) or (N*T, C, H, W) -> (N, num_class), for "identity" (N, T, num_class).

        no_reshape: the input is (N*T, C, H, W) already and goes to the backbone as it is.
        """
        frames = input if no_reshape else self._to_frames(input)
        scores = self.base_model(frames)  # (N*T, num_class), or with dropout (N*T, features)
        if self.new_fc is not None:
            scores = self.new_fc(scores)
        if not self.before_softmax:
            scores = scores.softmax(dim=-1)
        segments = pooled_segments(self.num_segments) if self.temporal_pool else self.num_segments
        return self.consensus(scores.unflatten(0, (-1, segments))).squeeze(1)

    def _to_frames(self, input: Tensor) -> Tensor:
        """Any of forward's input forms -> (N*T, frame_channels, H, W)."""
        size = tuple(input.shape[-2:])
        if self.modality != "RGBDiff":
            return input.reshape((-1, self.frame_channels) + size)
        images = input.reshape((-1, self.new_length + 1, 3) + size)
        return images.diff(dim=1).flatten(1, 2)

    # ---- what the data path must know ---------------------------------------------------------------------

    @property
    def frame_channels(self) -> int:
        """C, the channels of one segment in the backbone's input."""
        return (2 if self.modality == "Flow" else 3) * self.new_length

    @property
    def normalization(self) -> tuple[list[float], list[float]]:
        """Mean and std by which frames are normalised. published behaviour: not at all for RGBDiff."""
        return ([0.0], [1.0]) if self.modality == "RGBDiff" else (self.input_mean, self.input_std)

    @property
    def crop_size(self) -> int:
        return self.input_size

    @property
    def scale_size(self) -> int:
        """The frames' shorter side before cropping, pixels."""
        return self.input_size * 256 // 224

    def get_augmentation(self, flip: bool = True) -> transforms.Compose:
        """The published training augmentation: one multi-scale crop and, if `flip`, one coin toss per clip."""
        scales = [1, .875, .75, .66] if self.modality == "RGB" else [1, .875, .75]
        steps: list[Any] = [GroupMultiScaleCrop(self.input_size, scales)]
        if flip:
            steps.append(GroupRandomHorizontalFlip(is_flow=self.modality == "Flow"))
        return transforms.Compose(steps)


def make_mobilenet_shift(net: nn.Module, n_segment: int, place: str, **options: Any) -> None:
    """Insert the shift into the residual blocks with expansion (sec. 3.3), in place; options: of TemporalShift.

    place "blockres": before conv[0], inside the residual branch. "block": before the whole block.
    """
    if place not in RESNET_PLACES:
        raise UserError(f"--shift_place {place!r}: choose {' or '.join(RESNET_PLACES)}, or leave it unset")
    assert isinstance(net, MobileNetV2)
    for i, block in enumerate(net.features):
        if isinstance(block, InvertedResidual) and block.use_res_connect and len(block.conv) == 8:
            if place == "block":
                net.features[i] = TemporalShift(block, n_segment, **options)
            else:
                block.conv[0] = TemporalShift(block.conv[0], n_segment, **options)


# name: (multiplier of the learning rate, of the weight decay)
_GROUPS = {"first_conv_weight": (1, 1), "first_conv_bias": (2, 0), "normal_weight": (1, 1), "normal_bias": (2, 0),
           "BN scale/shift": (1, 0), "custom_ops": (1, 1), "lr5_weight": (5, 1), "lr10_bias": (10, 0)}


def _check(num_class: int, num_segments: int, modality: str, dropout: float, before_softmax: bool,
           consensus_type: str, input_size: int, non_local_type: str) -> None:
    if num_class < 1:
        raise UserError(f"{num_class} classes: a model needs at least one")
    if num_segments < 1:
        raise UserError(f"--num_segments {num_segments}: choose 1 or more frames per clip (published: 8 or 16)")
    if modality not in MODALITIES:
        raise UserError(f"modality {modality!r}: choose {' or '.join(MODALITIES)}")
    if not 0 <= dropout < 1:
        raise UserError(f"--dropout {dropout}: choose 0 (none) to below 1")
    if input_size < 32:
        raise UserError(f"--input_size {input_size}: choose 32 pixels or more (published: 224)")
    if non_local_type not in NON_LOCAL_TYPES:
        raise UserError(f"--non_local_type {non_local_type!r}: choose {', '.join(NON_LOCAL_TYPES)}")
    if not before_softmax and consensus_type != "avg":
        raise UserError("before_softmax=False works with the avg consensus only")
