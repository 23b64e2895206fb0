"""What a video shows:  python tools/predict.py VIDEO [--weights checkpoint/<run>/ckpt.best.pth.tar]

VIDEO is a video file, a directory of frames, a directory of either, or a pattern in quotes ('clips/*.mp4'). The checkpoint
says what network it is, how frames are prepared and what its classes are called; the scores are those of test_models.py
with the same --protocol. Released weights are named by their files, their classes by --categories. Without --weights
the quickstart's TSM answers, where scripts/quickstart.sh was run: it knows the quickstart's eight gestures alone.

A long video is answered as a timeline: --window 2 --stride 1 looks at 2 seconds, once a second, and tells from when to
when which class is the best; --json has every window, --plot draws them.
A video that cannot be read is told with its reason; the others are answered, and the exit status is 2.
"""
import argparse
import json
import sys
from pathlib import Path
from typing import Any, Iterator, Optional, Union

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from torch import Tensor

import opts
from ops.common.cli import Parser, run, warn_unused
from ops.common.device import pick_device
from ops.common.errors import UserError, shown
from ops.common.files import check_not_an_input, check_writable
from ops.common.plots import draw_timelines, save_png
from ops.data.test_protocol import PROTOCOLS
from ops.evaluation.predict import (
    Classifier,
    Video,
    answer,
    classify,
    classify_clip,
    expand,
    load_classifier,
    open_for_prediction,
    quickstart_weights,
    whole_clips,
    windows_of,
)
from ops.evaluation.timeline import spans, timeline_panel


def main() -> int:
    parser = build_parser()
    args = parser.parse_args()
    check_arguments(args)
    args.weights = args.weights or default_weights()
    found = {name: videos_of(name) for name in args.video}
    paths = [path for paths in found.values() if not isinstance(paths, UserError) for path in paths]
    if args.plot is not None:
        check_not_an_input(args.plot, [args.weights, args.categories, *paths], "plot")
    classifier = load_classifier(args.weights, pick_device(args.device), PROTOCOLS[args.protocol],
                                 categories=args.categories, root=args.root_dataset,
                                 **opts.overrides(args), num_segments=args.test_segments)
    if not classifier.named:
        print(f"{args.weights} has no class names, classes are numbers: name a file of them with --categories",
              file=sys.stderr)
    results = []
    tell_no_effect(parser, args, paths)
    for result in answers(args, classifier, found):
        results.append(result)
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


def build_parser() -> Parser:
    parser = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("video", nargs="+", metavar="VIDEO", help="file, directory or pattern")
    add("--weights", type=Path, help="checkpoint (default: the quickstart's TSM, if it is there)")
    add("--topk", type=int, default=5, help="classes to tell (default: %(default)s)")
    add("--json", action="store_true", help="a list with an object per video")
    add("--window", type=float, metavar="SECONDS", help="answer for a part of the video at a time (default: the whole)")
    add("--stride", type=float, metavar="SECONDS", help="from one window to the next (default: half a window)")
    add("--plot", type=Path, metavar="OUT.png", help="draw the timelines of --window")
    add("--fps", type=float, help="frames per second of frame directories, for --window")
    add("--protocol", default="efficient",
        help="; ".join(f"{name}: {protocol.words}" for name, protocol in PROTOCOLS.items()) + " (default: %(default)s)")
    add("--test_segments", "--num_segments", type=int, help="frames per clip (default: as trained)")
    add("--categories", type=Path, help="file of class names, one a line (default: the checkpoint's)")
    add("--root_dataset", help="where a released file's data set lies, for class names (default: $TSM_ROOT, else data)")
    add("--batch_size", type=int, default=1, help="windows at a time (default: %(default)s)")
    add("-j", "--workers", type=int, default=2,
        help="processes that read windows, or several whole videos; 0: none (default: %(default)s)")
    add("--device", default="auto", help="auto, cpu, cuda, cuda:N or mps")
    opts.add_override_flags(parser.add_argument_group("model", opts.OVERRIDES_TITLE))
    return parser


def check_arguments(args: argparse.Namespace) -> None:
    if args.protocol not in PROTOCOLS:
        raise UserError(f"--protocol {args.protocol!r}: choose {' or '.join(PROTOCOLS)}")
    for name, value, least in (("topk", args.topk, 1), ("batch_size", args.batch_size, 1), ("workers", args.workers, 0),
                               ("test_segments", args.test_segments, 1)):
        if value is not None and value < least:
            raise UserError(f"--{name} {value}: choose {least} or more")
    for name, seconds in (("window", args.window), ("stride", args.stride), ("fps", args.fps)):
        if seconds is not None and not 0 < seconds < float("inf"):
            raise UserError(f"--{name} {seconds}: choose a number above 0")
    if args.window is None and (args.stride is not None or args.plot is not None):
        raise UserError(f"--{'plot' if args.plot else 'stride'} needs --window: without it a video has one answer")
    if args.plot is not None:
        check_writable(args.plot)


def default_weights() -> Path:
    """The quickstart's TSM, named; UserError that says where weights come from when it is not there."""
    path = quickstart_weights()
    if path is None:
        raise UserError("no --weights: name a checkpoint, yours (checkpoint/<run>/ckpt.best.pth.tar) or a released one"
                        " (tools/download_weights.py --list); scripts/quickstart.sh trains a small one in minutes")
    print(f"no --weights: {path} answers, the quickstart's TSM, which knows eight drawn gestures and nothing else",
          file=sys.stderr)
    return path


def tell_no_effect(parser: Parser, args: argparse.Namespace, paths: list[Path]) -> None:
    if args.window is None:
        warn_unused(parser, args, "without --window a video is one clip", "batch_size")
        if len(paths) == 1:
            warn_unused(parser, args, "one whole video is one clip", "workers")
    if not any(path.is_dir() for path in paths):
        warn_unused(parser, args, "it is for frame directories, video files tell their own", "fps")


def videos_of(name: str) -> Union[list[Path], UserError]:
    try:
        return expand(name)
    except UserError as error:
        return error


def answers(args: argparse.Namespace, classifier: Classifier,
            found: dict[str, Union[list[Path], UserError]]) -> Iterator[dict[str, Any]]:
    """One result per video; what cannot be read has an `error` instead. found: what `videos_of` says of each name."""
    named = [found[name] for name in args.video]
    paths = [path for paths in named if not isinstance(paths, UserError) for path in paths]
    results = whole_answers(args, classifier, paths) if args.window is None else timelines(args, classifier, paths)
    for name, videos in zip(args.video, named):
        if isinstance(videos, UserError):
            yield {"video": shown(name), "error": shown(videos)}
            continue
        for _ in videos:
            yield next(results)


def whole_answers(args: argparse.Namespace, classifier: Classifier, paths: list[Path]) -> Iterator[dict[str, Any]]:
    """Of each path its answer, while other processes read the next ones."""
    for path, read in zip(paths, whole_clips(classifier, paths, args.fps, args.workers)):
        try:
            yield whole_answer(args, classifier, read)
        except UserError as error:
            yield {"video": shown(path), "error": shown(error)}


def whole_answer(args: argparse.Namespace, classifier: Classifier,
                 read: Union[tuple[Video, Tensor], UserError]) -> dict[str, Any]:
    if isinstance(read, UserError):
        raise read
    video, clip = read
    return answer(classifier, video, windows_of(video, None, None), classify_clip(classifier, video, clip), args.topk,
                  timeline=False)


def timelines(args: argparse.Namespace, classifier: Classifier, paths: list[Path]) -> Iterator[dict[str, Any]]:
    """Of each path its windows' answers."""
    for path in paths:
        try:
            video = open_for_prediction(path, args.fps)
            windows = windows_of(video, args.window, args.stride)
            scores = classify(classifier, video, windows, args.batch_size, args.workers)
            yield answer(classifier, video, windows, scores, args.topk, timeline=True)
        except UserError as error:
            yield {"video": shown(path), "error": shown(error)}


def in_words(result: dict[str, Any]) -> list[str]:
    """A result in lines: the classes with their probabilities, and when which one is the best."""
    lasts = seconds_in_words(result["seconds"])
    lines = [f"{shown(result['video'])}: {result['frames']} frames{lasts}"]
    lines += [f"  {100 * row['probability']:5.1f}%  {row['class']}" for row in result["predictions"]]
    for start, end, name, probability in spans(result["timeline"]) if "timeline" in result else ():
        lines.append(f"  {start:7.2f} to {end:7.2f} s  {100 * probability:5.1f}%  {name}")
    return lines


def seconds_in_words(seconds: Optional[float]) -> str:
    return "" if seconds is None else f", {seconds:.1f} s"


if __name__ == "__main__":
    run(main)
