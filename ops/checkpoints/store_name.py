"""The published names of runs and files: written by `store_name`, read back by `parse_name`.

TSM_<dataset>_<modality>_<arch>[_shift<div>_<place>[_uni][_stages<numbers>]][_tpool]_<consensus>_segment<T>_e<epochs>,
then, where they apply, _<pretrain>, _<lr_type>, _dense, _nl, _<suffix>.
"""
import re
from pathlib import Path
from typing import Any, Optional

from ops.common.errors import UserError, shown
from ops.spec import ModelSpec

NAME_FORM = "TSM_<dataset>_<modality>_<arch>_..."
_NAME = re.compile(
    r"TSM_(?P<dataset>.+?)_(?P<modality>RGBDiff|RGB|Flow)_(?P<arch>[^_]+)"
    r"(?:_shift(?P<div>\d+)_(?P<place>blockres|block|[01]{12})(?P<uni>_uni)?(?:_stages(?P<stages>[1-9]+))?)?"
    r"(?P<tpool>_tpool)?"
    r"_(?P<consensus>avg|identity)_segment(?P<segments>\d+)(?:_e\d+)?(?P<rest>(?:_[^_]+)*)$")


def store_name(spec: ModelSpec, dataset: str, epochs: int, *, pretrain: str = "imagenet",
               lr_type: str = "step", dense_sample: bool = False, suffix: Optional[str] = None) -> str:
    """The published directory name of a run. UserError for a suffix that cannot be part of a name (`check_suffix`)."""
    check_suffix(suffix)
    direction = "_uni" if spec.shift_direction == "unidirectional" else ""
    stages = f"_stages{spec.shift_stages.replace(',', '')}" if spec.shift_stages else ""
    parts = ["TSM", dataset, spec.modality, spec.arch,
             f"shift{spec.shift_div}_{spec.place}{direction}{stages}" if spec.shift else "",
             "tpool" if spec.temporal_pool else "", spec.consensus_type, f"segment{spec.num_segments}", f"e{epochs}",
             "" if pretrain == "imagenet" else _file_stem(pretrain), lr_type if lr_type != "step" else "",
             "dense" if dense_sample else "", "nl" if spec.non_local else "", suffix or ""]
    return "_".join(part for part in parts if part)


def check_suffix(suffix: Optional[str]) -> None:
    """UserError for a suffix that would make a path of the name: with slashes, or with characters that do not print."""
    if suffix and (not suffix.isprintable() or set(suffix) & set("/\\")):
        raise UserError(f"suffix {shown(suffix)[:80]}: choose text without slashes and line breaks: it becomes part of the"
                        " name of a directory", "suffix")


def _file_stem(pretrain: str) -> str:
    """`none`, or the stem of a file of image weights: a directory name cannot hold a path."""
    return pretrain.replace("\\", "/").rsplit("/", 1)[-1].split(".")[0]


def parse_name(path: Path) -> Optional[tuple[str, dict[str, Any]]]:
    """(data set, model options) in a published file name or store name; None for any other name.

    Only the file's own name counts, or for ckpt*.pth.tar its directory's: nothing else in the path.
    """
    name = path.absolute().parent.name if path.name.startswith("ckpt") else path.name
    match = _NAME.match(re.sub(r"(\.best)?\.(pth|pt)(\.tar)?$", "", name))
    if not match:
        return None
    return match["dataset"], {
        "modality": match["modality"], "arch": match["arch"], "shift": match["div"] is not None,
        "shift_div": int(match["div"] or 8), "shift_place": match["place"] or "",
        "shift_direction": "unidirectional" if match["uni"] else "bidirectional",
        "shift_stages": ",".join(match["stages"] or ""),
        "consensus_type": match["consensus"], "num_segments": int(match["segments"]),
        "temporal_pool": bool(match["tpool"]), "non_local": "nl" in match["rest"].split("_")}
