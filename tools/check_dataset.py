"""Check what training would read before training reads it:  python tools/check_dataset.py ucf101

Checks all lists of a data set, given by its name, or any list files (`path num_frames label`) whose videos or frame
directories are under --root_path. Decodes the first, middle and last frame of every video, with --full all of them.

Finds: malformed lines; labels outside the classes, or of another class than the directory's name; missing, empty,
truncated and unreadable videos and frames; frames numbered from 0, gaps, frames of different sizes; wrong numbers of
frames in the list; videos that are too short; images that are not RGB; the same video twice in a list or in two lists, by
its path or by its first and middle frame; and clips of two lists that share frames, as if cut from one recording.

--fix OUT.txt writes the list without these videos and with the right numbers of frames (for several lists OUT_train.txt,
OUT_val.txt, ...; a video of two lists stays in the last one). Exit status: 0 clean, 2 something was found.

--part I/N --results DIR checks a part of the videos, as one of N jobs. The part that ends last prints the report and writes
the list that one run would give. A part that died is run again alone; after changes to the data, name a new DIR.
"""
import json
import os
import sys
from argparse import Namespace, RawDescriptionHelpFormatter
from itertools import chain
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from ops.common import cli
from ops.common.choices import DATA_FORMATS, MODALITIES
from ops.common.cli import NotAllowed, Parser, number, one_of
from ops.prepare.findings import KINDS
from ops.video.discovery import TEMPLATE, is_template


def build_parser() -> Parser:
    parser = Parser(description=__doc__, formatter_class=RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("what", nargs="+", metavar="DATASET|LIST", help="the name of one data set, or list files")
    group = parser.add_argument_group("checks and results")
    add = group.add_argument
    add("--full", action="store_true", help="decode every frame")
    add("--fix", type=Path, metavar="OUT.txt", help="write a clean list")
    add("--json", action="store_true", help="print every finding as JSON")
    add("--min_frames", type=number(int, 0), default=8, metavar="N",
        help="videos with fewer frames are too short (default: %(default)s, the frames of a clip)")
    add("--ignore", type=kinds, default=frozenset(), metavar="KIND,...",
        help=f"findings to leave out: {', '.join(KINDS)} (default: none)")
    cli.add_workers_flag(group, what="videos at a time")
    cli.add_part_flag(group, "; needs --results")
    add("--results", type=Path, metavar="DIR", help="directory where the parts put their results, the same for all")
    group = parser.add_argument_group("a data set")
    add = group.add_argument
    add("--root_path", type=Path,
        help="directory of the videos or frame directories (default: the data set's, or the first list's)")
    add("--modality", type=one_of(*MODALITIES), default="RGB", metavar="NAME",
        help="RGB or Flow (default: %(default)s)")
    cli.add_dataset_flags(group, DATA_FORMATS)
    add = parser.add_argument_group("list files").add_argument
    add("--template", type=template, help="file name of a frame, as in img_{:05d}.jpg (default: as in the first frame"
        " directory)")
    add("--categories", type=Path, help="file of class names, one per line")
    add("--num_class", type=number(int, 1), metavar="N", help="number of classes")
    add("--multi_label", action="store_true", help="a video has any number of classes: `3`, `3,17`, or `-` for none")
    return parser


def kinds(text: str) -> frozenset[str]:
    names = frozenset(text.split(",")) if text else frozenset()
    if unknown := sorted(names - set(KINDS)):
        raise NotAllowed(f"{','.join(unknown)}: choose from {', '.join(KINDS)}")
    return names


def template(text: str) -> str:
    if not is_template(text):
        raise NotAllowed(f"{text!r}: choose a file name with one number, as in img_{{:05d}}.jpg")
    return text


if __name__ == "__main__":
    cli.check_usage(build_parser().parse_args)  # before OpenCV and PyAV are imported

from ops.common.errors import UserError, shown
from ops.common.files import check_not_inputs, check_writable
from ops.common.part import WHOLE, Part
from ops.common.pool import cores
from ops.common.words import counted
from ops.data.inputs import listed_inputs
from ops.dataset_config import DATASET_FILE, DATASETS, read_categories, resolve_dataset, user_datasets
from ops.prepare.check import (
    DatasetReport,
    Rules,
    check_lists,
    clean_list,
    guess_template,
    summary,
    to_dict,
    write_clean,
)
from ops.prepare.check_parts import check_part
from ops.video.shards import holds_shards


def main() -> int:
    parser = build_parser()
    args = parser.parse_args()
    if args.part != WHOLE and args.results is None:
        raise UserError("--part needs --results: the directory where the parts put their results")
    by_name = is_dataset_name(args)
    files, rules = dataset_lists(args) if by_name else list_files(args)
    warn_without_effect(parser, args, by_name)
    if args.data_format == "shards" or holds_shards(rules.root):
        raise UserError(f"shards in {rules.root}: only the frame directories they were made from can be checked: set"
                        " --root_path to those")
    if args.fix:
        check_fix(args, files, rules)
    report, missing = check(args, files, rules)
    report.findings = [finding for finding in report.findings if finding.kind not in args.ignore]
    if missing:
        print(f"part {args.part}: {counted(len(report.videos), 'video')} inspected,"
              f" {counted(len(report.findings), 'finding')};"
              f" without results in {args.results}: {', '.join(map(str, missing[:5]))}{', ...' * (len(missing) > 5)}")
        return 2 if report.findings else 0
    print(json.dumps(to_dict(report), indent=1) if args.json else "\n".join(text_report(report)))
    found = {finding.kind for finding in report.findings}
    if found and len(report.findings) >= len(report.entries) and found <= {"missing"}:
        print(f"no video was found under {rules.root}: set --root_path to the directory of the videos", file=sys.stderr)
    if args.fix:
        for name, (file, count) in write_clean(report, args.fix).items():
            print(f"{file}: {counted(count, 'video')} of {name}", file=sys.stderr)
    return 2 if report.findings else 0


def check_fix(args: Namespace, files: dict[str, Path], rules: Rules) -> None:
    """Refuse, before any video is inspected, clean lists that cannot be written or would replace what the check reads."""
    outputs = {clean_list(args.fix, name, len(files)): "fix" for name in files}
    for clean in outputs:
        check_writable(clean)
    check_not_inputs(outputs, chain([args.categories, args.dataset_file or DATASET_FILE],
                                    listed_inputs(files.values(), rules.root)))


def check(args: Namespace, files: dict[str, Path], rules: Rules) -> tuple[DatasetReport, list[Part]]:
    """The report, and the parts whose results it still misses."""
    workers = args.workers or cores()
    if args.part == WHOLE:
        return check_lists(files, rules, workers), []
    return check_part(files, rules, workers, part=args.part, results=args.results)


def is_dataset_name(args: Namespace) -> bool:
    """Whether the arguments are a data set's name, not list files."""
    name, *more = args.what
    return not more and (name in DATASETS or name in user_datasets(args.dataset_file) or not os.path.exists(name))


def warn_without_effect(parser: Parser, args: Namespace, by_name: bool) -> None:
    if args.part == WHOLE:
        cli.warn_unused(parser, args, "without --part there is one report", "results")
    if by_name:
        cli.warn_unused(parser, args, "a data set has its own", "template", "categories", "num_class",
                        "multi_label")
        if args.modality == "Flow":
            cli.warn_unused(parser, args, "flow is always in directories of images", "data_format")
        return
    cli.warn_unused(parser, args, "it applies to a data set's name, not to list files", "modality", "root_dataset",
                    "dataset_file")
    if args.categories:
        cli.warn_unused(parser, args, "--categories determines it", "num_class")


# ---- what to check ------------------------------------------------------------------------------------------

def dataset_lists(args: Namespace) -> tuple[dict[str, Path], Rules]:
    """The lists of a data set, and what to check them against."""
    data = resolve_dataset(args.what[0], args.modality, args.root_dataset, root_path=str(args.root_path or ""),
                           dataset_file=args.dataset_file, needed=["train_list", "val_list"])
    rules = Rules(data.frames, data.template, data.num_class, data.class_names, args.min_frames, args.full,
                  "frames" if args.modality == "Flow" else args.data_format, data.multi_label)
    own = None if data.name in DATASETS else user_datasets(args.dataset_file)[data.name]
    test = {"test": own.test_list} if own and own.test_list else {}
    return {"train": data.train_list, "val": data.val_list, **test}, rules


def list_files(args: Namespace) -> tuple[dict[str, Path], Rules]:
    """The list files by name, and what to check them against."""
    paths = [Path(what) for what in args.what]
    root = args.root_path or paths[0].parent
    names = read_categories(args.categories) if args.categories else None
    if args.categories and names is None:
        raise UserError(f"--categories: there is no file {args.categories}")
    stems = [path.stem for path in paths]
    files = {path.stem if stems.count(path.stem) == 1 else str(path): path for path in paths}
    rules = Rules(root, args.template or guess_template(root, paths, TEMPLATE), len(names) if names else args.num_class,
                  names, args.min_frames, args.full, args.data_format, args.multi_label)
    return files, rules


# ---- report -------------------------------------------------------------------------------------------------

def text_report(report: DatasetReport, examples: int = 3) -> list[str]:
    """The report as lines, few enough for one page: each list, then each kind of finding with its first examples."""
    lines = [summary_line(name, summary(report, name)) for name in report.files]
    for kind, meaning in KINDS.items():
        found = [finding for finding in report.findings if finding.kind == kind]
        if not found:
            continue
        lines.append(f"{kind} ({len(found)}): {meaning}")
        lines += [shown(f"    {f.list}:{f.line} {f.path}: {f.detail}") for f in found[:examples]]
        lines += [f"    ... and {len(found) - examples} more (all of them: --json)"] if len(found) > examples else []
    total = len({(finding.list, finding.line) for finding in report.findings})
    findings, entries = len(report.findings), len(report.entries)
    return [*lines, f"{counted(findings, 'finding')} in {total} of {counted(entries, 'line')}" if total else
            f"clean: {counted(entries, 'video')}"]


def summary_line(name: str, numbers: dict[str, Any]) -> str:
    known = f" of {numbers['classes_known']}" if numbers["classes_known"] is not None else ""
    parts = [counted(numbers["videos"], "video"), f"{numbers['classes']}{known} classes"]
    if numbers["videos_per_class"]:
        parts[-1] += " of {} to {} videos".format(*numbers["videos_per_class"])
    if numbers["frames"]:
        parts.append("{0} to {2} frames, median {1}".format(*numbers["frames"]))
    if numbers["sizes"]:
        parts.append("pixels: " + ", ".join(f"{size} ({n})" for size, n in list(numbers["sizes"].items())[:3])
                     + ", ..." * (len(numbers["sizes"]) > 3))
    return f"{name}: {numbers['file']}: " + "; ".join(parts)


if __name__ == "__main__":
    cli.run(main)
