"""Networks in directories, the form in which the Hugging Face hub stores models.

`model.safetensors` holds the weights, which are read without running code; `config.json` the `ModelSpec` as `settings`, the
class names and the preprocessing; `README.md`, the model card, describes the network to people.
"""
import json
import re
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Mapping, Optional, Sequence, Union

from torch import Tensor

from ops.common.errors import UserError, shown
from ops.common.extras import import_extra
from ops.common.files import whole_file
from ops.common.words import counted
from ops.data.preprocessing import Preprocessing
from ops.spec import ModelSpec
from ops.weights import head_keys

CONFIG, WEIGHTS, CARD = "config.json", "model.safetensors", "README.md"
_HUB_NAME = re.compile(r"[\w.-]+/[\w.-]+")


def write_folder(folder: Path, weights: Mapping[str, Tensor], *, spec: ModelSpec, preprocessing: Preprocessing,
                 class_names: Optional[Sequence[str]] = None) -> None:
    """Write the three files; a killed program leaves the old ones or the new ones. CannotWrite where the disk refuses."""
    _check_names(class_names, spec, "class_names")
    safetensors = import_extra("safetensors.torch", "safetensors")
    config = {"settings": spec.to_dict(), "class_names": list(class_names) if class_names else None,
              "preprocessing": preprocessing.to_dict()}
    plain = {key: value.detach().cpu().contiguous() for key, value in weights.items()}
    contents = {WEIGHTS: safetensors.save(plain, metadata={"format": "pt"}),
                CONFIG: (json.dumps(config, indent=2, ensure_ascii=False) + "\n").encode(),
                CARD: _card(spec, preprocessing, class_names).encode()}
    with ExitStack() as stack:
        for name, content in contents.items():
            stack.enter_context(whole_file(Path(folder) / name, durable=True)).write_bytes(content)


def read_folder(folder: Path) -> dict[str, Any]:
    """The entries state_dict, settings, class_names and preprocessing, as in a checkpoint. UserError for a damaged file."""
    config, weights = Path(folder) / CONFIG, Path(folder) / WEIGHTS
    for file in (config, weights):
        if not file.is_file():
            raise UserError(f"{folder} holds no {file.name}: name a file of weights, or a directory that save_pretrained"
                            " wrote")
    try:
        content = json.loads(config.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"{config} is damaged ({error}): write the directory again, or download it again") from None
    if not isinstance(content, dict) or "settings" not in content:
        raise UserError(f"{config} is not a config that save_pretrained wrote: it has no entry settings")
    safetensors = import_extra("safetensors.torch", "safetensors")
    try:
        tensors = safetensors.load_file(weights)
    except (OSError, ValueError, import_extra("safetensors", "safetensors").SafetensorError) as error:
        raise UserError(f"{weights} is not a readable safetensors file: {str(error).splitlines()[0]}") from None
    return {**content, "state_dict": tensors}


def find_folder(name: Union[str, Path], revision: Optional[str] = None) -> Path:
    """The directory of that name; or the copy, in the hub's own cache, of the model `user/name` on the Hugging Face hub.

    revision: a branch, tag or commit there. UserError if there is neither, or the model cannot be fetched.
    """
    folder = Path(name)
    if folder.is_dir():
        return folder
    if not _HUB_NAME.fullmatch(str(name)):
        raise UserError(f"{shown(name)}: no such directory, and no name of a model on the Hugging Face hub, which is"
                        " user/name")
    hub = import_extra("huggingface_hub", "huggingface_hub")
    try:
        return Path(hub.snapshot_download(str(name), revision=revision, allow_patterns=[CONFIG, WEIGHTS]))
    except (OSError, ValueError) as error:
        reason = (str(error) or type(error).__name__).strip().splitlines()[0]
        raise UserError(f"{name} is no directory here, and cannot be fetched from the Hugging Face hub: {reason}") from None


def check_classes(content: Mapping[str, Any], spec: ModelSpec, folder: Path) -> None:
    """UserError if the classifier, or the class names, in the content of a directory are for other classes than the spec."""
    weights = content["state_dict"]
    outputs = {size for key in head_keys(weights) for size in weights[key].shape[:1]}
    if outputs != {spec.num_class}:  # before a network is built, whose memory depends on it
        raise UserError(f"{folder} is damaged: its setting num_class is {spec.num_class}, but its classifier has"
                        f" {', '.join(map(str, sorted(outputs))) or 'no'} outputs")
    _check_names(content.get("class_names"), spec, f"{folder} is damaged: its class_names")


def _check_names(class_names: Any, spec: ModelSpec, what: str) -> None:
    """UserError if there are class names, but not one text for each class."""
    if class_names is None:
        return
    if isinstance(class_names, str) or not all(isinstance(name, str) for name in class_names):
        raise UserError(f"{what}: not a list of texts")
    if len(class_names) != spec.num_class:
        raise UserError(f"{what}: {counted(len(class_names), 'name')} for {counted(spec.num_class, 'class')}")


def _card(spec: ModelSpec, preprocessing: Preprocessing, class_names: Optional[Sequence[str]]) -> str:
    """The model card. It claims no data set, accuracy or license, which nobody but the author knows."""
    kind, size = "TSM" if spec.shift else "TSN", preprocessing.crop_size
    options = "\n".join(f"| {name} | {value} |" for name, value in spec.to_dict().items() if value not in ("", None))
    names = "The names of its classes are unknown."
    if class_names:
        names = "\n".join(["Classes:", "", *(f"{number}. {shown(name)}" for number, name in enumerate(class_names))])
    return f"""---
library_name: pytorch
pipeline_tag: video-classification
tags: [video-classification, {kind.lower()}, {spec.arch}]
---
# {kind}, {spec.arch}, {counted(spec.num_class, "class")}

A network for the classes of videos ([TSM, arXiv:1811.08383](https://arxiv.org/abs/1811.08383)): a clip of
{counted(spec.num_segments, "frame")} in, a score for each class out.

```python
from ops.models import TSN

model = TSN.from_pretrained("DIRECTORY OR USER/NAME").eval()
clips = model.preprocessing.apply(frames)      # uint8 (N, {spec.clip_channels}, {size}, {size})
scores = model(clips)                          # (N, {spec.num_class})
```

The shorter side of a frame is scaled to {preprocessing.scale_size} pixels, and the frame cropped to {size} x {size}.
Its color order is {preprocessing.color}; `config.json` has the mean, the std and the value range.

| option | value |
|---|---|
{options}

{names}
""".rstrip() + "\n"
