"""The stretches of a timeline, and the panel that it is drawn as."""
import pytest

from ops.evaluation.timeline import borders, likeliest, spans, timeline_panel


def windows(*rows):
    """Of (start, end, best class, its probability); the class z has the rest of the probability."""
    return [{"start": start, "end": end, "predictions": [{"class": name, "probability": p}, {"class": "z", "probability":
             1 - p}]} for start, end, name, p in rows]


TIMELINE = windows((0, 2, "a", 0.9), (1, 3, "a", 0.7), (2, 4, "b", 0.6), (2.5, 4.5, "a", 1.0))


def test_windows_meet_halfway_between_their_middles():
    assert borders(TIMELINE) == [0, 1.5, 2.5, 3.25, 4.5]
    assert borders(TIMELINE[:1]) == [0, 2]


def test_stretches_of_the_same_best_class():
    assert spans(TIMELINE) == [(0, 2.5, "a", pytest.approx(0.8)), (2.5, 3.25, "b", 0.6), (3.25, 4.5, "a", 1.0)]


def test_the_likeliest_classes_have_their_probability_in_every_window():
    """Each window has all classes; as one of the best two, a reaches 0.6, b 0.5 and c 0.45."""
    rows = [{"a": 0.6, "b": 0.3, "c": 0.1}, {"b": 0.5, "c": 0.45, "a": 0.05}]
    timeline = [{"predictions": [{"class": name, "probability": p} for name, p in row.items()]} for row in rows]
    assert list(likeliest(timeline, 2).items()) == [("a", [0.6, 0.05]), ("b", [0.3, 0.5]), ("c", [0.1, 0.45])]
    assert likeliest(timeline, 1) == {"a": [0.6, 0.05], "b": [0.3, 0.5]}
    assert likeliest(timeline, 2, most=1) == {"a": [0.6, 0.05]}


def test_the_panel_of_a_video_has_its_best_classes_and_probabilities():
    probabilities = {"a": [0.9, 0.7, 0.2, 1.0], "b": [0.0, 0.1, 0.6, 0.0]}
    panel = timeline_panel({"video": "videos/line\nbreak.mp4", "timeline": TIMELINE, "probabilities": probabilities})
    assert panel.title == "line\\nbreak.mp4" and panel.edges == borders(TIMELINE)
    assert panel.best == ["a", "a", "b", "a"] and panel.probabilities == probabilities
