"""Run an online model on a camera, a video, a directory of frames or a network stream, and show what it sees.

    python online_demo/main.py webcam
    python online_demo/main.py clip.mp4 --weights ONLINE.pth.tar --headless --output annotated.mp4 --json
"""
import json
import logging
import math
import signal
import sys
import time
from argparse import Namespace, RawDescriptionHelpFormatter
from collections import deque
from contextlib import ExitStack
from pathlib import Path
from types import FrameType
from typing import Callable, Optional

import numpy as np
from PIL import Image
from torch import Tensor

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from online_demo.capture import Capture, Frame
from online_demo.recorder import Recorder
from online_demo.window import NoWindow, View, Window, canvas_size, draw
from ops.checkpoints.model_zoo import ONLINE_JESTER, cached_file
from ops.checkpoints.online_format import FRAME_RATE, frame_rate_of
from ops.common.cli import Parser, run
from ops.common.errors import UserError
from ops.common.files import atomic_write
from ops.runtimes.base import PRECISIONS
from ops.runtimes.registry import BACKENDS, open_runtime
from ops.streaming.online import OnlineTSM
from ops.streaming.sources import Address, Camera, Directory, Source, open_source
from ops.streaming.stream import SMOOTHINGS, Decision, Stream, frame_transform

log = logging.getLogger("online_demo")

DEMO_WEIGHTS = ROOT / "runs" / "quickstart" / "demo_online.pth.tar"
DEMO_VIDEO = DEMO_WEIGHTS.parent / "stream" / "gestures.mp4"
SMOOTH_FROM = 6.0  # model frames per second: the published average of 12 frames reaches back 2 seconds there
PATIENCE = 0.02  # seconds between two looks at the keys while no frame comes


def main() -> Optional[int]:
    args = build_parser().parse_args()
    check(args)
    weights = find_weights(args.weights)
    source = open_source(args.source, args.folder_rate or FRAME_RATE)
    online = OnlineTSM(weights)
    if args.weights == "demo":
        tell_demo(online)
    rate = args.rate or frame_rate_of(weights)
    smoothing = args.smooth or default_smoothing(rate)
    runtime = open_runtime(args.backend, online, device=args.device, weights=weights, precision=args.precision)
    stream = Stream(runtime, smoothing=smoothing)
    with ExitStack() as stack:
        signals = stack.enter_context(Signals())
        recorder = stack.enter_context(Recorder(args.output)) if args.output else None
        window = open_window(args, stack)
        warn_of_ignored(args, source, window)
        reconnect = args.reconnect and isinstance(source, (Camera, Address))
        capture = Capture(source, rate, args.realtime or window is not None, reconnect)
        view = View(stream.class_names, args.topk, args.mirror, keys=window is not None)
        demo = Demo(stack.enter_context(capture), frame_transform(online.preprocessing), stream, view, args.threshold,
                    window, recorder, say_json if args.json else say_changes() if window is None else say_nothing)
        try:
            demo.run(signals, args.max_seconds or math.inf)
        finally:
            demo.sum_up()
    return signals.status


# ---- flags --------------------------------------------------------------------------------------------------

def default_smoothing(rate: float) -> str:
    """What --smooth is when it is not given; said when it is not the published one. rate: model frames per second."""
    if rate >= SMOOTH_FROM:
        return "published"
    log.info("%g model frames per second: answers are not averaged (--smooth published: over the last 12, %.0f seconds)",
             rate, 12 / rate)
    return "none"


def build_parser() -> Parser:
    parser = Parser(prog="main.py", description=__doc__, formatter_class=RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("source", help="webcam, webcam:1, a video file, a directory of frames, or an rtsp:// or http:// address")
    add("--weights", help="an online file or a clip checkpoint of a unidirectional model; demo: the quickstart's"
        " gestures (default: the released Jester model from the cache)")
    add("--output", type=Path, metavar="OUT.mp4", help="write what is shown to a video")
    add("--json", action="store_true", help="print every decision as a line of JSON")
    add("--headless", action="store_true", help="no window")
    add("--backend", choices=list(BACKENDS), default=next(iter(BACKENDS)))
    add("--precision", choices=PRECISIONS, default=PRECISIONS[0], help="bfloat16 and int8 are faster where the processor"
        " has them; int8 runs what tools/export_onnx.py --int8 makes")
    add("--device", default="auto", help="of --backend torch: auto, cpu, cuda, cuda:N or mps")
    add("--rate", type=float, help="frames per second of the source's clock that the model gets (default: what its"
        f" file says, else {FRAME_RATE:g})")
    add("--smooth", choices=SMOOTHINGS, help="published: average 12 logits, change the answer once two frames agree (the"
        f" default from {SMOOTH_FROM:g} model frames per second on, below which that would lag for seconds); none")
    add("--threshold", type=float, default=0.0, help="an answer less probable than this, 0-1, is none")
    add("--topk", type=int, default=5, help="classes shown")
    add("--mirror", action="store_true", help="show the image mirrored; the model sees it as it is")
    add("--fullscreen", action="store_true")
    add("--reconnect", action="store_true", help="when a camera or address fails, try again until it is back")
    add("--realtime", action="store_true", help="play files by their clock without a window too, dropping frames where"
        " this machine is too slow")
    add("--max_seconds", type=float, help="end after so many seconds of the source")
    add("--folder_rate", type=float, help=f"frames per second of a directory of frames (default: {FRAME_RATE:g})")
    return parser


def check(args: Namespace) -> None:
    """UserError for numbers that cannot be meant."""
    for name in ("rate", "folder_rate", "max_seconds"):
        value = getattr(args, name)
        if value is not None and not 0 < value < math.inf:
            raise UserError(f"--{name} {value:g}: choose a number above 0")
    if not 0 <= args.threshold <= 1:
        raise UserError(f"--threshold {args.threshold:g}: choose a probability, 0 to 1")
    if args.topk < 1:
        raise UserError(f"--topk {args.topk}: choose 1 or more classes")
    if args.output and args.output.resolve() == Path(args.source).resolve():
        raise UserError(f"--output {args.output} is the source itself: name another file")


def warn_of_ignored(args: Namespace, source: Source, window: Optional[Window]) -> None:
    """Say which options do nothing in this run."""
    ignored = {"--fullscreen": args.fullscreen and window is None,
               "--mirror": args.mirror and window is None and not args.output,
               "--realtime": args.realtime and (window is not None or isinstance(source, Camera)),
               "--reconnect": args.reconnect and not isinstance(source, (Camera, Address)),
               "--folder_rate": args.folder_rate is not None and not isinstance(source, Directory)}
    for option, useless in ignored.items():
        if useless:
            log.warning("%s does nothing here", option)


def find_weights(weights: Optional[str]) -> Path:
    """The file that --weights names. UserError with the way to get it when it is not there."""
    if weights == "demo":
        if not DEMO_WEIGHTS.exists():
            raise UserError(f"--weights demo: the quickstart has not made {DEMO_WEIGHTS} yet: bash"
                            " scripts/quickstart.sh makes it in some minutes")
        return DEMO_WEIGHTS
    if weights is not None:
        return Path(weights)
    released = cached_file(ONLINE_JESTER)
    if not released.exists():
        raise UserError(f"the released Jester model is not at {released}: get it with python tools/download_weights.py"
                        f" {ONLINE_JESTER}, or name another with --weights FILE, or the quickstart's with --weights"
                        " demo")
    return released


def tell_demo(online: OnlineTSM) -> None:
    """What --weights demo is, and what it is not."""
    log.info("--weights demo: the quickstart's small model of drawn gestures (%s); it knows nothing of real hands: give it"
             " drawn ones: %s", ", ".join(online.class_names or []), DEMO_VIDEO)


# ---- building -----------------------------------------------------------------------------------------------

class Signals:
    """Ctrl-C and SIGTERM as a wish that the loop can see, so that the video is completed; a second one ends at once."""

    def __init__(self) -> None:
        self.status = 0  # the exit status to end with

    def __enter__(self) -> "Signals":
        self._before = {number: signal.signal(number, self._note) for number in (signal.SIGINT, signal.SIGTERM)}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _note(self, number: int, _: Optional[FrameType]) -> None:
        if self.status:
            raise KeyboardInterrupt
        self.status = 128 + number


def open_window(args: Namespace, stack: ExitStack) -> Optional[Window]:
    """The window, if it is wanted and there can be one; says why not."""
    if args.headless:
        return None
    try:
        return stack.enter_context(Window(args.fullscreen))
    except NoWindow as error:
        log.warning("no window: %s: going on without, as with --headless", error)
        return None


# ---- saying -------------------------------------------------------------------------------------------------

class Said:
    """One decision as it is told. answer: None where its probability lies below the threshold."""

    def __init__(self, seconds: float, decision: Decision, latency: float, view: View) -> None:
        self.seconds, self.latency, self.probability = seconds, latency, decision.probability
        self.answer = None if view.answer is None else view.names[view.answer]
        best = decision.probabilities.topk(min(view.topk, len(view.names)))
        self.top = [(view.names[label], part) for part, label in zip(best.values.tolist(), best.indices.tolist())]


def say_json(said: Said) -> None:
    """time: seconds of the source; latency: seconds from the image's arrival to the decision."""
    print(json.dumps({"time": round(said.seconds, 4), "class": said.answer, "probability": round(said.probability, 5),
                      "latency": round(said.latency, 5),
                      "top": [[name, round(part, 5)] for name, part in said.top]}), flush=True)


def say_changes() -> Callable[[Said], None]:
    """For people: a line whenever the answer changes."""
    last: list[Optional[str]] = [None]

    def say(said: Said) -> None:
        if said.answer != last[0]:
            print(f"{said.seconds:8.2f} s  {said.answer or 'no answer'}  {100 * said.probability:.0f}%", flush=True)
        last[0] = said.answer
    return say


def say_nothing(said: Said) -> None:
    """The window shows it all."""


# ---- the loop -----------------------------------------------------------------------------------------------

class Demo:
    """Frames from the capture through the model to the window, the video and standard output."""

    def __init__(self, capture: Capture, transform: Callable[[Image.Image], Tensor], stream: Stream, view: View,
                 threshold: float, window: Optional[Window], recorder: Optional[Recorder],
                 say: Callable[[Said], None]) -> None:
        self.capture, self.transform, self.stream, self.view = capture, transform, stream, view
        self.threshold, self.window, self.recorder, self.say = threshold, window, recorder, say
        self.seen = 0
        self.size: Optional[tuple[int, int]] = None  # of the drawing; the first frame decides
        self.canvas: Optional[np.ndarray] = None
        self._ends: deque[float] = deque(maxlen=30)  # when the last decisions came

    def run(self, signals: Signals, max_seconds: float) -> None:
        """Until the source ends, a signal, a key, or `max_seconds` of the source. UserError when the source fails."""
        while not signals.status and not self.capture.ended:
            frame = self.capture.take(PATIENCE)
            if frame is not None:
                if frame.time >= max_seconds:
                    return
                self._handle(frame)
            if self.window is not None and not self._obey(self.window.keys()):
                return

    def sum_up(self) -> None:
        """What the run came to, on standard error."""
        timing, dropped = self.stream.timing(), self.capture.dropped
        if timing is None:
            return
        speed = f", {1000 * timing.p50:.1f} ms each (median)"
        drops = f"; {dropped} more were dropped, this machine is too slow for them" if dropped else ""
        log.info("the model saw %d frames in %.1f seconds of the source%s%s", self.seen, self.view.now, speed, drops)

    def _handle(self, frame: Frame) -> None:
        self.view.now = frame.time
        if frame.fresh:
            self._reset()
        draws = self.window is not None or self.recorder is not None
        if not (frame.due or draws):
            return
        image = frame.read()
        if frame.due:
            self._decide(frame, image)
        if draws:
            self._show(image)

    def _decide(self, frame: Frame, image: Image.Image) -> None:
        decision = self.stream.push(self.transform(image))[0]
        now = time.perf_counter()
        self.seen += 1
        self._ends.append(now)
        if len(self._ends) > 1:
            self.view.rate = (len(self._ends) - 1) / (now - self._ends[0])
        self.view.latency = now - frame.arrived
        answer = decision.index if decision.probability >= self.threshold else None
        self.view.add(frame.time, answer, decision.probabilities.numpy())
        self.say(Said(frame.time, decision, self.view.latency, self.view))

    def _show(self, image: Image.Image) -> None:
        self.size = self.size or canvas_size(*image.size)
        self.canvas = draw(np.asarray(image), self.view, self.size)
        if self.window is not None:
            self.window.show(self.canvas)
        if self.recorder is not None:
            self.recorder.write(self.canvas, self.view.now)

    def _reset(self) -> None:
        self.stream.reset()
        self.view.clear()
        self._ends.clear()

    def _obey(self, keys: str) -> bool:
        """Do what the keys ask for; False to quit."""
        assert self.window is not None
        for key in keys:
            if key == "q":
                return False
            if key == "f":
                self.window.toggle_fullscreen()
            elif key == "r":
                self._reset()
            elif key == "m":
                self.view.mirror = not self.view.mirror
            elif key == "s":
                self._snapshot()
        return True

    def _snapshot(self) -> None:
        """What is shown as a PNG in the current directory, named by the time of day."""
        if self.canvas is None:
            return
        now = time.time()
        day = time.strftime("%Y%m%d_%H%M%S", time.localtime(now))
        path = Path(f"snapshot_{day}_{int(1000 * now) % 1000:03}.png")
        try:
            with atomic_write(path, "wb") as f:
                Image.fromarray(self.canvas).save(f, "PNG")
        except OSError as error:
            log.warning("no snapshot: %s cannot be written: %s", path, error.strerror or error)
        else:
            log.info("snapshot: %s", path.absolute())


if __name__ == "__main__":
    run(main)
