"""Stream: frames in, decisions out; an online model with its state, smoothing, and timing."""
import time
from collections import deque
from dataclasses import dataclass
from typing import Callable, Mapping, NamedTuple, Optional, Union

import torch
from PIL import Image
from torch import Tensor

from ops.common.choices import SMOOTHINGS
from ops.common.errors import UserError
from ops.data.preprocessing import Preprocessing
from ops.data.test_protocol import TestProtocol
from ops.dataset_config import JESTER_CLASSES
from ops.evaluation.metrics import names_or_numbers
from ops.evaluation.multi_label import probabilities_of
from ops.streaming.step_runtime import State, StepRuntime

AVERAGED_FRAMES = 12  # published behaviour
TIMED_FRAMES = 1000  # latencies kept, so that memory does not grow with the stream

# published behaviour, as indices of JESTER_CLASSES: the demo never predicts the refused classes and keeps its previous
# prediction instead; it shows "Doing other things" as "No gesture", which is also its prediction before the first frame.
JESTER_REFUSED = frozenset({3, 7, 8, 21, 22})
JESTER_READ_AS = {0: 2}
JESTER_START = 2


def frame_transform(preprocessing: Preprocessing) -> Callable[[Image.Image], Tensor]:
    """The evaluation transform of training for a stream: RGB image -> uint8 (1, 3, H, W) for `Stream.push`.

    preprocessing: the online model's.
    """
    transform = TestProtocol().transform(preprocessing)
    return lambda image: transform([image])[None]


@dataclass(frozen=True, eq=False)
class Decision:
    """The prediction after one frame of one stream.

    index, name: the predicted class. probability: of that class, 0-1. probabilities: (num_class,), of the smoothed
    logits. logits: (num_class,), of this frame alone. latency: seconds from pixels to logits, for the whole batch.
    frame: number of frames that this stream has seen, including this one.
    """
    index: int
    name: str
    probability: float
    probabilities: Tensor
    logits: Tensor
    latency: float
    frame: int


class Timing(NamedTuple):
    """Statistics of the last frames (at most 1000). p50, p95, p99: percentiles of the latency, seconds.

    rate: frames per second of all streams together.
    """
    frames: int
    p50: float
    p95: float
    p99: float
    rate: float


class NoSmoothing:
    """Predict the best class of each frame alone. multi_label: see `ModelSpec`."""

    def __init__(self, multi_label: bool = False) -> None:
        self.multi_label = multi_label

    def update(self, logits: Tensor) -> tuple[int, Tensor]:
        """logits: (num_class,) of the next frame -> (class, probabilities (num_class,))."""
        return int(logits.argmax()), probabilities_of(logits, self.multi_label)


class PublishedSmoothing:
    """The published demo's rules. The candidate is the best class of the mean of the last 12 logits.

    A candidate in `refused` is replaced by the previous prediction. A candidate in `read_as` counts as another class,
    which also receives its probability. The prediction changes only while the last two predictions agree, so it stays
    for at least two frames. start: the prediction before the first frame, if there is one. multi_label: see `ModelSpec`.
    """

    def __init__(self, refused: frozenset[int] = frozenset(), read_as: Optional[Mapping[int, int]] = None,
                 start: Optional[int] = None, *, multi_label: bool = False) -> None:
        self.multi_label = multi_label
        self.refused = refused
        self.read_as = dict(read_as or {})
        self.recent: deque[Tensor] = deque(maxlen=AVERAGED_FRAMES)
        self.last = self.before_last = start

    def update(self, logits: Tensor) -> tuple[int, Tensor]:
        """logits: (num_class,) of the next frame -> (class, probabilities (num_class,))."""
        self.recent.append(logits)
        mean = torch.stack(tuple(self.recent)).mean(dim=0)
        prediction = self._choose(int(mean.argmax()))
        self.before_last, self.last = self.last, prediction
        return prediction, self._merge(probabilities_of(mean, self.multi_label))

    def _choose(self, candidate: int) -> int:
        if self.last is not None and candidate in self.refused:
            candidate = self.last
        candidate = self.read_as.get(candidate, candidate)
        undecided = self.last is not None and self.last != self.before_last
        return self.last if undecided and self.last is not None else candidate

    def _merge(self, probabilities: Tensor) -> Tensor:
        for source, target in self.read_as.items():
            probabilities[target] += probabilities[source]
            probabilities[source] = 0
        return probabilities


class Stream:
    """N streams through one online model, in one batch.

    runtime: the online model, or a runtime of it (`ops.runtimes.registry.open_runtime`). streams: N. smoothing:
    "published" (which refuses some classes if the classes are Jester's) or "none".
    A Stream serves one thread; several may share a runtime.
    """

    def __init__(self, runtime: StepRuntime, streams: int = 1, smoothing: str = "published") -> None:
        if smoothing not in SMOOTHINGS:
            raise UserError(f"smooth {smoothing!r}: choose {' or '.join(SMOOTHINGS)}", "smooth")
        if streams < 1:
            raise UserError(f"{streams} streams: choose 1 or more")
        self.runtime = runtime
        self.streams = streams
        self.smoothing = smoothing
        self.class_names = names_or_numbers(runtime.class_names, runtime.spec.num_class)
        self._seconds: deque[float] = deque(maxlen=TIMED_FRAMES)
        self.reset()

    def reset(self, index: Optional[int] = None) -> None:
        """Restart one stream, or (None) all of them: what follows is as in a new Stream."""
        if index is None:
            self._state: Optional[State] = None
            self._smoothing = [self._new_smoothing() for _ in range(self.streams)]
            self._frames = [0] * self.streams
            return
        if not 0 <= index < self.streams:
            raise UserError(f"stream {index}: choose 0 to {self.streams - 1}")
        if self._state is not None:
            self._state = tuple(_with_zero_row(tensor, index) for tensor in self._state)
        self._smoothing[index] = self._new_smoothing()
        self._frames[index] = 0

    @torch.no_grad()
    def push(self, frames: Tensor) -> list[Decision]:
        """Process the next frame of each stream; return one decision per stream.

        frames: (N, 3, H, W), scaled and cropped; uint8 0-255 in the model's color order, or float and already
        normalized (`StepRuntime.prepare`). UserError for another number of frames, or if the size changes without a
        `reset`.
        """
        if frames.dim() != 4 or frames.shape[0] != self.streams:
            raise UserError(f"frames of shape {tuple(frames.shape)}: this stream takes ({self.streams}, 3, H, W)")
        state = self._state or self.runtime.initial_state(self.streams, *frames.shape[-2:])
        begin = time.perf_counter()
        frames = self.runtime.prepare(frames) if frames.dtype == torch.uint8 else frames
        logits, self._state = self.runtime.step(frames, state)
        # Reading the logits waits for the device, so the measured time includes its work. They are copied because a
        # runtime may reuse its output.
        logits = logits.to("cpu", torch.float32, copy=True)
        latency = time.perf_counter() - begin
        self._seconds.append(latency)
        return [self._decide(i, logits[i], latency) for i in range(self.streams)]

    def timing(self) -> Optional[Timing]:
        """Statistics of the latency of the last frames; None before the first frame."""
        if not self._seconds:
            return None
        seconds = torch.tensor(list(self._seconds), dtype=torch.float64)
        p50, p95, p99 = torch.quantile(seconds, torch.tensor([0.5, 0.95, 0.99], dtype=torch.float64)).tolist()
        return Timing(len(seconds), p50, p95, p99, self.streams / float(seconds.mean()))

    def _decide(self, i: int, logits: Tensor, latency: float) -> Decision:
        self._frames[i] += 1
        index, probabilities = self._smoothing[i].update(logits)
        return Decision(index, self.class_names[index], float(probabilities[index]), probabilities, logits, latency,
                        self._frames[i])

    def _new_smoothing(self) -> Union[NoSmoothing, PublishedSmoothing]:
        multi_label = self.runtime.spec.multi_label
        if self.smoothing == "none":
            return NoSmoothing(multi_label)
        if self.class_names == list(JESTER_CLASSES):
            return PublishedSmoothing(JESTER_REFUSED, JESTER_READ_AS, JESTER_START)
        return PublishedSmoothing(multi_label=multi_label)


def _with_zero_row(tensor: Tensor, index: int) -> Tensor:
    """A copy whose row `index` is zero. The original stays unchanged, because a caller may still hold that state."""
    tensor = tensor.clone()
    tensor[index] = 0
    return tensor
