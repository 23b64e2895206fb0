"""Annotations of the public data sets: their own label files, parsed into labeled videos and class names.

Each `parse_*(labels)` documents the label files of one data set. labels: the directory of these files. All raise
UserError, with file and line, for files that are missing or malformed. `ops.prepare.list_writer` turns the result into
the list files that training reads.
"""
import csv
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Iterable, Iterator, NamedTuple, Optional

from ops.common.errors import UserError
from ops.prepare.label_files import (
    check_name,
    class_number,
    find_label_file,
    find_optional,
    number_classes,
    read_json,
    read_lines,
    read_text,
)


class Annotation(NamedTuple):
    """One labeled video. directories: where its frames may be, relative to the frame root; the first that exists counts."""
    directories: tuple[str, ...]
    label: int


@dataclass(frozen=True)
class Split:
    """One list to write: its file name, that of the list of videos without frames, and its videos."""
    file: str
    missing_file: str
    videos: list[Annotation]


@dataclass(frozen=True)
class Annotations:
    """A data set's label files. classes: names in label order; None where the label files keep them (UCF101)."""
    splits: list[Split]
    classes: Optional[list[str]]


def _folder_split(split: str, videos: list[Annotation]) -> Split:
    return Split(f"{split}_videofolder.txt", f"missing_{split}.txt", videos)


def _numbered_split(name: str, videos: list[Annotation]) -> Split:
    return Split(f"{name}.txt", f"missing_{name}.txt", videos)


# ---- Something-Something, Jester -----------------------------------------------------------------------------

def parse_sthv1(labels: Path) -> Annotations:
    """Something-Something-V1: `something-something-v1-{labels,train,validation[,test]}.csv`.

    labels: one class per line; classes are numbered in sorted order. train, validation: lines `id;class`.
    test: lines `id`, label 0 in the list.
    """
    return _parse_20bn_csv("something-something-v1", labels)


def parse_jester(labels: Path) -> Annotations:
    """Jester: `jester-v1-{labels,train,validation[,test]}.csv`, in the format of `parse_sthv1`."""
    return _parse_20bn_csv("jester-v1", labels)


def _parse_20bn_csv(prefix: str, labels: Path) -> Annotations:
    label_file = find_label_file(labels, f"{prefix}-labels.csv")
    classes = sorted(text for _, text in read_lines(label_file))
    numbers = number_classes(classes, label_file)
    splits = []
    for split, name in (("train", "train"), ("val", "validation"), ("test", "test")):
        file = (find_label_file if split != "test" else find_optional)(labels, f"{prefix}-{name}.csv")
        if file is not None:
            videos = [_parse_20bn_line(text, numbers, split=split, where=f"{file}, line {number}")
                      for number, text in read_lines(file)]
            splits.append(_folder_split(split, videos))
    return Annotations(splits, classes)


def _parse_20bn_line(text: str, numbers: dict[str, int], *, split: str, where: str) -> Annotation:
    name, _, label = text.partition(";")
    unlabeled = split == "test" and not label
    return Annotation((check_name(name, where),), 0 if unlabeled else class_number(label, numbers, where))


def parse_sthv2(labels: Path) -> Annotations:
    """Something-Something-V2, and data sets in its format: JSON files in `labels` or in its subdirectory `labels/`.

    `something-something-v2-{labels,train,validation[,test]}.json`; the newer release omits the prefix.
    labels: {"Holding something": "0", ...}. The others: [{"id": "78687", "template": "Holding [something]"}, ...];
    a template without its square brackets is a class. test: only `id`, label 0 in the list.
    """
    label_file = find_label_file(labels, *_sthv2_names("labels"))
    classes = _parse_sthv2_classes(label_file)
    numbers = number_classes(classes, label_file)
    splits = []
    for split, name in (("train", "train"), ("val", "validation"), ("test", "test")):
        file = (find_label_file if split != "test" else find_optional)(labels, *_sthv2_names(name))
        if file is not None:
            splits.append(_folder_split(split, list(_parse_sthv2_videos(file, numbers, split))))
    return Annotations(splits, classes)


def _sthv2_names(name: str) -> list[str]:
    return [directory + file for directory in ("", "labels/") for file in (f"something-something-v2-{name}.json",
                                                                           f"{name}.json")]


def _parse_sthv2_classes(file: Path) -> list[str]:
    data = read_json(file)
    try:
        classes = sorted(data, key=lambda name: int(data[name]))
        in_order = [int(data[name]) for name in classes] == list(range(len(classes)))
    except (TypeError, ValueError, OverflowError):
        in_order = False
    if not in_order or not classes:
        raise UserError(f'{file}: must map each class to its number from 0 on, as in {{"Holding something": "0"}}')
    return classes


def _parse_sthv2_videos(file: Path, numbers: dict[str, int], split: str) -> Iterator[Annotation]:
    data = read_json(file)
    if not isinstance(data, list):
        raise UserError(f"{file}: must hold a list of videos, got {type(data).__name__}")
    for count, entry in enumerate(data, start=1):
        where = f"{file}, entry {count}"
        if not isinstance(entry, dict) or not isinstance(entry.get("id"), (str, int)):
            raise UserError(f'{where}: must be an object with an "id", got {str(entry)[:60]!r}')
        template = entry.get("template")
        if template is None and split != "test":
            raise UserError(f'{where}: video {entry["id"]} has no "template"')
        label = 0 if template is None else class_number(re.sub(r"[\[\]]", "", str(template)), numbers, where)
        yield Annotation((check_name(str(entry["id"]), where),), label)


# ---- Kinetics ------------------------------------------------------------------------------------------------

def parse_kinetics(labels: Path) -> Annotations:
    """Kinetics: `kinetics_{train,val[,test]}.csv` (or `{train,val,validate,test}.csv`).

    With the header `label,youtube_id,time_start,time_end,split`; a test file without labels gives label 0.
    Classes are numbered as the lines of `kinetics_label_map.txt` in `labels`; without that file, in sorted order.
    Frames are in `<class>/<youtube_id>_<start>_<end>`, seconds with six digits (as the usual crawlers name their
    files), `<class>/<youtube_id>_<time_start>` (published behaviour) or `<class>/<youtube_id>`. The class directory
    has the name's spaces, or underscores and no quotes or brackets (published behaviour). The videos of an unlabeled
    test file are in `test/`.
    """
    train = find_label_file(labels, "kinetics_train.csv", "train.csv")
    files = {"train": train, "val": find_label_file(labels, "kinetics_val.csv", "val.csv", "validate.csv"),
             "test": find_optional(labels, "kinetics_test.csv", "test.csv")}
    rows = {split: list(_kinetics_rows(file, split)) for split, file in files.items() if file is not None}
    map_file = find_optional(labels, "kinetics_label_map.txt")
    classes = ([text for _, text in read_lines(map_file)] if map_file is not None
               else _kinetics_classes(row["label"] for split in ("train", "val") for _, row in rows[split]))
    numbers = number_classes([kinetics_directory(name) for name in classes], map_file or train)
    splits = [_folder_split(split, [_parse_kinetics_row(row, numbers, where) for where, row in rows[split]])
              for split in rows]
    return Annotations(splits, classes)


def kinetics_directory(name: str) -> str:
    """The published directory name of a class: underscores for spaces, no quotes, apostrophes or round brackets."""
    return re.sub(r"[\"'()]", "", name).replace(" ", "_")


def _kinetics_classes(labels: Iterable[str]) -> list[str]:
    return sorted({kinetics_directory(label): label for label in labels}.values())


def _kinetics_rows(file: Path, split: str) -> Iterator[tuple[str, dict[str, str]]]:
    """(file and line, column -> value) of the rows. UserError for a missing column or value."""
    wanted = {"youtube_id", "time_start", "time_end"} | ({"label"} if split != "test" else set())
    reader = csv.DictReader(read_text(file).split("\n"), strict=True)
    try:
        if not wanted <= set(reader.fieldnames or ()):
            raise UserError(f"{file}, line 1: must name the columns {', '.join(sorted(wanted))}, got"
                            f" {', '.join(reader.fieldnames or ())!r}")
        for row in reader:
            where = f"{file}, line {reader.line_num}"
            if any(not row[column] for column in wanted):
                raise UserError(f"{where}: must have a value for each of {', '.join(sorted(wanted))}")
            yield where, row
    except csv.Error as error:
        raise UserError(f"{file}, line {reader.line_num}: {error}") from None


def _parse_kinetics_row(row: dict[str, str], numbers: dict[str, int], where: str) -> Annotation:
    name, start = check_name(row["youtube_id"], where), row["time_start"]
    try:
        seconds = f"{int(float(start)):06d}_{int(float(row['time_end'])):06d}"
    except (ValueError, OverflowError):
        raise UserError(f"{where}: time_start {start!r} and time_end {row['time_end']!r} must be seconds") from None
    label = check_name(row["label"], where) if row.get("label") else ""
    parents = dict.fromkeys((kinetics_directory(label), label) if label else ("test",))
    directories = tuple(f"{parent}/{clip}" for clip in (f"{name}_{seconds}", f"{name}_{start}", name) for parent in parents)
    return Annotation(directories, class_number(kinetics_directory(label), numbers, where) if label else 0)


# ---- UCF101, HMDB51 ------------------------------------------------------------------------------------------

def parse_ucf101(labels: Path) -> Annotations:
    """UCF101: `classInd.txt`, `trainlist0N.txt`, `testlist0N.txt` in `labels` or in its `ucfTrainTestlist/`.

    classInd: lines `1 ApplyEyeMakeup`, numbered from 1. trainlist: lines `ApplyEyeMakeup/v_X_g08_c01.avi 1`;
    testlist: the same without the number. Each split N of 1-3 that exists gives
    `ucf101_rgb_{train,val}_split_N.txt`. Frames are in `<class>/<video>` or `<video>`.
    """
    class_file = find_label_file(labels, "classInd.txt", "ucfTrainTestlist/classInd.txt")
    classes = [_parse_ucf101_class(class_file, number, text) for number, text in read_lines(class_file)]
    numbers = number_classes(classes, class_file)
    splits = []
    for n in (1, 2, 3):
        train = (find_label_file if n == 1 else find_optional)(labels, f"trainlist0{n}.txt",
                                                               f"ucfTrainTestlist/trainlist0{n}.txt")
        if train is not None:
            test = find_label_file(labels, f"testlist0{n}.txt", f"ucfTrainTestlist/testlist0{n}.txt")
            splits += [_parse_ucf101_split(f"ucf101_rgb_{split}_split_{n}", file, numbers)
                       for split, file in (("train", train), ("val", test))]
    return Annotations(splits, None)


def _parse_ucf101_class(file: Path, number: int, text: str) -> str:
    parts = text.split(maxsplit=1)
    if len(parts) != 2 or parts[0] != str(number):
        raise UserError(f"{file}, line {number}: must be `{number} ClassName`, got {text[:60]!r}")
    return parts[1]


def _parse_ucf101_split(name: str, file: Path, numbers: dict[str, int]) -> Split:
    return _numbered_split(name, [_parse_ucf101_line(text, numbers, f"{file}, line {number}")
                                  for number, text in read_lines(file)])


def _parse_ucf101_line(text: str, numbers: dict[str, int], where: str) -> Annotation:
    label = re.search(r"\s([0-9]{1,9})$", text)
    class_name, _, name = (text[:label.start()] if label else text).strip().rpartition("/")
    index = class_number(class_name, numbers, where)
    if label and int(label[1]) != index + 1:
        raise UserError(f"{where}: got class {label[1]}, but {class_name!r} has number {index + 1} in classInd.txt")
    stem = check_name(os.path.splitext(name)[0], where)
    return Annotation((f"{class_name}/{stem}", stem), index)


def parse_hmdb51(labels: Path) -> Annotations:
    """HMDB51: `<class>_test_splitN.txt` in `labels` or in its `testTrainMulti_7030_splits/`.

    Lines `video.avi M`: M is 1 for training, 2 for validation, 0 for neither. Classes are numbered in sorted
    order. Each split N gives `hmdb51_rgb_{train,val}_split_N.txt`. Frames are in `<class>/<video>` or `<video>`.
    """
    files = _hmdb51_files(labels)
    classes = sorted({name for name, _ in files})
    number_classes(classes, labels)
    splits = []
    for n in sorted({n for _, n in files}):
        marked: dict[str, list[Annotation]] = {"0": [], "1": [], "2": []}
        for label, name in enumerate(classes):
            if (name, n) not in files:
                raise UserError(f"{labels}: there is no {name}_test_split{n}.txt, but other classes have split {n}")
            for number, text in read_lines(files[name, n]):
                where = f"{files[name, n]}, line {number}"
                mark, video = _parse_hmdb51_line(text, class_name=name, label=label, where=where)
                marked[mark].append(video)
        splits += [_numbered_split(f"hmdb51_rgb_{split}_split_{n}", marked[mark])
                   for split, mark in (("train", "1"), ("val", "2"))]
    return Annotations(splits, classes)


def _hmdb51_files(labels: Path) -> dict[tuple[str, str], Path]:
    """(class, split number) -> label file."""
    for directory in (labels, labels / "testTrainMulti_7030_splits"):
        found = {}
        for file in sorted(directory.glob("*_test_split?.txt")):
            if match := re.fullmatch(r"(.+)_test_split([123])\.txt", file.name):
                found[match[1], match[2]] = file
        if found:
            return found
    raise UserError(f"no label files <class>_test_split1.txt in {labels}: put them there, or set labels to their directory",
                    "labels")


def _parse_hmdb51_line(text: str, *, class_name: str, label: int, where: str) -> tuple[str, Annotation]:
    match = re.fullmatch(r"(.+)\s+([012])", text)
    if match is None:
        raise UserError(f"{where}: must be `video.avi M` with M 0, 1 or 2, got {text[:60]!r}")
    stem = check_name(os.path.splitext(match[1].strip())[0], where)
    return match[2], Annotation((f"{class_name}/{stem}", stem), label)
