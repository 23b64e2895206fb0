"""The stretches of a timeline, and the panel that it is drawn as."""
import pytest

from ops.evaluation.timeline import borders, spans, timeline_panel


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


def test_the_panel_of_a_video_has_its_likeliest_classes():
    """Over all windows a reaches 1.0, b 0.6 and z 0.4. A class that a window does not list has probability 0 there."""
    panel = timeline_panel({"video": "videos/line\nbreak.mp4", "timeline": TIMELINE}, most=2)
    assert panel.title == "line\\nbreak.mp4" and panel.edges == borders(TIMELINE)
    assert panel.best == ["a", "a", "b", "a"]
    assert panel.probabilities == {"a": [0.9, 0.7, 0.0, 1.0], "b": [0.0, 0.0, 0.6, 0.0]}
    assert list(panel.probabilities) == ["a", "b"]
    assert list(timeline_panel({"video": "v", "timeline": TIMELINE}).probabilities) == ["a", "b", "z"]
