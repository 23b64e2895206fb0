"""TSN: an image network applied to every frame, a shift between frames, a consensus over frames."""
import logging
from typing import Any, Optional

from torch import Tensor, nn
from torchvision import transforms

from archs.mobilenet_v2 import InvertedResidual, MobileNetV2
from ops.backbones import build_backbone, find_backbone
from ops.basic_ops import ConsensusModule
from ops.errors import UserError
from ops.temporal_shift import RESNET_PLACES, TemporalShift, make_temporal_shift
from ops.transforms import GroupMultiScaleCrop, GroupRandomHorizontalFlip

log = logging.getLogger(__name__)

MODALITIES = ("RGB",)


class TSN(nn.Module):
    """Temporal Segment Network (arXiv:1608.00859) with the temporal shift of TSM (arXiv:1811.08383).

    num_class: classes. num_segments: T, frames per clip. base_model: see `ops.backbones.BACKBONES`.
    consensus_type: "avg" or "identity". before_softmax: False puts a softmax before the consensus (avg only).
    dropout: in front of the classifier `new_fc`; 0 leaves the classifier in the backbone and `new_fc` None.
    partial_bn: freeze every BatchNorm2d but the first. print_spec: log what is built. pretrain: "imagenet",
    a weight file, or "none"/"" for random weights. is_shift, shift_div, shift_place, shift_direction, inplace:
    see `ops.temporal_shift`. fc_lr5: the classifier learns 5 (weight) and 10 (bias) times as fast.
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
                 inplace: bool = False, input_size: int = 224) -> None:
        super().__init__()
        _check(num_class, num_segments, modality, dropout, before_softmax, consensus_type, input_size)
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
        self.new_length = new_length or 1
        self.input_size = input_size
        self.reshape = True
        self._enable_pbn = partial_bn

        backbone = find_backbone(base_model)
        self.input_mean, self.input_std = list(backbone.mean), list(backbone.std)
        self.base_model = build_backbone(base_model, pretrain)
        if is_shift:
            self._insert_shift(inplace)
        self._replace_head(backbone.last_layer)
        self.consensus = ConsensusModule(consensus_type)
        if print_spec:
            log.info("TSN: %s, %s, %d segments, %s consensus, dropout %g", base_model, modality, num_segments,
                     consensus_type, dropout)

    # ---- building -----------------------------------------------------------------------------------------

    def _insert_shift(self, inplace: bool) -> None:
        options: dict[str, Any] = {"n_div": self.shift_div, "inplace": inplace, "direction": self.shift_direction}
        if self.base_model_name == "mobilenetv2":
            make_mobilenet_shift(self.base_model, self.num_segments, self.shift_place, **options)
        else:
            make_temporal_shift(self.base_model, self.num_segments, place=self.shift_place, **options)

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
            else:
                assert not own, f"{type(module)} has parameters but no learning policy"
        return [{"params": groups[name], "name": name, "lr_mult": lr, "decay_mult": decay}
                for name, (lr, decay) in _GROUPS.items()]

    # ---- forward ------------------------------------------------------------------------------------------

    def forward(self, input: Tensor, no_reshape: bool = False) -> Tensor:
        """(N, T*C, H, W), (N, T, C, H, W) or (N*T, C, H, W) -> (N, num_class), for "identity" (N, T, num_class).

        no_reshape: the input is (N*T, C, H, W) already and goes to the backbone as it is.
        """
        frames = input if no_reshape else input.reshape((-1, self.frame_channels) + tuple(input.shape[-2:]))
        scores = self.base_model(frames)  # (N*T, num_class), or with dropout (N*T, features)
        if self.new_fc is not None:
            scores = self.new_fc(scores)
        if not self.before_softmax:
            scores = scores.softmax(dim=-1)
        return self.consensus(scores.unflatten(0, (-1, self.num_segments))).squeeze(1)

    # ---- what the data path must know ---------------------------------------------------------------------

    @property
    def frame_channels(self) -> int:
        """C, the channels of one segment in the backbone's input."""
        return 3 * self.new_length

    @property
    def crop_size(self) -> int:
        return self.input_size

    @property
    def scale_size(self) -> int:
        """The frames' shorter side before cropping, pixels."""
        return self.input_size * 256 // 224

    def get_augmentation(self, flip: bool = True) -> transforms.Compose:
        """The published training augmentation: one multi-scale crop and, if `flip`, one coin toss per clip."""
        steps: list[Any] = [GroupMultiScaleCrop(self.input_size, [1, .875, .75, .66])]
        if flip:
            steps.append(GroupRandomHorizontalFlip())
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
           consensus_type: str, input_size: int) -> None:
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
    if not before_softmax and consensus_type != "avg":
        raise UserError("before_softmax=False works with the avg consensus only")
