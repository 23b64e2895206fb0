"""A stream of decisions from a stream of frames: an online model, its memory, smoothing and timing."""
import time
from collections import deque
from dataclasses import dataclass
from typing import Any, Callable, Mapping, NamedTuple, Optional, Protocol, Sequence

import torch
from PIL import Image
from torch import Tensor

from ops.common.errors import UserError
from ops.data.test_protocol import TestProtocol
from ops.dataset_config import JESTER_CLASSES
from ops.evaluation.metrics import names_or_numbers
from ops.spec import ModelSpec

SMOOTHINGS = ("published", "none")
AVERAGED_FRAMES = 12  # published behaviour
TIMED_FRAMES = 1000  # of which latencies are kept: memory must not grow with the stream

# published behaviour, as indices of JESTER_CLASSES: the demo never answers the refused classes and keeps its last answer
# instead; it shows "Doing other things" as "No gesture", which is also its answer before the first frame.
JESTER_REFUSED = frozenset({3, 7, 8, 21, 22})
JESTER_READ_AS = {0: 2}
JESTER_START = 2


class StepModel(Protocol):
    """What `Stream` drives: an `ops.streaming.online.OnlineTSM`, or another runtime that computes the same."""
    settings: ModelSpec
    class_names: Optional[list[str]]

    def initial_state(self, batch: int = 1, height: Optional[int] = None,
                      width: Optional[int] = None) -> tuple[Tensor, ...]: ...

    def step(self, frames: Tensor, state: Sequence[Tensor]) -> tuple[Tensor, tuple[Tensor, ...]]: ...

    def prepare(self, frames: Tensor) -> Tensor: ...


def frame_transform(preprocessing: Mapping[str, Any]) -> Callable[[Image.Image], Tensor]:
    """RGB image -> uint8 (1, 3, H, W) for `Stream.push`: exactly the evaluation transform of training.

    preprocessing: the online model's.
    """
    p = preprocessing
    transform = TestProtocol().transform(p["scale_size"], p["crop_size"], roll=p["color"] == "BGR")
    return lambda image: transform([image])[None]


@dataclass(frozen=True, eq=False)
class Decision:
    """The answer to one frame of one stream.

    index, name: the class. probability: its own, 0-1. probabilities: (num_class,), of the smoothed logits. logits:
    (num_class,), of this frame alone. latency: seconds from pixels to logits, of the whole batch. frame: how many
    frames this stream has seen, this one included.
    """
    index: int
    name: str
    probability: float
    probabilities: Tensor
    logits: Tensor
    latency: float
    frame: int


class Timing(NamedTuple):
    """Of the last frames (at most 1000): latency percentiles in seconds; rate: frames per second, all streams."""
    frames: int
    p50: float
    p95: float
    p99: float
    rate: float


class NoSmoothing:
    """Each frame's own best class."""

    def update(self, logits: Tensor) -> tuple[int, Tensor]:
        """logits: (num_class,) of the next frame -> (class, probabilities (num_class,))."""
        return int(logits.argmax()), logits.softmax(dim=0)


class PublishedSmoothing:
    """The published demo's: the best class of the mean of the last 12 logits, and then

    a class of `refused` keeps the last answer; one in `read_as` counts as another (its probability is added to that
    one's); and an answer changes only while the last two answers agree, so it stands for two frames at least.
    start: the answer before the first frame, None where there is none.
    """

    def __init__(self, refused: frozenset[int] = frozenset(), read_as: Optional[Mapping[int, int]] = None,
                 start: Optional[int] = None) -> None:
        self.refused = refused
        self.read_as = dict(read_as or {})
        self.recent: deque[Tensor] = deque(maxlen=AVERAGED_FRAMES)
        self.last = self.before_last = start

    def update(self, logits: Tensor) -> tuple[int, Tensor]:
        """logits: (num_class,) of the next frame -> (class, probabilities (num_class,))."""
        self.recent.append(logits)
        mean = torch.stack(tuple(self.recent)).mean(dim=0)
        answer = self._settle(int(mean.argmax()))
        self.before_last, self.last = self.last, answer
        return answer, self._merge(mean.softmax(dim=0))

    def _settle(self, candidate: int) -> int:
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
    """N streams through one online model, in one batch: frames in, decisions out.

    online: the model, or another runtime's. streams: N. smoothing: "published" (with the published demo's refused
    classes where the classes are Jester's; no other data set has any) or "none".
    One object serves one thread; several may share a model.
    """

    def __init__(self, online: StepModel, streams: int = 1, smoothing: str = "published") -> None:
        if smoothing not in SMOOTHINGS:
            raise UserError(f"--smooth {smoothing!r}: choose {' or '.join(SMOOTHINGS)}")
        if streams < 1:
            raise UserError(f"{streams} streams: choose 1 or more")
        self.online = online
        self.streams = streams
        self.smoothing = smoothing
        self.class_names = names_or_numbers(online.class_names, online.settings.num_class)
        self._seconds: deque[float] = deque(maxlen=TIMED_FRAMES)
        self.reset()

    def reset(self, index: Optional[int] = None) -> None:
        """Forget every frame seen, of one stream or (None) of all: what follows is as in a new stream."""
        if index is None:
            self._state: Optional[tuple[Tensor, ...]] = None
            self._smoothing = [self._new_smoothing() for _ in range(self.streams)]
            self._frames = [0] * self.streams
            return
        if not 0 <= index < self.streams:
            raise UserError(f"stream {index}: choose 0 to {self.streams - 1}")
        if self._state is not None:
            self._state = tuple(_without(memory, index) for memory in self._state)
        self._smoothing[index] = self._new_smoothing()
        self._frames[index] = 0

    @torch.no_grad()
    def push(self, frames: Tensor) -> list[Decision]:
        """The next frame of each stream -> one decision each.

        frames: (N, 3, H, W), scaled and cropped; uint8 0-255 in the model's color order, or float and normalised
        already (`prepare`). UserError for another number of frames, or another size than before (`reset` first).
        """
        if frames.dim() != 4 or frames.shape[0] != self.streams:
            raise UserError(f"frames of shape {tuple(frames.shape)}: this stream takes ({self.streams}, 3, H, W)")
        state = self._state or self.online.initial_state(self.streams, *frames.shape[-2:])
        begin = time.perf_counter()
        frames = self.online.prepare(frames) if frames.dtype == torch.uint8 else frames
        logits, self._state = self.online.step(frames, state)
        # Waits for the device, so that the clock tells the truth; a copy, because a runtime may use its memory again.
        logits = logits.to("cpu", torch.float32, copy=True)
        latency = time.perf_counter() - begin
        self._seconds.append(latency)
        return [self._decide(i, logits[i], latency) for i in range(self.streams)]

    def timing(self) -> Optional[Timing]:
        """How long the last frames took; None before the first."""
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

    def _new_smoothing(self) -> Any:
        if self.smoothing == "none":
            return NoSmoothing()
        if self.class_names == list(JESTER_CLASSES):
            return PublishedSmoothing(JESTER_REFUSED, JESTER_READ_AS, JESTER_START)
        return PublishedSmoothing()


def _without(memory: Tensor, index: int) -> Tensor:
    """A copy in which one stream's row is zero: the state that a step gave may be someone else's too."""
    memory = memory.clone()
    memory[index] = 0
    return memory
