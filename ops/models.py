"""TSN: an image network on every frame of a clip, a shift between the frames, a consensus over them."""
import copy
import logging
from pathlib import Path
from typing import Any, Optional, Sequence, Union

from torch import Tensor, nn
from torchvision import transforms

from ops.backbones import Backbone, find_backbone
from ops.basic_ops import ConsensusModule
from ops.data.clip_transforms import GroupMultiScaleCrop, GroupRandomHorizontalFlip
from ops.data.preprocessing import Preprocessing
from ops.data.sampling import frames_per_segment
from ops.model_folder import check_classes, find_folder, read_folder, write_folder
from ops.non_local import make_non_local
from ops.pretrained import build_backbone, inflate_first_conv
from ops.spec import ModelSpec
from ops.temporal_shift import make_temporal_pool, pooled_segments, segments_per_layer
from ops.weights import load_weights

log = logging.getLogger(__name__)


def _of_spec(option: str) -> Any:
    """A published attribute of TSN that reads the option of its spec."""
    return property(lambda model: getattr(model.spec, option))


class TSN(nn.Module):
    """Temporal Segment Network (arXiv:1608.00859) with the temporal shift of TSM (arXiv:1811.08383).

    `from_spec` builds one from a `ModelSpec`, which has every option that shapes the network. The published constructor
    takes the same options under their published names: base_model is spec.arch, is_shift is spec.shift. Both also take:

    pretrain: "imagenet", a weight file, or "none" or "" for random weights. partial_bn: see `partialBN`. fc_lr5: the
    classifier learns 5 (weight) and 10 (bias) times as fast. inplace: see `ops.temporal_shift`. print_spec: log the main
    options. crop_num: accepted because the published class does; neither uses it.

    class_names: of a network that was loaded; None where they are unknown.

    Raises UserError (a ValueError) for options that do not work together. Attributes read the spec, under the published
    names: change a model by building another.
    """

    num_class: int = _of_spec("num_class")
    num_segments: int = _of_spec("num_segments")
    modality: str = _of_spec("modality")
    base_model_name: str = _of_spec("arch")
    is_shift: bool = _of_spec("shift")
    shift_div: int = _of_spec("shift_div")
    shift_place: str = _of_spec("place")
    shift_direction: str = _of_spec("shift_direction")
    shift_stages: str = _of_spec("shift_stages")
    consensus_type: str = _of_spec("consensus_type")
    before_softmax: bool = _of_spec("before_softmax")
    multi_label: bool = _of_spec("multi_label")
    dropout: float = _of_spec("dropout")
    img_feature_dim: int = _of_spec("img_feature_dim")
    temporal_pool: bool = _of_spec("temporal_pool")
    non_local: bool = _of_spec("non_local")
    non_local_type: str = _of_spec("non_local_type")
    new_length: int = _of_spec("segment_length")
    frame_channels: int = _of_spec("frame_channels")
    input_size: int = _of_spec("input_size")
    crop_size: int = _of_spec("input_size")
    crop_num = 1
    reshape = True
    class_names: Optional[list[str]] = None

    def __init__(self, num_class: int, num_segments: int, modality: str, base_model: str = "resnet101",
                 new_length: Optional[int] = None, consensus_type: str = "avg", before_softmax: bool = True,
                 dropout: float = 0.8, img_feature_dim: int = 256, crop_num: int = 1, partial_bn: bool = True,
                 print_spec: bool = True, pretrain: Optional[str] = "imagenet", is_shift: bool = False,
                 shift_div: int = 8, shift_place: Optional[str] = "blockres", fc_lr5: bool = False,
                 temporal_pool: bool = False, non_local: bool = False, shift_direction: str = "bidirectional",
                 inplace: bool = False, input_size: int = 224,
                 non_local_type: str = "embedded_gaussian", multi_label: bool = False, shift_stages: str = "") -> None:
        super().__init__()
        self.crop_num = crop_num
        self._build(ModelSpec(
            num_class, num_segments, modality, base_model, shift=is_shift, shift_div=shift_div,
            shift_place=shift_place or "", shift_direction=shift_direction, consensus_type=consensus_type,
            dropout=dropout, img_feature_dim=img_feature_dim, temporal_pool=temporal_pool, non_local=non_local,
            non_local_type=non_local_type, input_size=input_size, new_length=new_length or None,
            before_softmax=before_softmax, multi_label=multi_label, shift_stages=shift_stages),
            pretrain=pretrain, partial_bn=partial_bn, fc_lr5=fc_lr5, inplace=inplace, print_spec=print_spec)

    @classmethod
    def from_spec(cls, spec: ModelSpec, *, pretrain: Optional[str] = "none", partial_bn: bool = False,
                  fc_lr5: bool = False, inplace: bool = False, print_spec: bool = False) -> "TSN":
        """The network that `spec` describes; its weights are random unless `pretrain` names others."""
        model = cls.__new__(cls)
        nn.Module.__init__(model)
        model._build(spec, pretrain=pretrain, partial_bn=partial_bn, fc_lr5=fc_lr5, inplace=inplace, print_spec=print_spec)
        return model

    # ---- directories ---------------------------------------------------------------------------------------

    def save_pretrained(self, folder: Union[str, Path], *, class_names: Optional[Sequence[str]] = None) -> None:
        """Write a directory with weights, config and model card (`ops.model_folder`), which can be uploaded to a hub.

        class_names: one for each class (default: those of this network). CannotWrite where the disk refuses.
        """
        write_folder(Path(folder), self.state_dict(), spec=self.spec, preprocessing=self.preprocessing,
                     class_names=class_names if class_names is not None else self.class_names)

    @classmethod
    def from_pretrained(cls, name: Union[str, Path], *, revision: Optional[str] = None) -> "TSN":
        """The network in a directory of `save_pretrained`, or of a model `user/name` on the Hugging Face hub; in eval mode.

        revision: a branch, tag or commit on the hub. UserError if there is no such model, or it is damaged.
        """
        folder = find_folder(name, revision)
        content = read_folder(folder)
        spec = ModelSpec.from_dict(content.get("settings"), str(folder))  # type: ignore[arg-type]
        check_classes(content, spec, folder)
        model = cls.from_spec(spec)
        load_weights(model, content["state_dict"], str(folder))
        model.class_names = content.get("class_names")
        return model.eval()

    # ---- building -----------------------------------------------------------------------------------------

    def _build(self, spec: ModelSpec, *, pretrain: Optional[str], partial_bn: bool, fc_lr5: bool, inplace: bool,
               print_spec: bool) -> None:
        spec.check()
        self.spec, self.pretrain, self.fc_lr5 = spec, pretrain, fc_lr5
        self._frozen: set[str] = set()  # keys in base_model of what partialBN froze
        self.frozen_stages: list[str] = []
        backbone = find_backbone(spec.arch)
        self.input_mean, self.input_std = self._input_statistics(backbone)
        self.base_model = build_backbone(spec.arch, pretrain)
        if spec.modality != "RGB":
            inflate_first_conv(self.base_model, spec.frame_channels)
        if spec.shift:
            self._insert_shift(inplace)
        if spec.non_local:
            make_non_local(self.base_model, segments_per_layer(spec.num_segments, spec.temporal_pool),
                           spec.non_local_type)
        if spec.temporal_pool:
            make_temporal_pool(self.base_model, spec.num_segments)
        self._replace_head(backbone.head)
        self.consensus = ConsensusModule(spec.consensus_type)
        # By name, because SyncBatchNorm may take their place, and that of the BatchNorm3d in non-local blocks.
        self._norm_names = [name for name, module in self.base_model.named_modules() if isinstance(module, nn.BatchNorm2d)]
        self.partialBN(partial_bn)
        if print_spec:
            log.info("TSN: %s, %s, %d segments, %s consensus, dropout %g", spec.arch, spec.modality, spec.num_segments,
                     spec.consensus_type, spec.dropout)

    def _input_statistics(self, backbone: Backbone) -> tuple[list[float], list[float]]:
        """The published mean and std of the input's channels, in the backbone's value range."""
        mean, std = list(backbone.mean), list(backbone.std)
        if self.modality == "Flow":
            return ([128.0], std[:1]) if backbone.value_range == 255 else ([0.5], [sum(std) / len(std)])
        if self.modality == "RGBDiff":
            if backbone.value_range == 255:
                return mean * frames_per_segment(self.modality, self.new_length), std
            return mean + [0.0] * 3 * self.new_length, std + [sum(std) / len(std) * 2] * 3 * self.new_length
        return mean, std

    def _insert_shift(self, inplace: bool) -> None:
        spec = self.spec
        options: dict[str, Any] = {"n_div": spec.shift_div, "inplace": inplace, "direction": spec.shift_direction}
        if spec.temporal_pool:
            options["temporal_pool"] = True
        backbone = find_backbone(spec.arch)
        if spec.shift_stages:
            chosen = backbone.numbered_stages(spec.shift_stages)
            options["only"] = lambda name: backbone.in_stages(name, chosen)
        backbone.shift.insert(self.base_model, spec.num_segments, spec.place, **options)

    def _replace_head(self, head: str) -> None:
        """Put dropout in the head's place and the classifier behind the backbone; without dropout, the classifier there."""
        features = getattr(self.base_model, head).in_features
        classifier = nn.Linear(features, self.num_class)
        nn.init.normal_(classifier.weight, 0, 0.001)
        nn.init.constant_(classifier.bias, 0)
        setattr(self.base_model, head, classifier if self.dropout == 0 else nn.Dropout(self.dropout))
        self.new_fc = None if self.dropout == 0 else classifier

    # ---- partial BatchNorm (TSN, sec. 3.3) ----------------------------------------------------------------

    def partialBN(self, enable: bool) -> None:
        """Freeze (True) or train (False) every BatchNorm2d but the first.

        Weights and biases freeze and thaw at once, running statistics at the next `train()`. `train()` itself leaves
        requires_grad alone, because DistributedDataParallel notes what learns when it wraps the model. Only what this
        method froze is thawed: norms that the caller froze stay frozen.
        """
        self._enable_pbn = enable
        for name, norm in self._partial_norms():
            for key, parameter in norm.named_parameters(prefix=name):
                if enable and parameter.requires_grad:
                    self._frozen.add(key)
                    parameter.requires_grad_(False)
                elif not enable and key in self._frozen:
                    self._frozen.remove(key)
                    parameter.requires_grad_(True)

    def _partial_norms(self) -> list[tuple[str, nn.Module]]:
        return [(name, self.base_model.get_submodule(name)) for name in self._norm_names[1:]]

    def train(self, mode: bool = True) -> "TSN":
        super().train(mode)
        if self._enable_pbn:
            for _, norm in self._partial_norms():
                norm.eval()
        for module in self._frozen_modules():
            module.eval()
        return self

    # ---- frozen stages ------------------------------------------------------------------------------------

    def freeze(self, stages: str) -> None:
        """Freeze the first stages of the backbone for good: neither their weights nor their running statistics change.

        stages: see `ops.backbones.Backbone.first_stages`. Non-local blocks belong to their stage. To be called before
        `get_optim_policies`, and before DistributedDataParallel wraps the model.
        """
        self.frozen_stages = find_backbone(self.spec.arch).first_stages(stages)
        for module in self._frozen_modules():
            module.requires_grad_(False)
        self._frozen = {key for key in self._frozen if not self._in_frozen_stage(key)}  # partialBN must not thaw them
        self.train(self.training)

    def _frozen_modules(self) -> list[nn.Module]:
        return [module for name, module in self.base_model.named_modules() if self._in_frozen_stage(name)]

    def _in_frozen_stage(self, name: str) -> bool:
        return find_backbone(self.spec.arch).in_stages(name, self.frozen_stages)

    def get_optim_policies(self) -> list[dict[str, Any]]:
        """The published optimizer groups: `params`, `name`, and factors of the learning rate and the weight decay."""
        groups: dict[str, list] = {name: [] for name in _GROUPS}
        convs = norms = 0
        frozen = set(self._frozen_modules())
        for module in self.modules():
            # Frozen layers are left out, but count, so that no other one becomes the first.
            own = [] if module in frozen else list(module.parameters(recurse=False))
            if isinstance(module, (nn.Conv1d, nn.Conv2d, nn.Conv3d)):
                convs += 1
                kind = "first_conv" if convs == 1 else "normal"
                groups[f"{kind}_weight"].extend(own[:1])
                groups[f"{kind}_bias"].extend(own[1:])
            elif isinstance(module, nn.Linear):
                groups["lr5_weight" if self.fc_lr5 else "normal_weight"].extend(own[:1])
                groups["lr10_bias" if self.fc_lr5 else "normal_bias"].extend(own[1:])
            elif isinstance(module, nn.BatchNorm2d):
                norms += 1
                groups["BN scale/shift"].extend(own if norms == 1 or not self._enable_pbn else [])
            elif isinstance(module, nn.BatchNorm3d):  # in non-local blocks: new layers, which partial BN leaves out
                groups["BN scale/shift"].extend(own)
            else:
                assert not own, f"{type(module)} has parameters but no learning policy"
        # published behaviour: a first layer inflated from RGB to flow has the most to learn.
        faster = 5 if self.modality == "Flow" else 1
        return [{"params": groups[name], "name": name, "lr_mult": lr * (faster if "first_conv" in name else 1),
                 "decay_mult": decay} for name, (lr, decay) in _GROUPS.items()]

    # ---- forward ------------------------------------------------------------------------------------------

    def forward(self, input: Tensor, no_reshape: bool = False) -> Tensor:
        """(N, T*C, H, W), (N, T, C, H, W) or (N*T, C, H, W) -> (N, num_class), for "identity" (N, T, num_class).

        no_reshape: the input is (N*T, C, H, W) already and is passed to the backbone unchanged.
        """
        frames = input if no_reshape else self.to_frames(input)
        scores = self.base_model(frames)  # (N*T, num_class), or with dropout (N*T, features)
        if self.new_fc is not None:
            scores = self.new_fc(scores)
        return self._consensus(scores)

    def forward_features(self, input: Tensor, no_reshape: bool = False) -> Tensor:
        """The input of `forward` -> what the classifier sees of each frame: pooled features (N, T, features).

        Of a network with a temporal pool, T is halved. Dropout is left out, also in training. `forward_head` makes logits
        of them: in evaluation mode, the same as `forward`'s to the last bit.
        """
        frames = input if no_reshape else self.to_frames(input)
        head = find_backbone(self.spec.arch).head
        return without_head(self.base_model, head)(frames).unflatten(0, (-1, self.out_segments))

    def forward_head(self, features: Tensor) -> Tensor:
        """Features (N, T, features) of `forward_features` -> the output of `forward`."""
        scores = getattr(self.base_model, find_backbone(self.spec.arch).head)(features.flatten(0, 1))
        return self._consensus(scores if self.new_fc is None else self.new_fc(scores))

    def _consensus(self, scores: Tensor) -> Tensor:
        """The scores of all frames (N*T, num_class) -> the output of `forward`."""
        if not self.before_softmax:
            scores = scores.softmax(dim=-1)
        scores = self.consensus(scores.unflatten(0, (-1, self.out_segments)))
        # By the options, because a trace has no sizes. ONNX squeezes only a size of 1, and refuses others.
        return scores.squeeze(1) if self.consensus_type == "avg" or self.out_segments == 1 else scores

    @property
    def out_segments(self) -> int:
        """T in the backbone's output."""
        return pooled_segments(self.num_segments) if self.temporal_pool else self.num_segments

    def to_frames(self, input: Tensor) -> Tensor:
        """Any form of input that `forward` takes -> (N*T, frame_channels, H, W)."""
        size = tuple(input.shape[-2:])
        if self.modality != "RGBDiff":
            return input.reshape((-1, self.frame_channels) + size)
        images = input.reshape((-1, frames_per_segment(self.modality, self.new_length), 3) + size)
        return images.diff(dim=1).flatten(1, 2)

    # ---- the input ----------------------------------------------------------------------------------------

    @property
    def scale_size(self) -> int:
        """The shorter side of frames before the crop, pixels."""
        return self.input_size * 256 // 224

    @property
    def preprocessing(self) -> Preprocessing:
        """From uint8 frames to the input of `forward`. published behaviour: RGBDiff is not normalized."""
        mean, std = ([0.0], [1.0]) if self.modality == "RGBDiff" else (self.input_mean, self.input_std)
        backbone = find_backbone(self.spec.arch)
        return Preprocessing(tuple(mean), tuple(std), backbone.color, backbone.value_range, self.scale_size,
                             self.crop_size)

    def get_augmentation(self, flip: bool = True) -> transforms.Compose:
        """The published training augmentation: a multi-scale crop and, if `flip`, one draw per clip of its mirror image."""
        scales = [1, .875, .75, .66] if self.modality == "RGB" else [1, .875, .75]
        steps: list[Any] = [GroupMultiScaleCrop(self.input_size, scales)]
        if flip:
            steps.append(GroupRandomHorizontalFlip(is_flow=self.modality == "Flow"))
        return transforms.Compose(steps)


def without_head(net: nn.Module, head: str) -> nn.Module:
    """`net` with its layers and weights, which are shared, but without the layer `head`: it returns that layer's input."""
    copied = copy.copy(net)
    copied._modules = {**net._modules, head: nn.Identity()}
    return copied


# name: (factor of the learning rate, of the weight decay)
_GROUPS = {"first_conv_weight": (1, 1), "first_conv_bias": (2, 0), "normal_weight": (1, 1), "normal_bias": (2, 0),
           "BN scale/shift": (1, 0), "custom_ops": (1, 1), "lr5_weight": (5, 1), "lr10_bias": (10, 0)}
