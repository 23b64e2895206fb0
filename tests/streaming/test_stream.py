"""Stream: smoothing against a loop over the whole history, resets, several streams in one batch, timing."""
import pytest
import torch

from ops.common.errors import UserError
from ops.dataset_config import JESTER_CLASSES
from ops.models import TSN
from ops.spec import ModelSpec
from ops.streaming.online import OnlineTSM
from ops.streaming.stream import JESTER_READ_AS, JESTER_REFUSED, JESTER_START, PublishedSmoothing, Stream
from tests.helpers.golden_model import fill


class Scripted:
    """A StepRuntime whose logits are the first row of each frame, and whose state is the sum of all frames."""

    def __init__(self, num_class, class_names=None):
        self.spec = ModelSpec(num_class, 8)
        self.class_names = class_names

    def initial_state(self, batch=1, height=None, width=None):
        return (torch.zeros(batch, width),)

    def step(self, frames, state):
        seen = state[0] + frames[:, 0, 0]
        return frames[:, 0, 0], (seen,)

    def prepare(self, frames):
        return frames.float() / 255


def push(stream, *rows):
    """Push one frame per stream, made of the logits that the frame should get."""
    return stream.push(torch.tensor(rows, dtype=torch.float32)[:, None, None, :].expand(-1, 3, 1, -1))


def one_hot(index, count, height=1.0):
    return [height if i == index else 0.0 for i in range(count)]


def naive_predictions(logits, refused=(), read_as=None, start=None):
    """The published rules, computed for each frame from the whole history."""
    predictions = [start, start]
    for t in range(len(logits)):
        best = int(sum(logits[max(0, t - 11):t + 1]).argmax())
        best = predictions[-1] if best in refused and predictions[-1] is not None else best
        best = (read_as or {}).get(best, best)
        if predictions[-1] is not None and predictions[-1] != predictions[-2]:
            best = predictions[-1]
        predictions.append(best)
    return predictions[2:]


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("jester", [True, False])
def test_published_smoothing_equals_a_loop(seed, jester):
    logits = 3 * torch.randn(80, 27, generator=torch.Generator().manual_seed(seed))
    logits[:, [0, 3, 21]] += 1.5  # so that the special classes win now and then
    rules = dict(refused=JESTER_REFUSED, read_as=JESTER_READ_AS, start=JESTER_START) if jester else {}
    stream = Stream(Scripted(27, list(JESTER_CLASSES) if jester else None))
    got = [push(stream, row.tolist())[0].index for row in logits]
    assert got == naive_predictions(logits, **rules)
    assert len(set(got)) > 2 and (not jester or not set(got) & {0, 3, 7, 8, 21, 22})


def test_a_prediction_stays_for_two_frames_and_refused_classes_keep_it():
    smoothing = PublishedSmoothing(refused=frozenset({3}), read_as={0: 2}, start=2)

    def update(index, height):
        """The heights grow so fast that the best class of the mean is this frame's."""
        return smoothing.update(torch.tensor(one_hot(index, 5, height)))[0]
    heights = iter(100.0 ** n for n in range(12))
    given = [1, 4, 4, 3, 1, 2, 2, 0, 1]
    assert [update(index, next(heights)) for index in given] == [1, 1, 4, 4, 1, 1, 2, 2, 1]


def test_the_mean_covers_twelve_frames():
    stream = Stream(Scripted(3))
    for _ in range(4):
        push(stream, one_hot(0, 3, 100.0))
    found = [push(stream, one_hot(1, 3))[0].index for _ in range(12)]
    assert found == [0] * 11 + [1], "the twelfth weak frame pushes the last strong one out of the mean"


def test_probabilities_are_of_the_smoothed_logits():
    stream = Stream(Scripted(27, list(JESTER_CLASSES)))
    rows = torch.randn(3, 27, generator=torch.Generator().manual_seed(0))
    for n in range(1, 4):
        decision = push(stream, rows[n - 1].tolist())[0]
    wanted = rows.mean(dim=0).softmax(dim=0)
    wanted[2], wanted[0] = wanted[2] + wanted[0], 0
    assert torch.allclose(decision.probabilities, wanted, atol=1e-6)
    assert decision.probability == pytest.approx(float(wanted[decision.index]))
    assert decision.name == JESTER_CLASSES[decision.index] and decision.frame == 3
    assert torch.equal(decision.logits, rows[2])


def test_without_smoothing_each_frame_is_predicted_alone():
    stream = Stream(Scripted(27, list(JESTER_CLASSES)), smoothing="none")
    for index in (3, 0, 26, 3):
        decision = push(stream, one_hot(index, 27, 2.0))[0]
        assert decision.index == index and decision.name == JESTER_CLASSES[index]
        assert decision.probability == pytest.approx(torch.tensor(one_hot(index, 27, 2.0)).softmax(0)[index].item())


def test_classes_without_names_are_numbered():
    assert push(Stream(Scripted(4)), one_hot(2, 4))[0].name == "2"


def test_jester_has_27_classes_and_the_demo_refuses_five():
    assert len(set(JESTER_CLASSES)) == 27
    assert [JESTER_CLASSES[i] for i in sorted(JESTER_REFUSED)] == [
        "Pulling Hand In", "Rolling Hand Backward", "Rolling Hand Forward", "Turning Hand Clockwise",
        "Turning Hand Counterclockwise"]
    assert {JESTER_CLASSES[a]: JESTER_CLASSES[b] for a, b in JESTER_READ_AS.items()} == {
        "Doing other things": "No gesture"}


# ---- with a network -------------------------------------------------------------------------------------------

@pytest.fixture(scope="module")
def online(one_thread):
    model = TSN.from_spec(ModelSpec(6, 4, arch="mobilenetv2", shift=True, shift_direction="unidirectional",
                                    input_size=64))
    model.load_state_dict(fill(model.state_dict()))
    return OnlineTSM(model)


def pixels(t, streams=1, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (t, streams, 3, 64, 64), dtype=torch.uint8, generator=generator)


def decisions(stream, clip):
    return [[(d.index, d.probability, d.logits.tolist()) for d in stream.push(frames)] for frames in clip]


@pytest.mark.parametrize("smoothing", ["published", "none"])
def test_a_reset_stream_equals_a_new_one(online, smoothing):
    stream = Stream(online, smoothing=smoothing)
    first = decisions(stream, pixels(5))
    assert decisions(stream, pixels(5)) != first, "without a reset, the state carries over"
    stream.reset()
    assert decisions(stream, pixels(5)) == first == decisions(Stream(online, smoothing=smoothing), pixels(5))


def test_resetting_one_stream_leaves_the_others_unchanged(online):
    clip, fresh = pixels(6, 3), pixels(6, 3)
    fresh[:, 1] = pixels(6, 1, seed=4)[:, 0]
    untouched = decisions(Stream(online, 3), clip)
    stream = Stream(online, 3)
    decisions(stream, clip[:3])
    stream.reset(1)
    mixed = clip[3:].clone()
    mixed[:, 1] = fresh[:3, 1]
    got, alone = decisions(stream, mixed), decisions(Stream(online, 3), fresh[:3])
    assert [row[1] for row in got] == [row[1] for row in alone]
    assert [[row[0], row[2]] for row in got] == [[row[0], row[2]] for row in untouched[3:]]
    assert [d.frame for d in stream.push(clip[0])] == [7, 4, 7]


def test_a_reset_does_not_write_into_a_returned_state():
    class Keeping(Scripted):
        def step(self, frames, state):
            self.kept = super().step(frames, state)
            return self.kept
    model = Keeping(2)
    stream = Stream(model, 2)
    push(stream, [1, 2], [3, 4])
    stream.reset(0)
    assert model.kept[1][0].tolist() == [[1, 2], [3, 4]]
    push(stream, [0, 0], [0, 0])
    assert model.kept[1][0].tolist() == [[0, 0], [3, 4]]


def test_streams_in_one_batch_equal_single_streams(online):
    clip = pixels(4, 3)
    together = Stream(online, 3, "none")
    alone = [Stream(online, 1, "none") for _ in range(3)]
    for frames in clip:
        for i, decision in enumerate(together.push(frames)):
            single = alone[i].push(frames[i:i + 1])[0]
            assert single.index == decision.index
            largest = float(single.logits.abs().max())
            assert torch.allclose(single.logits, decision.logits, rtol=0, atol=1e-4 * largest)


def test_pixels_and_prepared_frames_give_the_same_logits(online):
    frames = pixels(1)[0]
    one, other = Stream(online).push(frames)[0], Stream(online).push(online.prepare(frames))[0]
    assert torch.equal(one.logits, other.logits)


def test_timing_is_bounded(online):
    stream = Stream(Scripted(2))
    assert stream.timing() is None
    for _ in range(1100):
        push(stream, [0, 1])
    timing = stream.timing()
    assert timing.frames == 1000 and 0 < timing.p50 <= timing.p95 <= timing.p99
    decision = Stream(online).push(pixels(1)[0])[0]
    assert 0 < decision.latency < 60
    sixteen = Stream(Scripted(2), 16)
    push(sixteen, *[[0, 1]] * 16)
    assert sixteen.timing().rate == pytest.approx(16 / sixteen.timing().p50)


@pytest.mark.parametrize("make, words", [
    (lambda: Stream(Scripted(2), smoothing="some"), "smooth 'some': choose published or none"),
    (lambda: Stream(Scripted(2), streams=0), "0 streams: choose 1 or more"),
    (lambda: Stream(Scripted(2), streams=2).reset(2), "stream 2: choose 0 to 1"),
    (lambda: push(Stream(Scripted(2), streams=2), [0, 1]), "takes (2, 3, H, W)"),
])
def test_wrong_calls(make, words):
    with pytest.raises(UserError) as error:
        make()
    assert words in str(error.value)


def test_after_a_refused_size_the_stream_continues(online):
    stream = Stream(online, smoothing="none")
    clip = pixels(3)
    stream.push(clip[0])
    with pytest.raises(UserError, match="does not belong to 1 frame of 96x96"):
        stream.push(torch.zeros(1, 3, 96, 96, dtype=torch.uint8))
    other = Stream(online, smoothing="none")
    other.push(clip[0])
    assert torch.equal(stream.push(clip[1])[0].logits, other.push(clip[1])[0].logits)
