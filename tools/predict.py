"""The classes of a video:  python tools/predict.py VIDEO [--weights checkpoint/<run>/ckpt.best.pth.tar]

VIDEO is a video file, a directory of frames, a directory of either, or a pattern in quotes ('clips/*.mp4'). The
checkpoint holds its network, its preprocessing and its classes' names; the scores are those of test_models.py with the
same --protocol. --weights also takes the name of a released checkpoint, which is downloaded at first use; --categories
names its classes. Without --weights, the TSM of scripts/quickstart.sh answers if it was trained; it knows only the
quickstart's eight gestures.

A long video gets a timeline: --window 2 --stride 1 looks at 2 seconds, once a second, and prints which class is the best
from when to when; --json has every window, --plot draws them.
A video that cannot be read is reported with the reason; the others are answered, and the exit status is 2.

Many videos: torchrun --nproc_per_node N tools/predict.py ... divides them between N processes, and the first one prints all
answers. --part I/N --results DIR answers a part of them, as one of N jobs; the part that ends last prints all answers.
"""
import argparse
import hashlib
import json
import os
import sys
from pathlib import Path
from typing import Any, Iterable, Iterator, Optional, Sequence, Union

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import opts
from ops.common import cli
from ops.common.choices import MOST
from ops.common.cli import Parser, image_file, number, one_of
from ops.data.test_protocol import PROTOCOLS


def build_parser() -> Parser:
    parser = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    seconds = number(float, above=0)
    add("video", nargs="+", metavar="VIDEO", help="file, directory or pattern")
    add = parser.add_argument_group("model and answer").add_argument
    add("--weights", metavar="FILE", help="a checkpoint, an exported model (tools/export.py), or the name of a"
        " released checkpoint (default: the quickstart's TSM)")
    add("--topk", type=number(int, 1), default=5, metavar="K", help="classes to print (default: %(default)s)")
    add("--json", action="store_true", help="print a list with one object per video")
    add = parser.add_argument_group("windows in time").add_argument
    add("--window", type=seconds, metavar="SECONDS", help="classify a part of the video at a time (default: the whole)")
    add("--stride", type=seconds, metavar="SECONDS", help="from one window to the next (default: half a window)")
    add("--plot", type=image_file(".png"), metavar="OUT.png", help="draw the timelines of --window")
    add("--fps", type=number(float, above=0, maximum=MOST), metavar="RATE",
        help="frames per second of frame directories, and of video files without times; --window needs it there")
    group = parser.add_argument_group("clips and classes")
    add = group.add_argument
    add("--protocol", type=one_of(*PROTOCOLS), default="efficient", metavar="NAME",
        help="; ".join(f"{name}: {protocol.words}" for name, protocol in PROTOCOLS.items()) + " (default: %(default)s)")
    add("--test_segments", "--num_segments", type=opts.FRAMES, metavar="T", help="frames per clip (default: as trained)")
    add("--categories", type=Path, metavar="FILE", help="class names, one a line (default: the checkpoint's)")
    cli.add_root_dataset_flag(group)
    group = parser.add_argument_group("machine")
    add = group.add_argument
    add("--batch_size", type=number(int, 1), default=1, metavar="N", help="windows at a time (default: %(default)s)")
    cli.add_workers_flag(group, default=2, what="processes that read windows, or several whole videos; 0: none", minimum=0)
    cli.add_device_flag(group)
    cli.add_dist_timeout_flag(group)
    cli.add_part_flag(group, "; needs --results")
    add("--results", type=Path, metavar="DIR", help="directory where the parts put their answers, the same for all")
    opts.add_override_flags(parser.add_argument_group("model", opts.OVERRIDES_TITLE))
    return parser


if __name__ == "__main__":
    cli.check_usage(build_parser().parse_args)  # torch, which the imports below need, takes seconds

import torch

from ops.checkpoints.model_zoo import find_weights
from ops.common import distributed
from ops.common.device import pick_devices
from ops.common.errors import UserError, shown
from ops.common.files import check_not_an_input, check_writable
from ops.common.part import WHOLE, Part, interleave
from ops.common.part_results import part_results
from ops.common.plots import draw_timelines, save_png
from ops.common.progress import above_bars, progress
from ops.common.words import counted
from ops.evaluation.predict import Predictor, find_class_names
from ops.evaluation.timeline import spans, timeline_panel
from ops.evaluation.videos import expand, holds_times
from ops.runtimes.exported_file import format_of, read_exported
from ops.runtimes.registry import as_clip

QUICKSTART = Path(__file__).resolve().parents[1] / "runs" / "quickstart" / "checkpoint"


Item = Union[Path, tuple[str, UserError]]  # a video, or an argument that stands for none and the reason


def main() -> int:
    distributed.quiet_others()
    parser = build_parser()
    args = parser.parse_args()
    check_arguments(args)
    device, _ = pick_devices(args.device, None)
    with distributed.joined(device, args.dist_timeout), distributed.naming_lost_processes():
        return predict(parser, args, device)


def predict(parser: Parser, args: argparse.Namespace, device: torch.device) -> int:
    """Find the videos, answer, report: the work of each process. Returns the exit status."""
    weights = args.weights or default_weights()
    items = [item for name in args.video for item in find_videos(name)]
    paths = [item for item in items if isinstance(item, Path)]
    with distributed.main_process_first():
        weights = find_weights(weights)
    if "," in str(weights) and not weights.exists():
        raise UserError(f"--weights {str(weights)!r}: no such file: name one checkpoint; test_models.py takes several")
    if args.plot is not None:
        check_not_an_input(args.plot, [weights, args.categories, *paths], "plot")
    predictor = make_predictor(args, weights, device)
    if predictor.class_names is None and distributed.world().is_main:
        print(f"{weights} has no class names, classes are numbers: name a file of them with --categories", file=sys.stderr)
    if distributed.world().is_main:
        warn_no_effect(parser, args, items)
    if args.part != WHOLE:
        return predict_part(args, predictor, items, weights)
    results = answer_together(args, predictor, items)
    return report(args, results) if distributed.world().is_main else 0


def make_predictor(args: argparse.Namespace, weights: Path, device: torch.device) -> Predictor:
    """What answers: a checkpoint's network, or an exported model in its runtime."""
    options = {**opts.overrides(args), "num_segments": args.test_segments}
    if not format_of(weights):
        return Predictor(weights, protocol=args.protocol, device=device, categories=args.categories, root=args.root_dataset,
                         **options)
    exported = read_exported(weights)
    found = exported.info.as_checkpoint(weights, **options)
    runtime = as_clip(exported, device=device)
    runtime.class_names = find_class_names(found, args.categories, args.root_dataset)
    return Predictor(runtime, protocol=args.protocol)


def predict_part(args: argparse.Namespace, predictor: Predictor, items: Sequence[Item], weights: Path) -> int:
    """Answer a part of the items and store the answers; report all of them if no part is missing."""
    if not distributed.world().is_main:
        answer_together(args, predictor, args.part.take(items))
        return 0
    names = "\n".join(str(item if isinstance(item, Path) else item[0]) for item in items)
    settings = {"weights": str(weights), "videos": hashlib.sha256(os.fsencode(names)).hexdigest(), **answer_options(args)}
    with part_results(args.results, args.part, settings) as stored:
        own = answer_together(args, predictor, args.part.take(items))
        everything = stored.store(own)
        missing = stored.missing()
    if everything is not None:
        return report(args, interleave(everything))
    show(own, failures_only=True)
    print(f"part {args.part}: {counted(len(own), 'video')}; without results in {args.results}:"
          f" {', '.join(map(str, missing[:5]))}{', ...' * (len(missing) > 5)}")
    return 2 if any("error" in result for result in own) else 0


def answer_options(args: argparse.Namespace) -> dict[str, str]:
    """The options that the answers depend on."""
    return {key: str(value) for key, value in vars(args).items()
            if key not in ("video", "weights", "json", "plot", "batch_size", "workers", "device", "dist_timeout", "part",
                           "results")}


def prints_at_once(args: argparse.Namespace) -> bool:
    """Whether each answer is printed as soon as it is there; else this process does not have them all."""
    return distributed.world().size == 1 and args.part == WHOLE


def answer_together(args: argparse.Namespace, predictor: Predictor, items: Sequence[Item]) -> list[dict[str, Any]]:
    """The answers to all items, in their order; each process of the run contributes its share."""
    own, at_once, results = own_share(items), prints_at_once(args), []
    look = {"desc": "predicting", "unit": "video", "disable": len(own) == 1 or not distributed.world().is_main}
    with distributed.on_its_own():
        for result in progress(answers(args, predictor, own), total=len(own), **look):
            results.append(result)
            if at_once:
                with above_bars():
                    show([result], failures_only=args.json)
    return interleave(distributed.gather(results))


def own_share(items: Sequence[Item]) -> Sequence[Item]:
    """The items that this process of the run answers."""
    here = distributed.world()
    return Part(here.rank + 1, here.size).take(items)


def report(args: argparse.Namespace, results: Sequence[dict[str, Any]]) -> int:
    """Print and draw all answers, as far as they are not printed yet. Returns the exit status."""
    if not prints_at_once(args):
        show(results, failures_only=args.json)
    if args.json:
        print(json.dumps(results, indent=1))
    good = [result for result in results if "error" not in result]
    if args.plot and good:
        save_png(draw_timelines([timeline_panel(result) for result in good]), args.plot)
    return 2 if len(good) < len(results) else 0


def check_arguments(args: argparse.Namespace) -> None:
    if args.part != WHOLE and args.results is None:
        raise UserError("--part needs --results: the directory where the parts put their answers")
    if args.window is None and (args.stride is not None or args.plot is not None):
        raise UserError(f"--{'plot' if args.plot else 'stride'} needs --window: without it a video has one answer")
    if args.plot is not None:
        check_writable(args.plot)


def default_weights() -> Path:
    """The newest of the quickstart's two-way TSM checkpoints, which is printed. UserError when there are none."""
    found = [path for path in QUICKSTART.glob("TSM_gestures_RGB_*_shift*/ckpt.pth.tar") if "_uni_" not in path.parent.name]
    if not found:
        raise UserError("no --weights: name a checkpoint, yours (checkpoint/<run>/ckpt.best.pth.tar) or a released one"
                        " (tools/download_weights.py --list); scripts/quickstart.sh trains a small one in minutes")
    path = max(found, key=lambda path: path.stat().st_mtime)
    if distributed.world().is_main:
        print(f"no --weights: using the quickstart's TSM, {path}, which knows only eight drawn gestures", file=sys.stderr)
    return path


def warn_no_effect(parser: Parser, args: argparse.Namespace, items: Sequence[Item]) -> None:
    paths = [item for item in items if isinstance(item, Path)]
    if args.part == WHOLE:
        cli.warn_unused(parser, args, "without --part all answers are printed", "results")
    if args.window is None:
        cli.warn_unused(parser, args, "without --window a video is one clip", "batch_size")
        if len(paths) == 1:
            cli.warn_unused(parser, args, "one whole video is one clip", "workers")
    if args.fps is not None and not any(path.is_dir() for path in paths):
        own = [item for item in own_share(args.part.take(items)) if isinstance(item, Path)]  # others open theirs
        if all(map(holds_times, own)):
            cli.warn_unused(parser, args, "it is for frame directories, these video files tell when their frames are shown"
                            + f" (looked at: {len(own)} of {len(paths)})" * (len(own) < len(paths)), "fps")


def find_videos(name: str) -> list[Item]:
    """The videos that an argument stands for, or why there are none."""
    try:
        return list(expand(name))
    except UserError as error:
        return [(name, error)]


def answers(args: argparse.Namespace, predictor: Predictor, items: Sequence[Item]) -> Iterator[dict[str, Any]]:
    """One report per item; one that cannot be read has an `error` instead."""
    paths = [item for item in items if isinstance(item, Path)]
    reports = (predictor.reports(paths, fps=args.fps, topk=args.topk, workers=args.workers) if args.window is None
               else timelines(args, predictor, paths))
    for item in items:
        if not isinstance(item, Path):
            yield failure(*item)
            continue
        answer = next(reports)
        yield failure(item, answer) if isinstance(answer, UserError) else answer


def timelines(args: argparse.Namespace, predictor: Predictor,
              paths: list[Path]) -> Iterator[Union[dict[str, Any], UserError]]:
    """For each video its report with a timeline, or why there is none."""
    for path in paths:
        try:
            yield predictor.report(path, window=args.window, stride=args.stride, fps=args.fps, topk=args.topk,
                                   batch_size=args.batch_size, workers=args.workers)
        except UserError as error:
            yield error


def failure(video: Union[str, Path], error: UserError) -> dict[str, Any]:
    return {"video": shown(video), "error": shown(error.for_command_line())}


def show(results: Iterable[dict[str, Any]], *, failures_only: bool) -> None:
    """Print answers in words, and failures on standard error."""
    for result in results:
        if "error" in result:
            print(f"failed: {result['video']}: {result['error']}", file=sys.stderr)
        elif not failures_only:
            print("\n".join(in_words(result)), flush=True)


def in_words(report: dict[str, Any]) -> list[str]:
    """A report in lines: the classes with their probabilities, and when each is the best, or of a multi-label model, when
    each is present."""
    lines = [f"{shown(report['video'])}: {counted(report['frames'], 'frame')}{duration(report['seconds'])}"]
    lines += [f"  {100 * row['probability']:5.1f}%  {row['class']}" for row in report["predictions"]]
    if "present" in report:
        stretches = [(row["start"], row["end"], row["class"], row["probability"]) for row in report["present"]]
    else:
        stretches = spans(report["timeline"]) if "timeline" in report else []
    for start, end, name, probability in stretches:
        lines.append(f"  {start:7.2f} to {end:7.2f} s  {100 * probability:5.1f}%  {name}")
    return lines


def duration(seconds: Optional[float]) -> str:
    return "" if seconds is None else f", {seconds:.1f} s"


if __name__ == "__main__":
    cli.run(main)
