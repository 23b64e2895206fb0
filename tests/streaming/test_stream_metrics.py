"""The score of a long video's answers, against counts by hand, and the files that the score reads."""
import pytest

from ops.common.errors import UserError
from ops.streaming.stream_metrics import (
    Answer,
    Gesture,
    Truth,
    read_answers,
    read_truth,
    score_stream,
    standing,
    stretches,
    truth_of,
)

TRUTH = Truth(10, 9.0, [Gesture(1.0, 3.0, "a"), Gesture(4.0, 6.0, "b"), Gesture(7.0, 8.0, "c")])


def test_a_gesture_is_known_by_its_last_frame_or_shortly_after():
    # a: right from 1.5 s to its last frame (2.9 s). b: right only from 6.2 s on. c: right only while it lasts.
    answers = [Answer(0.0, "c"), Answer(1.5, "a"), Answer(3.0, "x"), Answer(6.2, "b"), Answer(7.2, "c"),
               Answer(7.7, None)]
    score = score_stream(TRUTH, answers)
    assert score.known == [True, True, False]
    assert score.top1 == pytest.approx(200 / 3)
    # frames inside gestures: 20 + 20 + 10; right: 1.5-2.9 s (15), none, 7.2-7.6 s (5)
    assert score.frames == pytest.approx(100 * 20 / 50)


@pytest.mark.parametrize("time, known", [(2.9, True), (3.0, True), (3.4, True), (3.5, False)])
def test_shortly_after_is_half_a_second(time, known):
    assert score_stream(TRUTH, [Answer(0.0, "x"), Answer(time, "a")]).known == [known, False, False]


def test_chance_turns_the_true_names_round():
    """At the ends a, a, b were answered: turned by one (b c a) none, by two (c a b) the second and the third."""
    score = score_stream(TRUTH, [Answer(0.0, "a"), Answer(6.9, "b")])
    assert score.known == [True, False, False]
    assert score.chance == pytest.approx(100 * (0 + 2 / 3) / 2)


def test_an_answer_stands_until_the_next_one():
    answers = [Answer(0.5, "a"), Answer(1.0, "a"), Answer(2.0, None), Answer(3.0, "b")]
    assert [standing(answers, t) for t in (0.4, 0.5, 1.9, 2.0, 9.0)] == [None, "a", "a", None, "b"]
    assert standing([Answer(0.3333, "a")], 4 / 12) == "a"  # written with four digits
    assert stretches(answers, 4.0) == [(0.5, 2.0, "a"), (2.0, 3.0, None), (3.0, 4.0, "b")]


def test_nothing_to_score_is_an_error():
    with pytest.raises(UserError, match="3 gestures and 0 answers"):
        score_stream(TRUTH, [])


def test_segments_become_seconds():
    truth = truth_of([(6, 17, 1), (24, 47, 0)], ["a", "b"], 60, 12)
    assert truth == Truth(12, 5.0, [Gesture(0.5, 1.5, "b"), Gesture(2.0, 4.0, "a")])


@pytest.mark.parametrize("content", ["", "{}", '{"fps": 12, "seconds": 3, "gestures": [{"start": 1}]}'])
def test_files_of_another_kind_are_one_line(tmp_path, content):
    (tmp_path / "x").write_text(content)
    with pytest.raises(UserError, match="x: cannot be read as the truth of a stream"):
        read_truth(tmp_path / "x")
    (tmp_path / "x").write_text(content + "\n[]")
    with pytest.raises(UserError, match="x: cannot be read as answers of a stream"):
        read_answers(tmp_path / "x")
    with pytest.raises(UserError, match="No such file"):
        read_truth(tmp_path / "y")
