"""Your own videos as a data set:  python tools/make_dataset.py ROOT NAME  then  python main.py NAME RGB --shift

ROOT holds a directory per class with its videos (ROOT/<class>/..., or ROOT/train/<class>/... beside val and test), or
--csv names them, a line `file,label` or `file,label,split` each, files relative to ROOT. A video is a file (mp4, webm,
mkv, avi, mov, ...), read where it lies, or a directory of frames; --extract turns files into directories of frames.

Every video is opened, its frames are counted, and the first, middle and last are decoded. What cannot be read is left
out, listed with its reason in unreadable.txt, and makes the exit status 2 (0 with --allow_missing).

Validation takes a share --val of each class. --split-by source (the default) keeps clips of one recording together
where file names tell it: v_Archery_g01_c02 (of v_Archery_g01), name_part03 and name_clip3 (of name; also seg, segment,
scene, shot, chunk, cut), YOUTUBENAME_000010_000020. --source-pattern takes any other form: a regular expression that
is searched for in the path below ROOT without extension, whose group is the source: '(subject[0-9]+)'.
--split-by file takes each file alone; random tosses a coin for each, classes or not.

Lists and class names go to ROOT/.tsm/NAME/ (or --out), the data set's name to datasets.yaml (or --dataset_file).
Started again, it finds the same split, keeps frames that are there, and renews the lists.
"""
import sys
from argparse import Namespace, RawDescriptionHelpFormatter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from ops.common.cli import Parser, run, warn_unused
from ops.common.errors import UserError
from ops.common.files import check_writable
from ops.common.pool import cores
from ops.dataset_config import DATASET_FILE, DATASETS
from ops.prepare.own_dataset import (
    Checked,
    Item,
    balance,
    check_items,
    extract_items,
    find_items,
    list_file,
    read_csv,
    shared_sources,
    split_items,
    write_lists,
)
from ops.prepare.splitting import WAYS, compile_pattern
from ops.prepare.user_file import check_name, register
from ops.video.discovery import is_video_name


def main() -> int:
    parser = build_parser()
    args = parser.parse_args()
    out = args.out or args.root / ".tsm" / args.name
    check_arguments(args, out)
    items = read_csv(args.csv, args.root) if args.csv else find_items(args.root, out)
    if not items:
        raise UserError(f"no videos in {args.csv or args.root}: it needs a directory per class with videos, or a --csv")
    tell_no_effect(parser, args, items)
    checked = look(args, items, out)
    classes = {item.label for item in checked.counts}
    tell_bad(checked, {item.label for item in items} - classes)
    if len(classes) < 2:
        raise UserError(f"a data set needs two classes or more with readable videos, {args.root} has {len(classes)}: it"
                        " needs a directory per class, or a --csv")
    splits = split_items(list(checked.counts), args.split_by, args.val, args.seed, args.source_pattern)
    entry = write_lists(args.name, checked, splits, out)
    register(args.dataset_file, entry, taken=DATASETS, replace=args.replace)
    tell(args, checked, splits, out)
    return 2 if checked.bad and not args.allow_missing else 0


def build_parser() -> Parser:
    parser = Parser(description=__doc__, formatter_class=RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("root", metavar="ROOT", type=Path, help="directory of the videos")
    add("name", metavar="NAME", help="what to call the data set")
    add("--csv", type=Path, help="a file with lines `file,label[,split]`")
    add("--val", type=float, default=0.2, help="share of each class that goes to validation (default: %(default)s)")
    add("--split-by", "--split_by", default="source", help=f"{', '.join(WAYS)} (default: %(default)s)")
    add("--source-pattern", "--source_pattern", metavar="REGEX", help="how a path tells its source")
    add("--seed", type=int, default=0, help="of the split (default: %(default)s)")
    add("--extract", action="store_true", help="write the frames as images: faster to train from, larger on disk")
    add("--height", type=int, default=256, help="with --extract: of the frames, pixels (default: %(default)s)")
    add("--out", type=Path, help="directory for lists and frames (default: ROOT/.tsm/NAME)")
    add("--dataset_file", type=Path, default=DATASET_FILE,
        help="yaml file that gets the data set (default: datasets.yaml in the repository's root)")
    add("--replace", action="store_true", help="take the name over from a data set with other lists")
    add("--allow_missing", action="store_true", help="exit status 0 also when videos cannot be read")
    add("-j", "--workers", type=int, default=cores(), help="videos at a time (default: the cores)")
    return parser


def check_arguments(args: Namespace, out: Path) -> None:
    """Everything that can be refused before hours of work."""
    if not 0 < args.val < 1:
        raise UserError(f"--val {args.val}: choose a share above 0 and below 1")
    if args.split_by not in WAYS:
        raise UserError(f"--split-by {args.split_by!r}: choose {' or '.join(WAYS)}")
    if args.workers < 1 or args.height < 1:
        raise UserError(f"--workers {args.workers}, --height {args.height}: choose 1 or more")
    if not args.root.is_dir():
        raise UserError(f"there is no directory {args.root}: name the one that holds your videos")
    compile_pattern(args.source_pattern)
    check_name(args.dataset_file, args.name, list_file(out, "train"), taken=DATASETS, replace=args.replace)
    for path, flag in ((list_file(out, "train"), "out"), (args.dataset_file, "dataset_file")):
        try:
            check_writable(path)
        except UserError as error:
            raise UserError(f"{error}: name another with --{flag}") from None


def tell_no_effect(parser: Parser, args: Namespace, items: list[Item]) -> None:
    if any(item.split == "val" for item in items):
        warn_unused(parser, args, f"{'the csv' if args.csv else 'a directory'} says which videos are for validation", "val",
                    "split_by", "seed")
    if not args.extract:
        warn_unused(parser, args, "no frames are written without --extract", "height")


def look(args: Namespace, items: list[Item], out: Path) -> Checked:
    if not args.extract:
        return check_items(args.root, items, args.workers)
    directories = [item.path for item in items if not is_video_name(item.path)]
    if directories:
        raise UserError(f"--extract: {directories[0]!r} is no video file: leave --extract out where there are frames")
    # The height is in the name, so that frames of two sizes never mix.
    return extract_items(args.root, items, out / f"frames_{args.height}", args.height, args.workers)


def tell_bad(checked: Checked, lost: set[str]) -> None:
    for path, reason in checked.bad:
        print(f"left out: {path}: {reason}", file=sys.stderr)
    for label in sorted(lost):
        print(f"no class: {label!r}: none of its videos can be read", file=sys.stderr)


def tell(args: Namespace, checked: Checked, splits: dict[str, list[Item]], out: Path) -> None:
    """The balance of the classes, what to beware of, and the command to train."""
    print("\n".join(balance(splits, args.source_pattern)))
    labels = {split: {item.label for item in items} for split, items in splits.items()}
    for side, without in (("validation", labels["train"] - labels["val"]),
                          ("training", labels["val"] - labels["train"])):
        if without:
            print(f"warning: no {side} video for {len(without)} classes: {', '.join(sorted(without)[:5])}",
                  file=sys.stderr)
    shared = shared_sources(splits, args.source_pattern)
    if shared:
        print(f"warning: {len(shared)} sources have clips in training and in validation: {', '.join(shared[:3])}",
              file=sys.stderr)
    if checked.bad:
        print(f"{len(checked.bad)} videos left out, see {out / 'unreadable.txt'}", file=sys.stderr)
    other = "" if args.dataset_file == DATASET_FILE else f" --dataset_file {args.dataset_file}"
    print(f"{out}: lists of {' + '.join(str(len(rows)) for rows in splits.values() if rows)} videos;"
          f" {args.name!r} is in {args.dataset_file}")
    print(f"python tools/check_dataset.py {args.name}{other}")
    print(f"python main.py {args.name} RGB --shift{other}")


if __name__ == "__main__":
    run(main)
