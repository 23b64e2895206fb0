"""What the gen_label_*.py commands share: their flags, the files of the data set's table, and the report."""
import os
import sys
from argparse import RawDescriptionHelpFormatter
from pathlib import Path
from typing import Callable, Optional

from ops.common.cli import Parser, add_root_dataset_flag, add_workers_flag
from ops.common.words import counted
from ops.dataset_config import DATASETS, dataset_root
from ops.prepare.annotations import Annotations
from ops.prepare.list_writer import ListSummary, write_lists


def gen_label(description: Optional[str], *, dataset: str, parse: Callable[[Path], Annotations]) -> int:
    """The whole command: parse sys.argv, write the lists, report. Returns the exit status (2: videos are missing).

    dataset: its name in the table, which has the places of frames, lists and label files. parse: reads the directory of
    label files.
    """
    files, setup = DATASETS[dataset].files["RGB"], DATASETS[dataset].setup
    assert setup is not None
    labels = setup.labels
    lists = os.path.dirname(files.train_list)
    parser = Parser(description=description, formatter_class=RawDescriptionHelpFormatter)
    add = parser.add_argument
    add_root_dataset_flag(parser)
    add("--labels", type=Path, help=f"directory of the label files (default: ROOT_DATASET/{labels})")
    add("--frames", type=Path, help=f"directory of the frame directories (default: ROOT_DATASET/{files.frames})")
    add("--out", type=Path, help=f"directory for the lists (default: ROOT_DATASET/{lists})")
    add("--allow_missing", action="store_true", help="exit with status 0 even if videos have no frames")
    add_workers_flag(parser, default=8, what="threads that count frames")
    args = parser.parse_args()
    root = dataset_root(args.root_dataset)
    summary = write_lists(parse(args.labels or root / labels), args.frames or root / files.frames, args.out or root / lists,
                          template=files.template, workers=args.workers)
    report(summary)
    return 2 if summary.missing and not args.allow_missing else 0


def report(summary: ListSummary) -> None:
    if summary.classes:
        print(f"{summary.out / 'category.txt'}: {counted(summary.classes, 'class')}")
    for name, count in summary.listed.items():
        print(f"{summary.out / name}: {counted(count, 'video')}")
    for name, missing in summary.missing.items():
        print(f"{summary.out / name}: {counted(len(missing), 'video')} left out, the first is {missing[0][0]}:"
              f" {missing[0][1]}", file=sys.stderr)
