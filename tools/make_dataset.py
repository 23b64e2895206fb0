"""Turn your own videos into a data set:  python tools/make_dataset.py ROOT NAME  then  python main.py NAME RGB --shift

ROOT contains one directory of videos per class (ROOT/<class>/..., or ROOT/train/<class>/... beside val and test). Or --csv
lists the videos, one line `file,label` or `file,label,split` each, with files relative to ROOT; with --multi_label, a label
is any number of classes with semicolons between them (`indoors;running`, or nothing). A video is a file (mp4, webm, mkv,
avi, mov, ...), read in place, or a directory of frames; --extract turns files into directories of frames.

Every video is opened, its frames are counted, and the first, middle and last are decoded. Unreadable videos are left out
and listed with the reason in unreadable.txt, and the exit status is then 2 (0 with --allow_missing).

The share --val of each class becomes validation videos. --split-by source (the default) keeps clips of one recording
together if their file names tell it: v_Archery_g01_c02 (of v_Archery_g01), name_part03 and name_clip3 (of name; also seg,
segment, scene, shot, chunk, cut), YOUTUBEID_000010_000020. For other names use --source-pattern: a regular expression,
searched for in the path below ROOT without extension, whose group is the source: '(subject[0-9]+)'. Videos of different
splits that share frames, as clips cut from one recording do, are reported; --split-by content keeps them together as well.
--split-by file decides for each file alone; random decides by chance, whatever the class.

Lists and class names are written to ROOT/.tsm/NAME/ (or --out), the data set is registered in datasets.yaml (or
--dataset_file). Run it again to update the lists: the split stays the same, and extracted frames are kept.
"""
import logging
import os
import re
import sys
from argparse import Namespace, RawDescriptionHelpFormatter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from ops.common import cli
from ops.common.choices import MOST
from ops.common.cli import NotAllowed, Parser, number, one_of
from ops.dataset_config import DATASET_FILE, DATASETS
from ops.prepare.splitting import WAYS, shared_sources, source_of, split_videos


def build_parser() -> Parser:
    parser = Parser(description=__doc__, formatter_class=RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("root", metavar="ROOT", type=Path, help="directory of the videos")
    add("name", metavar="NAME", help="the data set's name")
    group = parser.add_argument_group("split")
    add = group.add_argument
    add("--csv", type=Path, help="file with lines `file,label[,split]`")
    add("--multi_label", action="store_true", help="with --csv: a video has any number of classes, `label;label`")
    add("--val", type=number(float, above=0, below=1), default=0.2, metavar="SHARE",
        help="share of each class for validation (default: %(default)s)")
    add("--split-by", "--split_by", type=one_of(*WAYS), default="source", help=f"{', '.join(WAYS)} (default: %(default)s)")
    add("--source-pattern", "--source_pattern", type=regular_expression, metavar="REGEX",
        help="how a path names its source")
    cli.add_seed_flag(group, help="seed of the split (default: %(default)s)")
    group = parser.add_argument_group("output")
    add = group.add_argument
    add("--extract", action="store_true", help="write the frames as images: faster to train from, larger on disk")
    add("--height", type=number(int, 1, MOST), default=256, metavar="PIXELS",
        help="with --extract: scale frames to this height (default: %(default)s)")
    add("--out", type=Path, help="directory for lists and frames (default: ROOT/.tsm/NAME)")
    add("--dataset_file", type=Path, default=DATASET_FILE, metavar="YAML",
        help="yaml file to register the data set in (default: datasets.yaml beside main.py)")
    add("--replace", action="store_true", help="replace a data set of this name that has other lists")
    add("--allow_missing", action="store_true", help="exit with status 0 even if videos cannot be read")
    cli.add_workers_flag(group, what="videos at a time")
    return parser


def regular_expression(text: str) -> re.Pattern:
    try:
        return re.compile(text)
    except (re.error, RecursionError, OverflowError) as error:
        raise NotAllowed(f"{text!r} is not a regular expression: {error}") from None


if __name__ == "__main__":
    cli.check_usage(build_parser().parse_args)  # before OpenCV and PyAV are imported

from ops.common.errors import UserError, shown
from ops.common.files import check_not_an_input, check_writable
from ops.common.pool import cores
from ops.common.words import counted
from ops.prepare.labeled_videos import LabeledVideo, find_labeled_videos, read_csv
from ops.prepare.own_dataset import (
    UsableVideos,
    check_videos,
    class_table,
    dataset_files,
    extract_videos,
    list_path,
    write_dataset,
)
from ops.prepare.shared_frames import POSITIONS, Match, find_shared_frames
from ops.prepare.user_file import check_name, register
from ops.video.discovery import is_video_name

log = logging.getLogger("make_dataset")


def main() -> int:
    parser = build_parser()
    args = parser.parse_args()
    out = args.out or args.root / ".tsm" / args.name
    check_arguments(args, out)
    videos = read_csv(args.csv, args.root, args.multi_label) if args.csv else find_labeled_videos(args.root, out)
    if not videos:
        raise UserError(f"no videos in {args.csv or args.root}: it needs a directory of videos per class, or a --csv file")
    warn_without_effect(parser, args, videos)
    usable = read_videos(args, videos, out)
    classes = {label for video in usable.counts for label in video.classes}
    log_unusable(usable, {label for video in videos for label in video.classes} - classes)
    if len(classes) < (1 if args.multi_label else 2):
        raise UserError(f"a data set needs two or more classes with readable videos, {args.root} has {len(classes)}: it"
                        " needs a directory of videos per class, or a --csv file")
    matches = find_shared_frames({video.path: usable.looks[video.path] for video in usable.counts})
    splits = split_videos(list(usable.counts), args.split_by, share=args.val, seed=args.seed, pattern=args.source_pattern,
                          links=[(match.clip, match.other) for match in matches])
    register(args.dataset_file, write_dataset(args.name, usable, splits, out=out), taken=DATASETS, replace=args.replace)
    report(args, usable, splits, matches=matches, out=out)
    return 2 if usable.bad and not args.allow_missing else 0


def check_arguments(args: Namespace, out: Path) -> None:
    """Everything that can be refused before hours of work."""
    if not os.path.isdir(args.root):
        raise UserError(f"there is no directory {args.root}: choose the directory of your videos")
    check_name(args.dataset_file, args.name, list_path(out, "train"), taken=DATASETS, replace=args.replace)
    if args.multi_label and not args.csv:
        raise UserError("--multi_label needs --csv: a directory per class gives each video one class")
    for path, flag in ((list_path(out, "train"), "out"), (args.dataset_file, "dataset_file")):
        try:
            check_writable(path)
        except UserError as error:
            raise UserError(f"{error}: choose another --{flag}") from None
    for path in dataset_files(out):
        check_not_an_input(path, [args.csv], "out")


def warn_without_effect(parser: Parser, args: Namespace, videos: list[LabeledVideo]) -> None:
    if any(video.split == "val" for video in videos):
        decider = "the csv file" if args.csv else "a directory"
        cli.warn_unused(parser, args, f"{decider} decides which videos are for validation", "val", "split_by", "seed")
    if not args.extract:
        cli.warn_unused(parser, args, "no frames are written without --extract", "height")


def read_videos(args: Namespace, videos: list[LabeledVideo], out: Path) -> UsableVideos:
    workers = args.workers or cores()
    if not args.extract:
        return check_videos(args.root, videos, workers)
    directories = [video.path for video in videos if not is_video_name(video.path)]
    if directories:
        raise UserError(f"--extract: {directories[0]!r} is not a video file: omit --extract if there are frames already")
    # The directory's name contains the height, so that frames of two sizes never mix.
    return extract_videos(args.root, videos, out / f"frames_{args.height}", height=args.height, workers=workers)


def log_unusable(usable: UsableVideos, lost_classes: set[str]) -> None:
    for path, reason in usable.bad:
        log.warning("left out: %s: %s", path, reason)
    for label in sorted(lost_classes):
        log.warning("no class: %r: none of its videos can be read", label)


def report(args: Namespace, usable: UsableVideos, splits: dict[str, list[LabeledVideo]], *, matches: list[Match],
           out: Path) -> None:
    """Print the table of classes and the commands to check and train; log warnings about the split."""
    print("\n".join(class_table(splits, args.source_pattern)))
    labels = {split: {label for video in videos for label in video.classes} for split, videos in splits.items()}
    for side, without in (("validation", labels["train"] - labels["val"]),
                          ("training", labels["val"] - labels["train"])):
        if without:
            log.warning("warning: no %s video for %s: %s", side, counted(len(without), "class"),
                        shown(", ".join(sorted(without)[:5])))
    shared = shared_sources(splits, args.source_pattern)
    if shared:
        log.warning("warning: clips of %s are in more than one split: %s", counted(len(shared), "source"),
                    shown(", ".join(shared[:3])))
    warn_of_recordings(args, splits, matches)
    if usable.bad:
        log.warning("%s left out, see %s", counted(len(usable.bad), "video"), out / "unreadable.txt")
    other = "" if args.dataset_file == DATASET_FILE else f" --dataset_file {args.dataset_file}"
    print(f"{out}: lists of {' + '.join(str(len(rows)) for rows in splits.values() if rows)} videos;"
          f" {args.name!r} is in {args.dataset_file}")
    print(f"python tools/check_dataset.py {args.name}{other}")
    print(f"python main.py {args.name} RGB --shift{other}")


def warn_of_recordings(args: Namespace, splits: dict[str, list[LabeledVideo]], matches: list[Match]) -> None:
    """Log whether names show the recordings of the videos, and the videos of different splits that share frames."""
    split_of = {video.path: split for split, videos in splits.items() for video in videos}
    unknown = sum(source_of(path, args.source_pattern) is None for path in split_of)
    if unknown and args.split_by in ("source", "content"):
        log.info("%d of %d names do not show which recording the video is from, so each counts as one of its own: if some"
                 " are clips of one recording, use --source-pattern", unknown, len(split_of))
    shared = [match for match in matches if split_of[match.clip] != split_of[match.other]]
    if shared:
        clip, other, position, other_position = shared[0]
        log.warning("warning: %s of videos in different splits share frames, as if cut from one recording:"
                    " the %s frame of %s is nearly the %s frame of %s: use --source-pattern or --split-by content to keep"
                    " recordings together", counted(len(shared), "pair"), POSITIONS[position], shown(clip),
                    POSITIONS[other_position], shown(other))


if __name__ == "__main__":
    cli.run(main)
