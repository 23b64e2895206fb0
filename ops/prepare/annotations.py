"""The data sets' own label files: parsed into lists of videos, written as `category.txt` and `*_videofolder.txt`.

Each `write_*_lists(labels, frames, out)` documents the form of its data set's label files. labels: their directory;
frames: the directory of the frame directories; out: receives the lists (see ops.data.list_files for their form); workers:
threads that count frames. All raise UserError, with file and line, for label files that are missing or malformed.
"""
import csv
import json
import os
import re
from argparse import RawDescriptionHelpFormatter
from pathlib import Path
from typing import Any, Callable, Iterable, Iterator, Optional, Sequence

from ops.common.cli import Parser
from ops.common.errors import UserError
from ops.data.list_files import Clip, ListSummary, Split, named_list, report, video_directory_list, write_lists
from ops.dataset_config import DATASETS, dataset_root


def write_sthv1_lists(labels: Path, frames: Path, out: Path, workers: int = 8) -> ListSummary:
    """Something-Something-V1: `something-something-v1-{labels,train,validation[,test]}.csv` in `labels`.

    labels: a class a line, the classes are numbered in sorted order. train, validation: lines `id;class`.
    test: lines `id`, label 0 in the list.
    """
    return _write_20bn_csv("something-something-v1", "something", labels, frames, out, workers)


def write_jester_lists(labels: Path, frames: Path, out: Path, workers: int = 8) -> ListSummary:
    """Jester: `jester-v1-{labels,train,validation[,test]}.csv` in `labels`, of the form of write_sthv1_lists."""
    return _write_20bn_csv("jester-v1", "jester", labels, frames, out, workers)


def _write_20bn_csv(prefix: str, dataset: str, labels: Path, frames: Path, out: Path, workers: int) -> ListSummary:
    label_file = _find(labels, f"{prefix}-labels.csv")
    classes = sorted(text for _, text in _lines(label_file))
    numbers = _numbered(classes, label_file)
    splits = []
    for split, name in (("train", "train"), ("val", "validation"), ("test", "test")):
        file = (_find if split != "test" else _find_optional)(labels, f"{prefix}-{name}.csv")
        if file is not None:
            clips = [_csv_clip(text, numbers, split, f"{file}, line {number}") for number, text in _lines(file)]
            splits.append(video_directory_list(split, clips))
    return write_lists(frames, _template(dataset), out, splits, classes, workers)


def _csv_clip(text: str, numbers: dict[str, int], split: str, where: str) -> Clip:
    name, _, label = text.partition(";")
    unlabelled = split == "test" and not label
    return Clip((_checked(name, where),), 0 if unlabelled else _number_of(label, numbers, where))


def write_sthv2_lists(labels: Path, frames: Path, out: Path, workers: int = 8) -> ListSummary:
    """Something-Something-V2, and data sets in its form: JSON files in `labels` or in its subdirectory `labels/`.

    `something-something-v2-{labels,train,validation[,test]}.json`, in the newer release without the prefix.
    labels: {"Holding something": "0", ...}. The others: [{"id": "78687", "template": "Holding [something]"}, ...];
    a template without its square brackets is a class. test: `id` alone, label 0 in the list.
    """
    label_file = _find(labels, *_sthv2_names("labels"))
    classes = _json_classes(label_file)
    numbers = _numbered(classes, label_file)
    splits = []
    for split, name in (("train", "train"), ("val", "validation"), ("test", "test")):
        file = (_find if split != "test" else _find_optional)(labels, *_sthv2_names(name))
        if file is not None:
            splits.append(video_directory_list(split, list(_json_clips(file, numbers, split))))
    return write_lists(frames, _template("somethingv2"), out, splits, classes, workers)


def _sthv2_names(name: str) -> list[str]:
    return [directory + file for directory in ("", "labels/") for file in (f"something-something-v2-{name}.json",
                                                                           f"{name}.json")]


def _json_classes(file: Path) -> list[str]:
    data = _json(file)
    try:
        classes = sorted(data, key=lambda name: int(data[name]))
        in_order = [int(data[name]) for name in classes] == list(range(len(classes)))
    except (TypeError, ValueError, OverflowError):
        in_order = False
    if not in_order or not classes:
        raise UserError(f'{file}: must hold every class with its number from 0 on, as {{"Holding something": "0"}}')
    return classes


def _json_clips(file: Path, numbers: dict[str, int], split: str) -> Iterator[Clip]:
    data = _json(file)
    if not isinstance(data, list):
        raise UserError(f"{file}: must hold a list of videos, holds a {type(data).__name__}")
    for count, entry in enumerate(data, start=1):
        where = f"{file}, entry {count}"
        if not isinstance(entry, dict) or not isinstance(entry.get("id"), (str, int)):
            raise UserError(f'{where}: must be an object with an "id", got {str(entry)[:60]!r}')
        template = entry.get("template")
        if template is None and split != "test":
            raise UserError(f'{where}: video {entry["id"]} has no "template"')
        label = 0 if template is None else _number_of(re.sub(r"[\[\]]", "", str(template)), numbers, where)
        yield Clip((_checked(str(entry["id"]), where),), label)


def write_kinetics_lists(labels: Path, frames: Path, out: Path, workers: int = 8) -> ListSummary:
    """Kinetics: `kinetics_{train,val[,test]}.csv` in `labels` (or `{train,val,validate,test}.csv`).

    With the header `label,youtube_id,time_start,time_end,split`; a test file without labels gives label 0.
    Classes are numbered as the lines of `kinetics_label_map.txt` in `labels`, without that file in sorted order.
    Frames lie in `<class>/<youtube_id>_<start>_<end>`, seconds of six digits (as the usual crawlers name their
    files), or `<class>/<youtube_id>_<time_start>` (published behaviour), or `<class>/<youtube_id>`; the class
    with its spaces, or with underscores and without quotes and brackets (published behaviour); the videos of an
    unlabelled test file in `test/`.
    """
    train = _find(labels, "kinetics_train.csv", "train.csv")
    files = {"train": train, "val": _find(labels, "kinetics_val.csv", "val.csv", "validate.csv"),
             "test": _find_optional(labels, "kinetics_test.csv", "test.csv")}
    rows = {split: list(_kinetics_rows(file, split)) for split, file in files.items() if file is not None}
    map_file = _find_optional(labels, "kinetics_label_map.txt")
    classes = ([text for _, text in _lines(map_file)] if map_file is not None
               else _kinetics_classes(row["label"] for split in ("train", "val") for _, row in rows[split]))
    numbers = _numbered([kinetics_directory(name) for name in classes], map_file or train)
    splits = [video_directory_list(split, [_kinetics_clip(row, numbers, where) for where, row in rows[split]])
              for split in rows]
    return write_lists(frames, _template("kinetics"), out, splits, classes, workers)


def kinetics_directory(name: str) -> str:
    """The published directory name of a class: underscores for spaces, no quotes, apostrophes or round brackets."""
    return re.sub(r"[\"'()]", "", name).replace(" ", "_")


def _kinetics_classes(labels: Iterable[str]) -> list[str]:
    return sorted({kinetics_directory(label): label for label in labels}.values())


def _kinetics_rows(file: Path, split: str) -> Iterator[tuple[str, dict[str, str]]]:
    wanted = {"youtube_id", "time_start", "time_end"} | ({"label"} if split != "test" else set())
    reader = csv.DictReader(_text(file).split("\n"), strict=True)
    try:
        if not wanted <= set(reader.fieldnames or ()):
            raise UserError(f"{file}, line 1: must name the columns {', '.join(sorted(wanted))}, has"
                            f" {', '.join(reader.fieldnames or ())!r}")
        for row in reader:
            where = f"{file}, line {reader.line_num}"
            if any(not row[column] for column in wanted):
                raise UserError(f"{where}: must have a value for each of {', '.join(sorted(wanted))}")
            yield where, row
    except csv.Error as error:
        raise UserError(f"{file}, line {reader.line_num}: {error}") from None


def _kinetics_clip(row: dict[str, str], numbers: dict[str, int], where: str) -> Clip:
    name, start = _checked(row["youtube_id"], where), row["time_start"]
    try:
        seconds = f"{int(float(start)):06d}_{int(float(row['time_end'])):06d}"
    except (ValueError, OverflowError):
        raise UserError(f"{where}: time_start {start!r} and time_end {row['time_end']!r} must be seconds") from None
    label = _checked(row["label"], where) if row.get("label") else ""
    homes = dict.fromkeys((kinetics_directory(label), label) if label else ("test",))
    directories = tuple(f"{home}/{clip}" for clip in (f"{name}_{seconds}", f"{name}_{start}", name) for home in homes)
    return Clip(directories, _number_of(kinetics_directory(label), numbers, where) if label else 0)


def write_ucf101_lists(labels: Path, frames: Path, out: Path, workers: int = 8) -> ListSummary:
    """UCF101: `classInd.txt`, `trainlist0N.txt`, `testlist0N.txt` in `labels` or in its `ucfTrainTestlist/`.

    classInd: lines `1 ApplyEyeMakeup`, numbered from 1. trainlist: lines `ApplyEyeMakeup/v_X_g08_c01.avi 1`;
    testlist: the same without the number. Each split N of 1-3 that is there gives
    `ucf101_rgb_{train,val}_split_N.txt`. Frames lie in `<class>/<video>` or in `<video>`.
    """
    class_file = _find(labels, "classInd.txt", "ucfTrainTestlist/classInd.txt")
    classes = [_ucf_class(class_file, number, text) for number, text in _lines(class_file)]
    numbers = _numbered(classes, class_file)
    splits = []
    for n in (1, 2, 3):
        train = (_find if n == 1 else _find_optional)(labels, f"trainlist0{n}.txt",
                                                      f"ucfTrainTestlist/trainlist0{n}.txt")
        if train is not None:
            test = _find(labels, f"testlist0{n}.txt", f"ucfTrainTestlist/testlist0{n}.txt")
            splits += [_ucf_split(f"ucf101_rgb_{split}_split_{n}", file, numbers)
                       for split, file in (("train", train), ("val", test))]
    return write_lists(frames, _template("ucf101"), out, splits, None, workers)


def _ucf_class(file: Path, number: int, text: str) -> str:
    parts = text.split(maxsplit=1)
    if len(parts) != 2 or parts[0] != str(number):
        raise UserError(f"{file}, line {number}: must be `{number} ClassName`, got {text[:60]!r}")
    return parts[1]


def _ucf_split(name: str, file: Path, numbers: dict[str, int]) -> Split:
    return named_list(name, [_ucf_clip(text, numbers, f"{file}, line {number}") for number, text in _lines(file)])


def _ucf_clip(text: str, numbers: dict[str, int], where: str) -> Clip:
    label = re.search(r"\s([0-9]{1,9})$", text)
    home, _, name = (text[:label.start()] if label else text).strip().rpartition("/")
    index = _number_of(home, numbers, where)
    if label and int(label[1]) != index + 1:
        raise UserError(f"{where}: says class {label[1]}, but class {home!r} has number {index + 1} in classInd.txt")
    stem = _checked(os.path.splitext(name)[0], where)
    return Clip((f"{home}/{stem}", stem), index)


def write_hmdb51_lists(labels: Path, frames: Path, out: Path, workers: int = 8) -> ListSummary:
    """HMDB51: `<class>_test_splitN.txt` in `labels` or in its `testTrainMulti_7030_splits/`.

    Lines `video.avi M`: M is 1 in training, 2 in validation, 0 in neither. Classes are numbered in sorted
    order. Each split N gives `hmdb51_rgb_{train,val}_split_N.txt`. Frames lie in `<class>/<video>` or `<video>`.
    """
    files = _hmdb_files(labels)
    classes = sorted({name for name, _ in files})
    splits = []
    for n in sorted({n for _, n in files}):
        marked: dict[str, list[Clip]] = {"0": [], "1": [], "2": []}
        for label, name in enumerate(classes):
            if (name, n) not in files:
                raise UserError(f"{labels}: there is no {name}_test_split{n}.txt, but other classes have split {n}")
            for number, text in _lines(files[name, n]):
                mark, clip = _hmdb_clip(f"{files[name, n]}, line {number}", text, name, label)
                marked[mark].append(clip)
        splits += [named_list(f"hmdb51_rgb_{split}_split_{n}", marked[mark])
                   for split, mark in (("train", "1"), ("val", "2"))]
    return write_lists(frames, _template("hmdb51"), out, splits, classes, workers)


def _hmdb_files(labels: Path) -> dict[tuple[str, str], Path]:
    """(class, split number) -> label file."""
    for directory in (labels, labels / "testTrainMulti_7030_splits"):
        found = {}
        for file in sorted(directory.glob("*_test_split?.txt")):
            if match := re.fullmatch(r"(.+)_test_split([123])\.txt", file.name):
                found[match[1], match[2]] = file
        if found:
            return found
    raise UserError(f"no label files <class>_test_split1.txt in {labels}: name their directory with --labels")


def _hmdb_clip(where: str, text: str, home: str, label: int) -> tuple[str, Clip]:
    match = re.fullmatch(r"(.+)\s+([012])", text)
    if match is None:
        raise UserError(f"{where}: must be `video.avi M` with M 0, 1 or 2, got {text[:60]!r}")
    stem = _checked(os.path.splitext(match[1].strip())[0], where)
    return match[2], Clip((f"{home}/{stem}", stem), label)


# ---- reading label files -------------------------------------------------------------------------------------

def _find(labels: Path, *names: str) -> Path:
    """The first of `names` that is a file in `labels`."""
    found = _find_optional(labels, *names)
    if found is None:
        raise UserError(f"no label file {' or '.join(names[:2])} in {labels}: put it there, or name its directory"
                        " with --labels")
    return found


def _find_optional(labels: Path, *names: str) -> Optional[Path]:
    return next((labels / name for name in names if (labels / name).is_file()), None)


def _text(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"cannot read the label file {file}: {error}") from None


def _lines(file: Path) -> list[tuple[int, str]]:
    """(line number from 1, text without white space at its ends) of the lines that are not empty."""
    lines = [(number, text.strip()) for number, text in enumerate(_text(file).split("\n"), start=1) if text.strip()]
    if not lines:
        raise UserError(f"the label file {file} is empty")
    return lines


def _json(file: Path) -> Any:
    try:
        return json.loads(_text(file))
    except json.JSONDecodeError as error:
        raise UserError(f"{file}, line {error.lineno}: not JSON: {error.msg}") from None
    except (ValueError, RecursionError) as error:  # numbers of thousands of digits, brackets in brackets
        raise UserError(f"{file}: cannot be read as JSON: {error}") from None


def _numbered(classes: Sequence[str], file: Path) -> dict[str, int]:
    numbers = {_checked(name, str(file), "a class"): number for number, name in enumerate(classes)}
    if len(numbers) != len(classes):
        twice = next(name for number, name in enumerate(classes) if numbers[name] != number)
        raise UserError(f"{file}: the class {twice!r} is there twice")
    return numbers


def _number_of(label: str, numbers: dict[str, int], where: str) -> int:
    if label not in numbers:
        raise UserError(f"{where}: {label[:80]!r} is none of the {len(numbers)} classes")
    return numbers[label]


def _checked(name: str, where: str, what: str = "a video") -> str:
    """`name` if it can stand in a list of lines, and as a relative path: the lists' readers split lines widely."""
    try:
        name.encode("utf-8")
        usable = name.splitlines() == [name.strip()] and "\0" not in name
    except UnicodeEncodeError:  # half of a surrogate pair, written as an escape in JSON
        usable = False
    if not usable or name.startswith("/") or ".." in name.split("/"):
        raise UserError(f"{where}: {ascii(name[:80])} cannot be the name of {what}")
    return name


def _template(dataset: str) -> str:
    return DATASETS[dataset].files["RGB"].template


# ---- the command line ----------------------------------------------------------------------------------------

def command_line(doc: Optional[str], dataset: str, labels: str,
                 write: Callable[[Path, Path, Path, int], ListSummary]) -> int:
    """What the gen_label programs share: parse sys.argv, write, report. Returns the exit status (2: missing videos).

    dataset: its name in the table, which says where frames and lists belong; labels: where its label files lie,
    relative to the root of the data sets.
    """
    files = DATASETS[dataset].files["RGB"]
    lists = os.path.dirname(files.train_list)
    parser = Parser(description=doc, formatter_class=RawDescriptionHelpFormatter)
    parser.add_argument("--root_dataset", help="directory of all data sets (default: TSM_ROOT, else data)")
    parser.add_argument("--labels", type=Path, help=f"directory of the label files (default: ROOT/{labels})")
    parser.add_argument("--frames", type=Path, help=f"directory of the frame directories (default: ROOT/{files.frames})")
    parser.add_argument("--out", type=Path, help=f"directory that receives the lists (default: ROOT/{lists})")
    parser.add_argument("--allow_missing", action="store_true", help="exit status 0 also when videos have no frames")
    parser.add_argument("-j", "--workers", type=int, default=8, help="threads that count frames (default: 8)")
    args = parser.parse_args()
    root = dataset_root(args.root_dataset)
    return report(write(args.labels or root / labels, args.frames or root / files.frames, args.out or root / lists,
                        args.workers), args.allow_missing)
