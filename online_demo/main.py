"""Run an online model on a camera, a video, a directory of frames or a network stream, and show its predictions.

    python online_demo/main.py webcam
    python online_demo/main.py clip.mp4 --weights ONLINE.pth.tar --headless --output annotated.mp4 --json
"""
import logging
import math
import sys
from argparse import Namespace, RawDescriptionHelpFormatter
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple, Optional

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from ops.common.choices import FRAME_RATE, MOST, PRECISIONS, SMOOTHINGS
from ops.common.cli import Parser, add_device_flag, check_usage, number, one_of, run
from ops.runtimes.registry import BACKENDS, open_runtime, open_step

SMOOTH_FROM = 6.0  # model frames per second, at which the published average of 12 frames takes 2 seconds


def build_parser() -> Parser:
    parser = Parser(prog="main.py", description=__doc__, formatter_class=RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("source", help="webcam, webcam:1, a video file, a directory of frames, or an rtsp:// or http:// address")
    group = parser.add_argument_group("model")
    add = group.add_argument
    add("--weights", help="an online file, a clip checkpoint of a unidirectional model, an exported step (tools/export.py),"
        " or demo: the quickstart's model of rendered gestures (default: the released Jester model in the cache)")
    add("--backend", type=one_of(*BACKENDS), metavar="NAME", help=f"runtime: {', '.join(BACKENDS)} (default:"
        f" {next(iter(BACKENDS))}; for an exported step, its format's)")
    add("--precision", type=one_of(*PRECISIONS), metavar="NAME",
        help=f"{', '.join(PRECISIONS)} (default: {PRECISIONS[0]}; for an exported step, its own); bfloat16 and int8 are"
        " faster on processors that support them; int8 needs a step that tools/export.py --precision int8 has calibrated")
    add_device_flag(group, "for --backend torch: ")
    add("--rate", type=number(float, above=0, maximum=MOST), metavar="FPS",
        help="frames per second of the source's clock that the model"
        f" gets (default: the rate in the weight file, else {FRAME_RATE:g})")
    add("--smooth", type=one_of(*SMOOTHINGS), metavar="NAME", help="published: average the last 12 logits, and change the"
        f" prediction only after two frames agree; none (default: published from {SMOOTH_FROM:g} model frames per second"
        " on; below that it would lag by seconds)")
    add = parser.add_argument_group("output").add_argument
    add("--output", type=Path, metavar="OUT.mp4", help="write the annotated video")
    add("--json", action="store_true", help="print every decision as a line of JSON")
    add("--headless", action="store_true", help="open no window")
    add("--threshold", type=number(float, 0, 1, words="a probability, 0 to 1"), default=0.0, metavar="P",
        help="show no prediction if its probability is below this, 0-1 (default: %(default)g)")
    add("--topk", type=number(int, 1, words="1 or more classes"), default=5, metavar="N",
        help="number of classes shown (default: %(default)s)")
    add("--mirror", action="store_true", help="mirror the displayed video, but not the model's input")
    add("--fullscreen", action="store_true", help="let the window fill the screen")
    add = parser.add_argument_group("source").add_argument
    add("--reconnect", action="store_true", help="when a camera or address fails, retry until it is back")
    add("--realtime", action="store_true", help="play a file by its clock without a window too, dropping frames if this"
        " machine is too slow")
    add("--max_seconds", type=number(float, above=0), metavar="S", help="stop after this many seconds of the source")
    add("--folder_rate", type=number(float, above=0, maximum=MOST), metavar="FPS",
        help=f"frames per second of a directory of frames (default: {FRAME_RATE:g})")
    return parser


if __name__ == "__main__":
    check_usage(build_parser().parse_args)  # before OpenCV and PyAV are imported

from online_demo.recorder import Recorder
from ops.checkpoints.model_zoo import ONLINE_JESTER, cached_file
from ops.common.errors import UserError
from ops.common.files import check_not_an_input
from ops.streaming.sources import Address, Camera, Directory, Source, open_source

DEMO_WEIGHTS = ROOT / "runs" / "quickstart" / "demo_online.pth.tar"
DEMO_VIDEO = DEMO_WEIGHTS.parent / "stream" / "gestures.mp4"


class Files(NamedTuple):
    """What a run reads and writes. recorder: None without --output."""
    weights: Path
    source: Source
    recorder: Optional[Recorder]


def find_files(args: Namespace) -> Files:
    """UserError for a missing source or model, and for an output that cannot be written or would replace one of them."""
    weights = find_weights(args.weights)
    if args.output:
        check_not_an_input(args.output, [args.source, weights], "output")
    source = open_source(args.source, args.folder_rate or FRAME_RATE)
    return Files(weights, source, Recorder(args.output) if args.output else None)


def find_weights(weights: Optional[str]) -> Path:
    """The file that --weights stands for. UserError if it is missing, with the command that gets a known one."""
    if weights == "demo":
        if not DEMO_WEIGHTS.exists():
            raise UserError(f"--weights demo: the quickstart has not made {DEMO_WEIGHTS} yet: run bash"
                            " scripts/quickstart.sh, which takes some minutes")
        return DEMO_WEIGHTS
    if weights is not None:
        if not Path(weights).is_file():
            raise UserError(f"no such checkpoint: {weights}: name a file with --weights")
        return Path(weights)
    released = cached_file(ONLINE_JESTER)
    if not released.exists():
        raise UserError(f"the released Jester model is not at {released}: get it with python tools/download_weights.py"
                        f" {ONLINE_JESTER}, or name another model with --weights FILE, or the quickstart's with --weights"
                        " demo")
    return released


if __name__ == "__main__":
    check_usage(lambda: find_files(build_parser().parse_args()))  # torch, which the imports below need, takes seconds

from online_demo.capture import Capture
from online_demo.decisions import ChangeLines, JsonLines, NoLines
from online_demo.loop import Demo, Signals
from online_demo.window import NoWindow, View, Window
from ops.checkpoints.online_format import frame_rate_of
from ops.runtimes.base import warn_of_device
from ops.runtimes.exported_file import format_of
from ops.streaming.online import OnlineTSM
from ops.streaming.step_runtime import StepRuntime
from ops.streaming.stream import Stream, frame_transform

log = logging.getLogger("online_demo")


def main() -> Optional[int]:
    args = build_parser().parse_args()
    weights, source, recorder = find_files(args)
    runtime, known_rate = open_model(args, weights)
    if args.weights == "demo":
        log_demo_model(runtime)
    rate = args.rate or known_rate
    smoothing = args.smooth or default_smoothing(rate)
    stream = Stream(runtime, smoothing=smoothing)
    with ExitStack() as stack:
        signals = stack.enter_context(Signals())
        if recorder:
            stack.enter_context(recorder)
        window = open_window(args, stack)
        warn_ignored(args, source, window)
        reconnect = args.reconnect and isinstance(source, (Camera, Address))
        capture = stack.enter_context(Capture(source, rate, args.realtime or window is not None, reconnect))
        view = View(stream.class_names, args.topk, args.mirror, keys=window is not None)
        show = JsonLines() if args.json else ChangeLines() if window is None else NoLines()
        demo = Demo(capture, stream, view, transform=frame_transform(runtime.preprocessing), threshold=args.threshold,
                    show=show, window=window, recorder=recorder)
        try:
            demo.run(signals, args.max_seconds or math.inf)
        finally:
            demo.log_summary()
    return signals.status


# ---- flags --------------------------------------------------------------------------------------------------

def warn_ignored(args: Namespace, source: Source, window: Optional[Window]) -> None:
    """Log a warning for each flag that has no effect in this run."""
    ignored = {"--fullscreen": args.fullscreen and window is None,
               "--mirror": args.mirror and window is None and not args.output,
               "--realtime": args.realtime and (window is not None or isinstance(source, Camera)),
               "--reconnect": args.reconnect and not isinstance(source, (Camera, Address)),
               "--folder_rate": args.folder_rate is not None and not isinstance(source, Directory)}
    for flag, unused in ignored.items():
        if unused:
            log.warning("%s has no effect here", flag)


def default_smoothing(rate: float) -> str:
    """The smoothing if --smooth is not given; logged if it is not the published one. rate: model frames per second."""
    if rate >= SMOOTH_FROM:
        return "published"
    log.info("%g model frames per second: predictions are not averaged (--smooth published averages 12 frames, which take"
             " %.0f seconds)", rate, 12 / rate)
    return "none"


# ---- building -----------------------------------------------------------------------------------------------

def open_model(args: Namespace, weights: Path) -> tuple[StepRuntime, float]:
    """The model in its runtime, and the frames per second that it was trained for."""
    if not format_of(weights):
        online = OnlineTSM(weights)
        backend, precision = args.backend or next(iter(BACKENDS)), args.precision or PRECISIONS[0]
        return (open_runtime(backend, online, device=args.device, weights=weights, precision=precision),
                args.rate or frame_rate_of(weights))
    runtime = open_step(weights, args.backend or "", args.precision or "")
    warn_of_device(args.device, "an exported step")
    return runtime, runtime.info.frame_rate or FRAME_RATE


def log_demo_model(online: StepRuntime) -> None:
    """Log what --weights demo recognises."""
    log.info("--weights demo: the quickstart's small model of rendered gestures (%s); it does not recognise real hands; a"
             " video of rendered ones: %s", ", ".join(online.class_names or []), DEMO_VIDEO)


def open_window(args: Namespace, stack: ExitStack) -> Optional[Window]:
    """The window, unless --headless is given or it cannot be opened; the reason is logged."""
    if args.headless:
        return None
    try:
        return stack.enter_context(Window(args.fullscreen))
    except NoWindow as error:
        log.warning("no window: %s; continuing without one, as with --headless", error)
        return None


if __name__ == "__main__":
    run(main)
