"""The registry of data sets: where each one's lists and frames are under one root, its classes, its recipe.

Users register their own data sets in a `datasets.yaml` instead (`ops.prepare.user_file`).
"""
import logging
import os
import re
import shlex
import unicodedata
from dataclasses import dataclass
from pathlib import Path
from typing import Callable, Iterator, Optional, Sequence, Union

from ops.common.choices import find_choice, suggestion
from ops.common.errors import UserError, shown
from ops.data.inputs import listed_inputs
from ops.data.list_files import read_list
from ops.prepare.user_file import UserDataSet, read_dataset_file
from ops.recipes import RECIPES, Recipe

log = logging.getLogger(__name__)
DATASET_FILE = Path(__file__).resolve().parents[1] / "datasets.yaml"


@dataclass(frozen=True)
class Files:
    """Where one modality's data is: frame root and lists relative to the data sets' root, and a frame's file name."""
    frames: str
    train_list: str
    val_list: str
    template: str


@dataclass(frozen=True)
class Setup:
    """How a download becomes the frames and lists of a row: the programs in tools/, without `tools/` and `.py`.

    labels: directory of the download's label files, relative to the root. lists: writes the lists. extract: makes frames
    of the videos; None where the download consists of frames. flow_layout: see `ops.prepare.optical_flow`.
    """
    labels: str
    lists: str
    extract: Optional[str]
    flow_layout: str


@dataclass(frozen=True)
class DataSet:
    """One row of the table.

    num_class: used when the file of class names is absent. files: modality -> its files. categories: the file of class
    names, one per line. recipe: the published training recipe.
    swaps: pairs of labels that a mirrored video exchanges; None where the class names decide (left and right, clockwise
    and counterclockwise), () where no class has a direction. published_names: the classes in published order, where the
    pairs depend on them. prepare: creates the data under the root on first use. setup: makes it from a download.
    multi_label: a video has any number of classes, not just one.
    """
    num_class: int
    files: dict[str, Files]
    categories: Optional[str] = None
    recipe: Optional[Recipe] = None
    swaps: Optional[tuple[tuple[int, int], ...]] = None
    published_names: Optional[tuple[str, ...]] = None
    prepare: Optional[Callable[[Path], None]] = None
    setup: Optional[Setup] = None
    multi_label: bool = False


def _prepare_gestures(root: Path) -> None:
    from ops.prepare.gestures.dataset import prepare_gestures  # OpenCV and PyAV: slow to import, seldom needed
    prepare_gestures(root)


# In the published order.
JESTER_CLASSES = (
    "Doing other things", "Drumming Fingers", "No gesture", "Pulling Hand In", "Pulling Two Fingers In",
    "Pushing Hand Away", "Pushing Two Fingers Away", "Rolling Hand Backward", "Rolling Hand Forward", "Shaking Hand",
    "Sliding Two Fingers Down", "Sliding Two Fingers Left", "Sliding Two Fingers Right", "Sliding Two Fingers Up",
    "Stop Sign", "Swiping Down", "Swiping Left", "Swiping Right", "Swiping Up", "Thumb Down", "Thumb Up",
    "Turning Hand Clockwise", "Turning Hand Counterclockwise", "Zooming In With Full Hand",
    "Zooming In With Two Fingers", "Zooming Out With Full Hand", "Zooming Out With Two Fingers",
)

DATASETS: dict[str, DataSet] = {
    "ucf101": DataSet(
        101, {"RGB": Files("UCF101/jpg", "UCF101/file_list/ucf101_rgb_train_split_1.txt",
                           "UCF101/file_list/ucf101_rgb_val_split_1.txt", "img_{:05d}.jpg"),
              "Flow": Files("UCF101/jpg", "UCF101/file_list/ucf101_flow_train_split_1.txt",
                            "UCF101/file_list/ucf101_flow_val_split_1.txt", "flow_{}_{:05d}.jpg")},
        categories="UCF101/labels/classInd.txt", recipe=RECIPES["finetune_tsm_ucf101_rgb_8f"],
        setup=Setup("UCF101/labels", "gen_label_ucf101", "vid2img_kinetics", "ucf"), swaps=()),
    "hmdb51": DataSet(
        51, {"RGB": Files("HMDB51/images", "HMDB51/splits/hmdb51_rgb_train_split_1.txt",
                          "HMDB51/splits/hmdb51_rgb_val_split_1.txt", "img_{:05d}.jpg"),
             "Flow": Files("HMDB51/images", "HMDB51/splits/hmdb51_flow_train_split_1.txt",
                           "HMDB51/splits/hmdb51_flow_val_split_1.txt", "flow_{}_{:05d}.jpg")},
        categories="HMDB51/splits/category.txt", recipe=RECIPES["finetune_tsm_hmdb51_rgb_8f"],
        setup=Setup("HMDB51/splits", "gen_label_hmdb51", "vid2img_kinetics", "ucf"), swaps=()),
    "something": DataSet(
        174, {"RGB": Files("something/v1/20bn-something-something-v1", "something/v1/train_videofolder.txt",
                           "something/v1/val_videofolder.txt", "{:05d}.jpg"),
              "Flow": Files("something/v1/20bn-something-something-v1-flow",
                            "something/v1/train_videofolder_flow.txt", "something/v1/val_videofolder_flow.txt",
                            "{:06d}-{}_{:05d}.jpg")},
        categories="something/v1/category.txt", recipe=RECIPES["train_tsm_something_rgb_8f"],
        setup=Setup("something/v1", "gen_label_sthv1", None, "something_v1"),
        swaps=((2, 4), (30, 41), (52, 66))),
    "somethingv2": DataSet(
        174, {"RGB": Files("something/v2/20bn-something-something-v2-frames", "something/v2/train_videofolder.txt",
                           "something/v2/val_videofolder.txt", "{:06d}.jpg"),
              "Flow": Files("something/v2/20bn-something-something-v2-flow",
                            "something/v2/train_videofolder_flow.txt", "something/v2/val_videofolder_flow.txt",
                            "{:06d}.jpg")},
        categories="something/v2/category.txt", recipe=RECIPES["train_tsm_somethingv2_rgb_8f"],
        setup=Setup("something/v2", "gen_label_sthv2", "vid2img_sthv2", "rgb"),
        swaps=((86, 87), (93, 94), (166, 167))),
    "jester": DataSet(
        27, {"RGB": Files("jester/20bn-jester-v1", "jester/train_videofolder.txt", "jester/val_videofolder.txt",
                          "{:05d}.jpg"),
             "Flow": Files("jester/20bn-jester-v1-flow", "jester/train_videofolder_flow.txt",
                           "jester/val_videofolder_flow.txt", "flow_{}_{:05d}.jpg")},
        categories="jester/category.txt", recipe=RECIPES["train_tsm_jester_rgb_8f"],
        setup=Setup("jester", "gen_label_jester", None, "ucf"), published_names=JESTER_CLASSES),
    "kinetics": DataSet(
        400, {"RGB": Files("kinetics/images", "kinetics/labels/train_videofolder.txt",
                           "kinetics/labels/val_videofolder.txt", "img_{:05d}.jpg"),
              "Flow": Files("kinetics/flow", "kinetics/labels/train_videofolder_flow.txt",
                            "kinetics/labels/val_videofolder_flow.txt", "flow_{}_{:05d}.jpg")},
        categories="kinetics/labels/category.txt", recipe=RECIPES["train_tsm_kinetics_rgb_8f"],
        setup=Setup("kinetics/labels", "gen_label_kinetics", "vid2img_kinetics", "ucf"), swaps=()),
    "gestures": DataSet(
        8, {"RGB": Files("gestures/frames", "gestures/train_videofolder.txt", "gestures/val_videofolder.txt",
                         "{:06d}.jpg"),
            "Flow": Files("gestures/flow", "gestures/train_videofolder_flow.txt",
                          "gestures/val_videofolder_flow.txt", "flow_{}_{:05d}.jpg")},
        categories="gestures/category.txt", recipe=RECIPES["quickstart"], prepare=_prepare_gestures),
}


@dataclass(frozen=True)
class DatasetPaths:
    """A data set on this machine: what `ops.data.tsn_dataset.TSNDataSet` needs of it.

    class_names: None where no file has them. frames: the directory that the lists' paths are relative to. template: file
    name of a frame. entry: its row of the table. categories: the file of class names, if the table has one. multi_label: a
    video has any number of classes, not just one.
    """
    name: str
    num_class: int
    class_names: Optional[list[str]]
    train_list: Path
    val_list: Path
    frames: Path
    template: str
    entry: DataSet
    categories: Optional[Path] = None
    multi_label: bool = False

    def inputs(self) -> Iterator[Path]:
        """Every file and directory that the data set may be read from, with all that its lists name. Some may not exist."""
        if self.categories is not None:
            yield self.categories
        yield from listed_inputs(filter(os.path.exists, (self.train_list, self.val_list)), self.frames)


def dataset_root(root: Optional[str] = None) -> Path:
    """The directory that the table's paths are relative to: `root`, else $TSM_ROOT, else ./data."""
    return Path(root or os.environ.get("TSM_ROOT") or "data")


def resolve_dataset(name: str, modality: str, root: Optional[str] = None, *, train_list: str = "", val_list: str = "",
                    root_path: str = "", dataset_file: Optional[str] = None, needed: Sequence[str] = ()) -> DatasetPaths:
    """The paths and classes of a data set. UserError for an unknown name (`find_dataset`).

    root: see `dataset_root`. train_list, val_list, root_path: replace the table's paths where given. dataset_file: the
    yaml file of the user's own data sets (default: datasets.yaml in the repository's root). needed: "train_list", "val_list"
    or both, for the lists that must exist.
    """
    replaced = {"train_list": train_list, "val_list": val_list, "root": root_path}
    name, own = find_dataset(name, dataset_file)
    if own:
        own.check_paths(*(key for key, path in replaced.items() if path))
    entry = _own_entry(own) if own else DATASETS[name]
    kind = "RGB" if modality == "RGBDiff" else modality
    if kind not in entry.files:
        raise UserError(f"data set {name!r} has no {modality} data: choose {' or '.join(entry.files)} or RGBDiff")
    files = entry.files[kind]
    base = dataset_root(root)
    if entry.prepare and not root_path:
        entry.prepare(base)
    lists = {"train_list": Path(train_list or base / files.train_list),
             "val_list": Path(val_list or base / files.val_list)}
    for key in needed:
        if not lists[key].is_file():
            if entry.setup and key not in [name for name, path in replaced.items() if path]:
                raise _no_data(entry, entry.setup, lists[key], modality=modality, root=root)
            read_list(lists[key], multi_label=None)  # raises the loader's error, but before anything is built
    categories = base / entry.categories if entry.categories else None
    names = read_categories(categories) if categories else None
    return DatasetPaths(name, len(names) if names else entry.num_class, names, **lists,
                        frames=Path(root_path or base / files.frames), template=files.template, entry=entry,
                        categories=categories, multi_label=entry.multi_label)


def find_dataset(name: str, dataset_file: Optional[str] = None) -> tuple[str, Optional[UserDataSet]]:
    """(the data set's name as it is spelled in its table, its row if it is the user's own). Upper and lower case are alike.

    dataset_file: as in `resolve_dataset`. UserError that names all data sets for an unknown one.
    """
    own = user_datasets(dataset_file) if dataset_file or name not in DATASETS else {}
    names = [*DATASETS, *own]
    found = find_choice(name, names)
    if found is None:
        raise UserError(f"unknown data set {name!r}: choose one of {', '.join(names)}, or register your own with"
                        f" tools/make_dataset.py{suggestion(name, names)}")
    return found, own.get(found)


def _no_data(entry: DataSet, setup: Setup, missing: Path, *, modality: str, root: Optional[str]) -> UserError:
    """What to do about a list of a public data set that is not there: the commands, in order."""
    base, rgb = dataset_root(root), entry.files["RGB"]
    frames, elsewhere = _word(base / rgb.frames), f" root_dataset {_word(root)}" if root else ""
    steps = []
    if modality != "Flow" or not (base / rgb.train_list).is_file():
        steps += [f"python tools/{setup.extract}.py VIDEOS {frames}" if setup.extract
                  else f"unpack the download's images into {frames}",
                  f"put its label files into {_word(base / setup.labels)}",
                  f"python tools/{setup.lists}.py{elsewhere}"]
    if modality == "Flow":
        flow = entry.files["Flow"]
        for source, target in ((rgb.train_list, flow.train_list), (rgb.val_list, flow.val_list)):
            steps.append(f"python tools/extract_flow.py {frames} {_word(base / flow.frames)} frames layout"
                         f" {setup.flow_layout} list {_word(base / source)} {_word(base / target)}")
    place = f"{shown(missing)} does not exist; if the data is in another place, set root_dataset or the variable TSM_ROOT"
    return UserError(f"{place}; to make it from the download: " + "; ".join(
        f"({number}) {step}" for number, step in enumerate(steps, 1)),
        "root_dataset", *(("frames", "layout", "list") if modality == "Flow" else ()))


def _word(path: Union[str, Path]) -> str:
    """A path as a word of a shell's command."""
    return shlex.quote(shown(path))


def user_datasets(dataset_file: Optional[str] = None) -> dict[str, UserDataSet]:
    """The data sets of a yaml file, by default of datasets.yaml, which need not exist."""
    if dataset_file is None and not DATASET_FILE.exists():
        return {}
    return read_dataset_file(Path(dataset_file or DATASET_FILE), DATASETS)


def _own_entry(own: UserDataSet) -> DataSet:
    """A user's data set as a row of the table; its paths are absolute, so they do not depend on the table's root."""
    files = Files(str(own.root), str(own.train_list), str(own.val_list), own.template)
    return DataSet(own.num_class or 0, {"RGB": files}, str(own.categories) if own.categories else None,
                   multi_label=own.multi_label)


def is_multi_label(name: str, dataset_file: Optional[str] = None) -> bool:
    """Whether the videos of a data set have any number of classes. UserError for an unknown name."""
    name, own = find_dataset(name, dataset_file)
    return own.multi_label if own else DATASETS[name].multi_label


# ---- classes ------------------------------------------------------------------------------------------------

def read_categories(path: Path) -> Optional[list[str]]:
    """The class names in a category file, one per line, in label order. None: no file.

    A file called classInd*.txt is in UCF101's form, `1 ApplyEyeMakeup`, and its names come without the numbers. In any
    other file the whole line is the name: `1 finger`, `2 fingers`. UserError for an empty file, and for names that occur
    twice or differ only in how Unicode spells an accent.
    """
    try:
        text = unicodedata.normalize("NFC", path.read_text(encoding="utf-8-sig"))
        lines = [line.strip() for line in text.splitlines() if line.strip()]
    except FileNotFoundError:
        log.info("no class names: there is no %s", path)
        return None
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"cannot read the class names in {path}: {error}") from None
    if not lines:
        raise UserError(f"the file of class names {path} is empty: make it again with tools/gen_label_*.py")
    numbered = (path.name.lower().startswith("classind")
                and all(line.split()[0] == str(i) and len(line.split()) > 1 for i, line in enumerate(lines, 1)))
    names = [line.split(maxsplit=1)[1] for line in lines] if numbered else lines
    if len(set(names)) < len(names):
        twice = next(name for number, name in enumerate(names) if name in names[:number])
        raise UserError(f"the file of class names {path} has {shown(twice)!r} twice: every class needs a name of its own")
    return names


def mirror_labels(data: DatasetPaths, trained: Optional[list[str]] = None) -> Optional[list[int]]:
    """label -> label of the mirrored video; None where it is unknown (no class names, no published pairs).

    trained: a checkpoint's class names, used where the data set has no file of class names.
    """
    # The published pairs and names hold only for the published list of classes; another list is judged by its names.
    published = data.num_class == data.entry.num_class
    pairs = data.entry.swaps if published else None
    names = data.class_names or trained or (data.entry.published_names if published else None)
    if pairs is None:
        if not names:
            return None
        pairs = swaps_by_names(names)
    swapped = list(range(data.num_class))
    for a, b in pairs:
        swapped[a], swapped[b] = b, a
    return swapped


_OPPOSITES = {"left": "right", "right": "left", "clockwise": "counterclockwise", "counterclockwise": "clockwise"}


def swaps_by_names(names: Sequence[str]) -> tuple[tuple[int, int], ...]:
    """Pairs of classes whose names differ only in the words left and right, or clockwise and counterclockwise."""
    words = [re.findall(r"\w+", name.lower()) for name in names]
    mirrored = [[_OPPOSITES.get(word, word) for word in row] for row in words]
    return tuple((i, words.index(row)) for i, row in enumerate(mirrored) if row in words and words.index(row) > i)


# ---- published interface ------------------------------------------------------------------------------------

def return_dataset(dataset: str, modality: str) -> tuple[int, str, str, str, str]:
    """(number of classes, training list, validation list, frame root, file name of a frame), as published."""
    found = resolve_dataset(dataset, modality)
    return found.num_class, str(found.train_list), str(found.val_list), str(found.frames), found.template
