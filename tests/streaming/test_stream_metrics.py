"""Scores of predictions on a long video, against counts by hand, and the files that are scored."""
import pytest

from ops.common.errors import UserError
from ops.streaming.stream_metrics import (
    Gesture,
    GroundTruth,
    Prediction,
    make_ground_truth,
    merge_repeats,
    prediction_at,
    read_ground_truth,
    read_predictions,
    score_stream,
)

TRUTH = GroundTruth(10, 9.0, [Gesture(1.0, 3.0, "a"), Gesture(4.0, 6.0, "b"), Gesture(7.0, 8.0, "c")])


def test_a_gesture_is_recognised_at_its_last_frame_or_shortly_after():
    # a: right from 1.5 s to its last frame (2.9 s). b: right only from 6.2 s on. c: right only while it lasts.
    predictions = [Prediction(0.0, "c"), Prediction(1.5, "a"), Prediction(3.0, "x"), Prediction(6.2, "b"),
                   Prediction(7.2, "c"), Prediction(7.7, None)]
    score = score_stream(TRUTH, predictions)
    assert score.known == [True, True, False]
    assert score.top1 == pytest.approx(200 / 3)
    # frames inside gestures: 20 + 20 + 10; right: 1.5-2.9 s (15), none, 7.2-7.6 s (5)
    assert score.frames == pytest.approx(100 * 20 / 50)


@pytest.mark.parametrize("time, known", [(2.9, True), (3.0, True), (3.4, True), (3.5, False)])
def test_shortly_after_is_half_a_second(time, known):
    assert score_stream(TRUTH, [Prediction(0.0, "x"), Prediction(time, "a")]).known == [known, False, False]


def test_chance_shifts_the_true_classes():
    """Predicted at the ends: a, a, b. Classes shifted by one (b c a) match none, by two (c a b) the second and the third."""
    score = score_stream(TRUTH, [Prediction(0.0, "a"), Prediction(6.9, "b")])
    assert score.known == [True, False, False]
    assert score.chance == pytest.approx(100 * (0 + 2 / 3) / 2)


def test_a_prediction_holds_until_the_next_one():
    predictions = [Prediction(0.5, "a"), Prediction(1.0, "a"), Prediction(2.0, None), Prediction(3.0, "b")]
    assert [prediction_at(predictions, t) for t in (0.4, 0.5, 1.9, 2.0, 9.0)] == [None, "a", "a", None, "b"]
    assert prediction_at([Prediction(0.3333, "a")], 4 / 12) == "a"  # written with four digits
    assert merge_repeats(predictions, 4.0) == [(0.5, 2.0, "a"), (2.0, 3.0, None), (3.0, 4.0, "b")]


def test_nothing_to_score_is_an_error():
    with pytest.raises(UserError, match="3 gestures and 0 predictions"):
        score_stream(TRUTH, [])


def test_segments_become_seconds():
    truth = make_ground_truth([(6, 17, 1), (24, 47, 0)], ["a", "b"], num_frames=60, fps=12)
    assert truth == GroundTruth(12, 5.0, [Gesture(0.5, 1.5, "b"), Gesture(2.0, 4.0, "a")])


@pytest.mark.parametrize("content", ["", "{}", '{"fps": 12, "seconds": 3, "gestures": [{"start": 1}]}'])
def test_files_of_another_kind_are_one_line(tmp_path, content):
    (tmp_path / "x").write_text(content)
    with pytest.raises(UserError, match="x: cannot be read as the ground truth of a stream"):
        read_ground_truth(tmp_path / "x")
    (tmp_path / "x").write_text(content + "\n[]")
    with pytest.raises(UserError, match="x: cannot be read as predictions of a stream"):
        read_predictions(tmp_path / "x")
    with pytest.raises(UserError, match="No such file"):
        read_ground_truth(tmp_path / "y")
