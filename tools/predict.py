"""The classes of a video:  python tools/predict.py VIDEO [--weights checkpoint/<run>/ckpt.best.pth.tar]

VIDEO is a video file, a directory of frames, a directory of either, or a pattern in quotes ('clips/*.mp4'). The
checkpoint holds its network, its preprocessing and its classes' names; the scores are those of test_models.py with the
same --protocol. --weights also takes the name of a released checkpoint, which is downloaded at first use; --categories
names its classes. Without --weights, the TSM of scripts/quickstart.sh answers if it was trained; it knows only the
quickstart's eight gestures.

A long video gets a timeline: --window 2 --stride 1 looks at 2 seconds, once a second, and prints which class is the best
from when to when; --json has every window, --plot draws them.
A video that cannot be read is reported with the reason; the others are answered, and the exit status is 2.
"""
import argparse
import json
import sys
from pathlib import Path
from typing import Any, Iterator, Optional, Union

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import opts
from ops.common.choices import MOST
from ops.common.cli import (
    Parser,
    add_device_flag,
    add_root_dataset_flag,
    add_workers_flag,
    check_usage,
    number,
    one_of,
    run,
    warn_unused,
)
from ops.data.test_protocol import PROTOCOLS


def build_parser() -> Parser:
    parser = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    seconds = number(float, above=0)
    add("video", nargs="+", metavar="VIDEO", help="file, directory or pattern")
    add = parser.add_argument_group("model and answer").add_argument
    add("--weights", metavar="FILE", help="a checkpoint, or the name of a released one (default: the quickstart's TSM)")
    add("--topk", type=number(int, 1), default=5, metavar="K", help="classes to print (default: %(default)s)")
    add("--json", action="store_true", help="print a list with one object per video")
    add = parser.add_argument_group("windows in time").add_argument
    add("--window", type=seconds, metavar="SECONDS", help="classify a part of the video at a time (default: the whole)")
    add("--stride", type=seconds, metavar="SECONDS", help="from one window to the next (default: half a window)")
    add("--plot", type=Path, metavar="OUT.png", help="draw the timelines of --window")
    add("--fps", type=number(float, above=0, maximum=MOST), metavar="RATE",
        help="frames per second of frame directories, for --window")
    group = parser.add_argument_group("clips and classes")
    add = group.add_argument
    add("--protocol", type=one_of(*PROTOCOLS), default="efficient", metavar="NAME",
        help="; ".join(f"{name}: {protocol.words}" for name, protocol in PROTOCOLS.items()) + " (default: %(default)s)")
    add("--test_segments", "--num_segments", type=opts.FRAMES, metavar="T", help="frames per clip (default: as trained)")
    add("--categories", type=Path, metavar="FILE", help="class names, one a line (default: the checkpoint's)")
    add_root_dataset_flag(group)
    group = parser.add_argument_group("machine")
    add = group.add_argument
    add("--batch_size", type=number(int, 1), default=1, metavar="N", help="windows at a time (default: %(default)s)")
    add_workers_flag(group, default=2, what="processes that read windows, or several whole videos; 0: none", minimum=0)
    add_device_flag(group)
    opts.add_override_flags(parser.add_argument_group("model", opts.OVERRIDES_TITLE))
    return parser


if __name__ == "__main__":
    check_usage(build_parser().parse_args)  # torch, which the imports below need, takes seconds

from ops.common.errors import UserError, shown
from ops.common.files import check_not_an_input, check_writable
from ops.common.plots import draw_timelines, save_png
from ops.common.progress import above_bars, progress
from ops.evaluation.predict import Predictor
from ops.evaluation.timeline import spans, timeline_panel
from ops.evaluation.videos import expand, holds_times

QUICKSTART = Path(__file__).resolve().parents[1] / "runs" / "quickstart" / "checkpoint"


def main() -> int:
    parser = build_parser()
    args = parser.parse_args()
    check_arguments(args)
    weights = args.weights or default_weights()
    found = [(name, find_videos(name)) for name in args.video]
    paths = [path for _, videos in found if not isinstance(videos, UserError) for path in videos]
    if args.plot is not None:
        check_not_an_input(args.plot, [Path(weights), args.categories, *paths], "plot")
    predictor = Predictor(weights, protocol=args.protocol, device=args.device, categories=args.categories,
                          root=args.root_dataset, num_segments=args.test_segments, **opts.overrides(args))
    if predictor.class_names is None:
        print(f"{weights} has no class names, classes are numbers: name a file of them with --categories", file=sys.stderr)
    warn_no_effect(parser, args, paths)
    results = []
    count = len(paths) + sum(isinstance(videos, UserError) for _, videos in found)
    look = {"desc": "predicting", "unit": "video", "disable": count == 1}
    for result in progress(answers(args, predictor, found), total=count, **look):
        results.append(result)
        with above_bars():
            if "error" in result:
                print(f"failed: {result['video']}: {result['error']}", file=sys.stderr)
            elif not args.json:
                print("\n".join(in_words(result)), flush=True)
    if args.json:
        print(json.dumps(results, indent=1))
    good = [result for result in results if "error" not in result]
    if args.plot and good:
        save_png(draw_timelines([timeline_panel(result) for result in good]), args.plot)
    return 2 if len(good) < len(results) else 0


def check_arguments(args: argparse.Namespace) -> None:
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
    print(f"no --weights: using the quickstart's TSM, {path}, which knows only eight drawn gestures", file=sys.stderr)
    return path


def warn_no_effect(parser: Parser, args: argparse.Namespace, paths: list[Path]) -> None:
    if args.window is None:
        warn_unused(parser, args, "without --window a video is one clip", "batch_size")
        if len(paths) == 1:
            warn_unused(parser, args, "one whole video is one clip", "workers")
    if args.fps is not None and all(map(holds_times, paths)):
        warn_unused(parser, args, "it is for frame directories, these video files tell when their frames are shown",
                    "fps")


def find_videos(name: str) -> Union[list[Path], UserError]:
    """The videos that an argument stands for, or why there are none."""
    try:
        return expand(name)
    except UserError as error:
        return error


def answers(args: argparse.Namespace, predictor: Predictor,
            found: list[tuple[str, Union[list[Path], UserError]]]) -> Iterator[dict[str, Any]]:
    """One report per video; one that cannot be read has an `error` instead. found: each argument with its videos."""
    paths = [path for _, paths in found if not isinstance(paths, UserError) for path in paths]
    reports = (predictor.reports(paths, fps=args.fps, topk=args.topk, workers=args.workers) if args.window is None
               else timelines(args, predictor, paths))
    for name, videos in found:
        if isinstance(videos, UserError):
            yield failure(name, videos)
            continue
        for path, report in zip(videos, reports):
            yield failure(path, report) if isinstance(report, UserError) else report


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


def in_words(report: dict[str, Any]) -> list[str]:
    """A report in lines: the classes with their probabilities, and when each is the best."""
    lines = [f"{shown(report['video'])}: {report['frames']} frames{duration(report['seconds'])}"]
    lines += [f"  {100 * row['probability']:5.1f}%  {row['class']}" for row in report["predictions"]]
    for start, end, name, probability in spans(report["timeline"]) if "timeline" in report else ():
        lines.append(f"  {start:7.2f} to {end:7.2f} s  {100 * probability:5.1f}%  {name}")
    return lines


def duration(seconds: Optional[float]) -> str:
    return "" if seconds is None else f", {seconds:.1f} s"


if __name__ == "__main__":
    run(main)
