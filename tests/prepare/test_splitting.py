"""Splitting into training and validation: sources stay whole, every class gets its share."""
import re
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ops.common.errors import UserError
from ops.prepare.labeled_videos import LabeledVideo
from ops.prepare.splitting import (
    choose_sources,
    group_by_source,
    shared_sources,
    source_of,
    split_videos,
    validation_share,
)


@pytest.mark.parametrize("path, source", [
    ("Archery/v_Archery_g01_c02.avi", "v_Archery_g01"), ("a/name_part03.mp4", "name"), ("a/name-Clip 3", "name"),
    ("a/video_0001_clip3.mp4", "video_0001"), ("a/abcdefghij-_000010_000020.mp4", "abcdefghij-"),
    ("a/take.scene.2.mkv", "take"), ("a/x_clip_1_seg_2.webm", "x_clip_1"), ("a/name.part3", "name"),
    ("a/clip_03.mp4", None), ("a/part1.mp4", None), ("a/walk_17.mp4", None), ("a_part1/x.mp4", None)])
def test_sources_in_file_names(path, source):
    assert source_of(path) == source


def test_two_spellings_of_an_accent_are_one_source():
    assert source_of("caf\u00e9_part1.mp4") == source_of("cafe\u0301_part2.mp4") == "caf\u00e9"


@pytest.mark.parametrize("pattern, source", [(r"subject\d+", "subject12"), (r"(subject\d+)/(.*)", "subject12"),
                                             (r"(?:walk)/(x)?(?P<source>\w+)", "subject12"), (r"nothing", None)])
def test_custom_source_patterns(pattern, source):
    assert source_of("walk/subject12/take_03.mp4", re.compile(pattern)) == source


labelled = st.dictionaries(st.integers(0, 60), st.lists(st.sampled_from("abcd"), min_size=1, max_size=9), min_size=1,
                           max_size=25)


@given(labelled, st.floats(0.05, 0.6), st.integers(0, 9))
@settings(max_examples=200, deadline=None)
def test_sources_stay_whole_and_every_class_keeps_training_videos(sources, share, seed):
    sources = {f"s{key}": labels for key, labels in sources.items()}
    chosen = choose_sources(sources, share, seed)
    total = Counter(label for labels in sources.values() for label in labels)
    taken = Counter(label for source in chosen for label in sources[source])
    assert chosen <= set(sources) and all(taken[label] < total[label] for label in total)
    assert chosen == choose_sources(dict(reversed(sources.items())), share, seed)
    for label in total:  # sources of one class alone: each class has videos on both sides, near its share
        own = [source for source, labels in sources.items() if label in labels]
        if len(own) > 1 and all(set(sources[source]) == {label} for source in own):
            assert taken[label]
            largest = max(len(sources[source]) for source in own)
            assert abs(taken[label] - max(1, round(total[label] * share))) <= largest


@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 8), st.integers(0, 5)), min_size=4, unique=True),
       st.integers(0, 5))
@settings(max_examples=100, deadline=None)
def test_no_source_is_on_both_sides_of_the_split(names, seed):
    videos = [LabeledVideo(f"{label}/{label}{source}_part{part}.mp4", label) for label, source, part in names]
    try:
        splits = split_videos(videos, "source", share=0.3, seed=seed)
    except UserError as error:
        assert "no video is left" in str(error)
        assert max(Counter(label for _, label in {(source_of(v.path), v.label) for v in videos}).values()) == 1
        return
    assert sorted(v.path for rows in splits.values() for v in rows) == sorted(v.path for v in videos)
    assert shared_sources(splits) == []


def test_by_file_every_class_gets_its_share_at_random_only_the_whole():
    labels = {f"{'ab'[i % 10 == 0]}/v_part{i}.mp4": ("ab"[i % 10 == 0],) for i in range(1000)}
    assert len(group_by_source(labels)) == 1  # by source there would be nothing to split: all are parts of `v`
    chosen = validation_share(labels, "file", share=0.2, seed=0)
    assert Counter(labels[path] for path in chosen) == {("a",): 180, ("b",): 20}
    tossed = validation_share(labels, "random", share=0.2, seed=0)
    assert 160 <= len(tossed) <= 240 and tossed != validation_share(labels, "random", share=0.2, seed=1)
    more = {**labels, "a/new.mp4": ("a",)}
    assert validation_share(more, "random", share=0.2, seed=0) - {"a/new.mp4"} == tossed  # the others do not move
