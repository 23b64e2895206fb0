"""The training recipes: one record per training script in scripts/, which spells it out as a command line.

tests/programs/test_scripts.py keeps the two equal. Data sets name their recipe in `ops.dataset_config`.
"""
from dataclasses import asdict, dataclass, replace
from typing import Any, Mapping, Optional


@dataclass(frozen=True)
class Recipe:
    """One script's settings; the fields are main.py's options of the same names, the defaults what most scripts share.

    name: the script's file name without `.sh`. dropout: drop probability before the classifier. clip_gradient: largest
    norm. tune_from: the released model (`ops.checkpoints.model_zoo`) whose weights the run starts from. lr_steps: epochs
    after which the learning rate drops to a tenth; () for lr_type cos.
    """
    name: str
    dataset: str
    lr: float
    weight_decay: float
    batch_size: int
    epochs: int = 50
    lr_steps: tuple[int, ...] = (20, 40)
    lr_type: str = "step"
    modality: str = "RGB"
    arch: str = "resnet50"
    num_segments: int = 8
    shift: bool = True
    dense_sample: bool = False
    non_local: bool = False
    no_partialbn: bool = True
    dropout: float = 0.5
    clip_gradient: float = 20
    input_size: int = 224
    pretrain: str = "imagenet"
    tune_from: Optional[str] = None

    @property
    def script(self) -> str:
        return f"scripts/{self.name}.sh"

    def options(self) -> dict[str, Any]:
        """main.py's options -> their values."""
        return {key: value for key, value in asdict(self).items() if key != "name"}

    def differences(self, options: Mapping[str, Any]) -> list[str]:
        """`lr 0.001 (0.01)` for each setting of the learning that differs in main.py's `options`; (...) is the recipe's."""
        return [f"{name} {_format(options[name])} ({_format(getattr(self, name))})"
                for name in ("lr", "weight_decay", "epochs", "batch_size", "no_partialbn")
                if options[name] != getattr(self, name)]


def _format(value: float) -> str:
    return ("off", "on")[value] if isinstance(value, bool) else f"{value:g}"


# main.py's `recipe` -> defaults of its options that differ from the published ones. warmup_epochs None: a tenth of the
# epochs, at most 5. precise_bn: where BatchNorm trains. Normalization layers have no weight decay in any recipe.
DEFAULTS: dict[str, dict[str, Any]] = {
    "published": {},
    "modern": {"nesterov": True, "warmup_epochs": None, "lr_type": "cos", "lr_update": "step", "loss_type": "smooth",
               "label_smoothing": 0.1, "mixup": 0.2, "precise_bn": 50}}

_KINETICS = Recipe("train_tsm_kinetics_rgb_8f", "kinetics", lr=0.02, weight_decay=1e-4, batch_size=128)
_DENSE = replace(_KINETICS, name="train_tsm_kinetics_rgb_8f_dense", dense_sample=True, epochs=100, lr_steps=(40, 80))
_SOMETHING = Recipe("train_tsm_something_rgb_8f", "something", lr=0.01, weight_decay=5e-4, batch_size=64)
_SOMETHINGV2 = replace(_SOMETHING, name="train_tsm_somethingv2_rgb_8f", dataset="somethingv2")
_UCF101 = Recipe("finetune_tsm_ucf101_rgb_8f", "ucf101", lr=0.001, weight_decay=5e-4, batch_size=64, epochs=25,
                 lr_steps=(10, 20), no_partialbn=False, dropout=0.8,
                 tune_from="TSM_kinetics_RGB_resnet50_shift8_blockres_avg_segment8_e50")
_GESTURES = Recipe("quickstart", "gestures", lr=0.02, weight_decay=5e-4, batch_size=16, epochs=5, lr_steps=(),
                   lr_type="cos", arch="resnet18", num_segments=4, dropout=0.2, clip_gradient=1, input_size=48,
                   pretrain="none")

RECIPES: dict[str, Recipe] = {recipe.name: recipe for recipe in (
    _KINETICS,
    replace(_KINETICS, name="train_tsm_kinetics_rgb_16f", num_segments=16),
    replace(_KINETICS, name="train_tsn_kinetics_rgb_5f", num_segments=5, shift=False),
    _DENSE,
    replace(_DENSE, name="train_tsm_kinetics_rgb_8f_dense_nl", non_local=True),
    replace(_DENSE, name="train_tsm_kinetics_mobilenetv2_8f_dense", arch="mobilenetv2"),
    _SOMETHING,
    replace(_SOMETHING, name="train_tsm_something_rgb_16f", num_segments=16),
    replace(_SOMETHING, name="train_tsn_something_rgb_8f", shift=False),
    replace(_SOMETHING, name="train_tsm_something_flow_8f", modality="Flow"),
    _SOMETHINGV2,
    replace(_SOMETHINGV2, name="train_tsm_somethingv2_rgb_16f", num_segments=16),
    replace(_SOMETHING, name="train_tsm_jester_rgb_8f", dataset="jester"),
    _UCF101,
    replace(_UCF101, name="finetune_tsm_hmdb51_rgb_8f", dataset="hmdb51"),
    _GESTURES,
)}
