"""Reads beforehand what training would read, and tells what is wrong:  python tools/check_dataset.py ucf101

Checks a data set by its name (all its lists), or any list files (`path num_frames label`), whose videos or frame
directories lie under --root_path. Of every video the first, middle and last frame are decoded, with --full all of them.

Finds: lines of another form, labels outside the classes or of another class than the directory's name, missing, empty,
truncated and unreadable videos and frames, frames counted from 0, gaps, frames of several sizes, numbers of frames
that are not the list's, videos that are too short, images that are not RGB, and the same video twice in a list or in
two lists, by its path or by its first and middle image.

--fix OUT.txt writes the list without them and with the right numbers of frames (several lists as OUT_train.txt,
OUT_val.txt, ...; what two have stays in the last). Exit status: 0 clean, 2 something was found.
"""
import json
import os
import sys
from argparse import Namespace, RawDescriptionHelpFormatter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from ops.common.cli import Parser, run, warn_unused
from ops.common.errors import UserError
from ops.common.files import check_writable
from ops.common.pool import cores
from ops.dataset_config import DATASETS, read_categories, resolve_dataset, user_datasets
from ops.prepare.check import KINDS, Rules, check_lists, clean_list, guess_template, page, to_dict, write_clean
from ops.video.discovery import TEMPLATE, is_template
from ops.video.frames import DATA_FORMATS
from ops.video.shards import is_sharded


def main() -> int:
    parser = build_parser()
    args = parser.parse_args()
    ignored = set(args.ignore.split(",")) if args.ignore else set()
    check_arguments(args, ignored)
    named = is_name(args)
    files, rules = by_name(args) if named else by_lists(args)
    tell_no_effect(parser, args, named)
    if args.data_format == "shards" or is_sharded(rules.root):
        raise UserError(f"shards in {rules.root}: what can be checked is the frame directories that they were made of: name"
                        " those with --root_path")
    for name in files if args.fix else ():
        check_writable(clean_list(args.fix, name, len(files)))
    report = check_lists(files, rules, args.workers)
    report.findings = [finding for finding in report.findings if finding.kind not in ignored]
    print(json.dumps(to_dict(report), indent=1) if args.json else "\n".join(page(report)))
    found = {finding.kind for finding in report.findings}
    if found and len(report.findings) >= len(report.entries) and found <= {"missing"}:
        print(f"nothing is under {rules.root}: name the directory of the videos with --root_path", file=sys.stderr)
    if args.fix:
        for name, (file, count) in write_clean(report, args.fix).items():
            print(f"{file}: {count} videos of {name}", file=sys.stderr)
    return 2 if report.findings else 0


def build_parser() -> Parser:
    parser = Parser(description=__doc__, formatter_class=RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("what", nargs="+", metavar="DATASET|LIST", help="one data set's name, or list files")
    add("--full", action="store_true", help="decode every frame")
    add("--fix", type=Path, metavar="OUT.txt", help="write a clean list")
    add("--json", action="store_true", help="every finding, for programs")
    add("--min_frames", type=int, default=8, help="videos with fewer are too short (default: 8, the frames of a clip)")
    add("--ignore", default="", metavar="KIND,...", help=f"findings to leave out: {', '.join(KINDS)}")
    add("--root_path", type=Path,
        help="directory of the videos or frame directories (default: the data set's, or the list's)")
    add("--data_format", default="auto", help=" or ".join(DATA_FORMATS))
    add("--modality", default="RGB", help="of a data set: RGB or Flow")
    add("--root_dataset", help="directory under which the table's paths lie (default: $TSM_ROOT, else data)")
    add("--dataset_file", help="yaml file of your own data sets (default: datasets.yaml beside main.py)")
    add("--template", help="of list files: name of a frame, as img_{:05d}.jpg (default: as in the first directory)")
    add("--categories", type=Path, help="of list files: file of class names, one a line")
    add("--num_class", type=int, help="of list files: number of classes")
    add("-j", "--workers", type=int, default=cores(), help="videos at a time (default: the cores)")
    return parser


def check_arguments(args: Namespace, ignored: set[str]) -> None:
    if unknown := sorted(ignored - set(KINDS)):
        raise UserError(f"--ignore {','.join(unknown)}: choose of {', '.join(KINDS)}")
    if args.workers < 1 or args.min_frames < 0:
        raise UserError(f"--workers {args.workers}, --min_frames {args.min_frames}: choose 1 or more workers, 0 or more"
                        " frames")
    if args.data_format not in DATA_FORMATS:
        raise UserError(f"--data_format {args.data_format!r}: choose {' or '.join(DATA_FORMATS)}")
    if args.template is not None and not is_template(args.template):
        raise UserError(f"--template {args.template!r}: must have one number, as img_{{:05d}}.jpg has")


def is_name(args: Namespace) -> bool:
    """Whether a data set is asked for, and not list files."""
    name, *more = args.what
    return not more and (name in DATASETS or name in user_datasets(args.dataset_file) or not os.path.exists(name))


def tell_no_effect(parser: Parser, args: Namespace, named: bool) -> None:
    if named:
        warn_unused(parser, args, "a data set has its own", "template", "categories", "num_class")
        if args.modality == "Flow":
            warn_unused(parser, args, "flow lies in directories of images", "data_format")
        return
    warn_unused(parser, args, "it is for a data set's name, these are list files", "modality", "root_dataset",
                "dataset_file")
    if args.categories:
        warn_unused(parser, args, "--categories tells it", "num_class")


def by_name(args: Namespace) -> tuple[dict[str, Path], Rules]:
    """The lists of a data set, and what they are held against."""
    data = resolve_dataset(args.what[0], args.modality, args.root_dataset, root_path=str(args.root_path or ""),
                           dataset_file=args.dataset_file)
    rules = Rules(data.frames, data.template, data.num_class, data.class_names, args.min_frames, args.full,
                  "frames" if args.modality == "Flow" else args.data_format)
    own = None if data.name in DATASETS else user_datasets(args.dataset_file)[data.name]
    test = {"test": own.test_list} if own and own.test_list else {}
    return {"train": data.train_list, "val": data.val_list, **test}, rules


def by_lists(args: Namespace) -> tuple[dict[str, Path], Rules]:
    """The same for list files."""
    paths = [Path(what) for what in args.what]
    root = args.root_path or paths[0].parent
    names = read_categories(args.categories) if args.categories else None
    if args.categories and names is None:
        raise UserError(f"--categories: there is no file {args.categories}")
    stems = [path.stem for path in paths]
    files = {path.stem if stems.count(path.stem) == 1 else str(path): path for path in paths}
    rules = Rules(root, args.template or guess_template(root, paths, TEMPLATE), len(names) if names else args.num_class,
                  names, args.min_frames, args.full, args.data_format)
    return files, rules


if __name__ == "__main__":
    run(main)
