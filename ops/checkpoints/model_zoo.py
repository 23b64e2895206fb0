"""The released TSM models: names, published accuracies, and their files in the cache directory."""
import difflib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Optional, Union

from ops.checkpoints.download import DownloadFailed, check_hash, download
from ops.common.errors import UserError
from ops.common.files import cache_directory

BASE_URL = "https://hanlab18.mit.edu/projects/tsm/models"
ONLINE_JESTER = "mobilenetv2_jester_online.pth.tar"


# ---- the table ----------------------------------------------------------------------------------------------

@dataclass(frozen=True)
class Score:
    """One published accuracy, in percent.

    protocol: in the publisher's words. option: (name, value) of the option of test_models.py that asks for it.
    """
    protocol: str
    option: tuple[str, str]
    top1: float
    top5: Optional[float] = None


@dataclass(frozen=True)
class ZooModel:
    """A released file. segments: frames per clip in the published tests. scores: those of the published README."""
    name: str
    dataset: str
    model: str
    segments: int
    scores: tuple[Score, ...]


def _dense(top1: float) -> Score:
    return Score("10 clips, full resolution", ("protocol", "kinetics-dense"), top1)


def _uniform(center: float, ten: float) -> tuple[Score, Score]:
    return (Score("1 clip, center crop", ("protocol", "efficient"), center),
            Score("1 clip, 10 crops", ("test_crops", "10"), ten))


def _something(efficient: Optional[float], accurate: float) -> tuple[Score, ...]:
    two_clips = Score("2 clips, full resolution", ("protocol", "accurate"), accurate)
    return (two_clips,) if efficient is None else (
        Score("1 clip, center crop", ("protocol", "efficient"), efficient), two_clips)


_KINETICS, _SHIFT = "TSM_kinetics_RGB_resnet50", "shift8_blockres_avg"
MODEL_ZOO: tuple[ZooModel, ...] = (
    ZooModel(f"{_KINETICS}_avg_segment5_e50.pth", "kinetics", "TSN ResNet50 (2D)", 8,
             (_dense(70.6), *_uniform(68.8, 69.9))),
    ZooModel(f"{_KINETICS}_{_SHIFT}_segment8_e100_dense.pth", "kinetics", "TSM ResNet50", 8, (_dense(74.1),)),
    ZooModel(f"{_KINETICS}_{_SHIFT}_segment8_e100_dense_nl.pth", "kinetics", "TSM ResNet50 NL", 8, (_dense(75.6),)),
    ZooModel(f"TSM_kinetics_RGB_mobilenetv2_{_SHIFT}_segment8_e100_dense.pth", "kinetics", "TSM MobileNetV2", 8,
             (_dense(69.5),)),
    ZooModel(f"{_KINETICS}_{_SHIFT}_segment8_e50.pth", "kinetics", "TSM ResNet50", 8, _uniform(71.2, 72.8)),
    ZooModel(f"{_KINETICS}_{_SHIFT}_segment16_e50.pth", "kinetics", "TSM ResNet50", 16, _uniform(72.6, 73.7)),
    ZooModel(f"TSM_kinetics_Flow_resnet50_{_SHIFT}_segment8_e50.pth", "kinetics", "TSM ResNet50 Flow", 8,
             (Score("1 clip", ("protocol", "efficient"), 55.7, 79.5),)),
    ZooModel(f"TSM_something_RGB_resnet50_{_SHIFT}_segment8_e45.pth", "something", "TSM ResNet50", 8,
             _something(45.6, 47.2)),
    ZooModel(f"TSM_something_RGB_resnet50_{_SHIFT}_segment16_e45.pth", "something", "TSM ResNet50", 16,
             _something(47.2, 48.4)),
    ZooModel(f"TSM_something_RGB_resnet101_{_SHIFT}_segment8_e45.pth", "something", "TSM ResNet101", 8,
             _something(46.9, 48.7)),
    ZooModel(f"TSM_somethingv2_RGB_resnet50_{_SHIFT}_segment8_e45.pth", "somethingv2", "TSM ResNet50", 8,
             _something(None, 61.2)),
    ZooModel(f"TSM_somethingv2_RGB_resnet50_{_SHIFT}_segment16_e45.pth", "somethingv2", "TSM ResNet50", 16,
             _something(None, 63.1)),
    ZooModel(f"TSM_somethingv2_RGB_resnet101_{_SHIFT}_segment8_e45.pth", "somethingv2", "TSM ResNet101", 8,
             _something(None, 63.3)),
    ZooModel(ONLINE_JESTER, "jester", "TSM MobileNetV2 online", 1, ()),
)


def find_model(name: str) -> ZooModel:
    """The row of the model called `name`, with or without its extension. UserError when there is none."""
    for row in MODEL_ZOO:
        if name in (row.name, row.name.split(".")[0]):
            return row
    near = difflib.get_close_matches(name, [row.name for row in MODEL_ZOO], n=1, cutoff=0.4)
    raise UserError(f"no released model is called {name!r}: " + (f"did you mean {near[0]}?" if near else
                    "docs/models.md lists the names"))


# ---- files ----------------------------------------------------------------------------------------------------

def find_weights(name: Union[str, Path]) -> Path:
    """The file of a checkpoint given by its path or by the name of a released model, which is fetched."""
    path = Path(name)
    released = str(name) in {known for row in MODEL_ZOO for known in (row.name, row.name.split(".")[0])}
    return fetch(str(name)) if released and not path.exists() else path


def cached_file(name: str) -> Path:
    """The path of the file `name` in the cache directory, whether or not it exists."""
    return cache_directory() / name


def base_url(url: Optional[str] = None) -> str:
    """The address of the directory of files: `url`, else $TSM_MODELS_URL, else the publisher's."""
    return (url or os.environ.get("TSM_MODELS_URL") or BASE_URL).rstrip("/")


def fetch(name: str, url: Optional[str] = None) -> Path:
    """The released file `name` in the cache: downloaded if it is not there, and checked.

    url: address of a mirror, without the file's name. UserError when the file cannot be downloaded (the message gives
    the path where a copy may be put), is not a checkpoint, or differs from the file of the first time.
    """
    path = cached_file(find_model(name).name)
    if not path.exists():
        address = f"{base_url(url)}/{path.name}"
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            download(address, path)
        except DownloadFailed as error:
            raise UserError(f"cannot download {address}: {error}: put a copy of the file at {path}, or name a mirror with"
                            " TSM_MODELS_URL") from None
        except OSError as error:
            raise UserError(f"cannot write {path}: {error.strerror or error}: name another directory with TSM_CACHE"
                            ) from None
    check_hash(path)
    return path
