"""Making the gestures data set: its files, resuming, and what is refused."""
import json
import re
from collections import Counter

import numpy as np
import pytest

from ops.common.errors import UserError
from ops.prepare.gestures import make
from ops.prepare.gestures.definition import CLASSES
from ops.prepare.gestures.make import make_gestures
from ops.prepare.gestures.render import render_clip
from tests.helpers.files import tree
from tests.helpers.gestures import SMALL, decoded


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    out = tmp_path_factory.mktemp("gestures") / "data"
    return out, make_gestures(out, videos=36, seed=5, val=0.25, workers=1)


# ---- files ------------------------------------------------------------------------------------------------

def test_lists_have_the_format_of_something_something_v2(made):
    out, summary = made
    assert {key: summary[key] for key in ("videos", "train", "validation", "made", "kept")} == {
        "videos": 36, "train": 27, "validation": 9, "made": 36, "kept": 0}
    labels = json.loads((out / "labels.json").read_text())
    assert labels == {name: str(index) for index, name in enumerate(CLASSES)}
    ids = []
    for part, count in (("train", 27), ("validation", 9)):
        entries = json.loads((out / f"{part}.json").read_text())
        assert len(entries) == count
        ids += [entry["id"] for entry in entries]
        found = Counter()
        for entry in entries:
            assert set(entry) == {"id", "label", "template", "placeholders"}
            found[labels[entry["template"].replace("[", "").replace("]", "")]] += 1  # as the label tools do
            assert len(entry["placeholders"]) == entry["template"].count("[")
            filled = entry["template"]
            for thing in entry["placeholders"]:
                filled = re.sub(r"\[\w+\]", thing, filled)
            assert entry["label"] == filled.lower()
        assert max(found.values()) - min(found[str(label)] for label in range(8)) <= 1
    assert sorted(ids, key=int) == [str(index) for index in range(1, 37)]


def test_videos_are_h264_of_the_right_size_and_length(made):
    out, summary = made
    lengths = set()
    for index in range(1, 37):
        frames, codec, sizes = decoded(out / "videos" / f"{index}.mp4")
        assert (codec, frames.shape[1:]) == ("h264", (72, 96, 3))
        assert 20 <= len(frames) == len(sizes) <= 60
        lengths.add(len(frames))
    assert len(lengths) > 10
    assert sorted(entry.name for entry in (out / "videos").iterdir()) == sorted(f"{i}.mp4" for i in range(1, 37))
    assert summary["bytes"] == sum(entry.stat().st_size for entry in (out / "videos").iterdir())


def test_videos_show_what_was_rendered(made):
    """Video 7 is render_clip of its label, from the generator that the seed and its number give."""
    out, _ = made
    template = json.loads((out / "train.json").read_text())[6]["template"]
    label = CLASSES.index(re.sub(r"[\[\]]", "", template))
    clip = render_clip(label, np.random.default_rng(np.random.SeedSequence(5, spawn_key=(7,))))
    frames, _, _ = decoded(out / "videos" / "7.mp4")
    assert frames.shape == clip.shape
    assert np.abs(frames.astype(int) - clip).mean() < 8


def test_webm_holds_vp9(tmp_path):
    make_gestures(tmp_path / "data", videos=8, size=SMALL, fmt="webm", workers=1)
    for index in range(1, 9):
        frames, codec, _ = decoded(tmp_path / "data" / "videos" / f"{index}.webm")
        assert (codec, frames.shape[1:]) == ("vp9", (48, 64, 3)) and 20 <= len(frames) <= 60


def test_the_files_do_not_depend_on_the_number_of_workers(tmp_path):
    for name, workers in (("one", 1), ("two", 2)):
        make_gestures(tmp_path / name, videos=24, seed=1, size=SMALL, workers=workers)
    assert tree(tmp_path / "one") == tree(tmp_path / "two")
    make_gestures(tmp_path / "other", videos=8, seed=2, size=SMALL, workers=1)
    ours, other = tree(tmp_path / "one"), tree(tmp_path / "other")
    assert all(ours[f"videos/{i}.mp4"] != other[f"videos/{i}.mp4"] for i in range(1, 9))


# ---- interruptions and refusals ---------------------------------------------------------------------------

def test_a_second_call_makes_only_the_missing_files(tmp_path):
    out = tmp_path / "data"
    settings = dict(videos=16, seed=3, size=SMALL, workers=1)
    make_gestures(out, **settings)
    before = tree(out)
    for index in (2, 9):
        (out / "videos" / f"{index}.mp4").unlink()
    (out / "videos" / "11.mp4").write_bytes(b"")  # a power cut
    (out / "videos" / ".9.mp4.partial-0a1b2c3d").write_bytes(b"half a video")  # a kill
    (out / "train.json").unlink()
    kept = (out / "videos" / "5.mp4").stat().st_mtime_ns
    summary = make_gestures(out, **settings)
    assert (summary["made"], summary["kept"]) == (3, 13)
    assert tree(out) == before
    assert (out / "videos" / "5.mp4").stat().st_mtime_ns == kept


def test_a_run_killed_after_its_first_file_is_resumed(tmp_path, monkeypatch):
    settings = dict(videos=8, size=(32, 32), workers=1)
    written = []

    def killed(path, *settings, **words):
        written.append(path.name)
        write(path, *settings, **words)
        raise KeyboardInterrupt
    write = make.agree_on_settings
    monkeypatch.setattr(make, "agree_on_settings", killed)
    with pytest.raises(KeyboardInterrupt):
        make_gestures(tmp_path / "data", **settings)
    assert written == ["gestures.json"] and not (tmp_path / "data" / "videos").exists()
    monkeypatch.undo()
    assert make_gestures(tmp_path / "data", **settings)["made"] == 8


@pytest.mark.parametrize("change, message", [
    (dict(videos=7), "^videos 7: choose 8 or more"),
    (dict(val=0.0), "^val 0.0: choose a fraction between 0 and 1"),
    (dict(val=0.01), "^val 0.01: .* on either side"),
    (dict(size=(97, 72)), "^size 97x72: choose two even numbers from 32 to 1024"),
    (dict(size=(96, 30)), "^size 96x30: choose two even numbers"),
    (dict(size=(2048, 72)), "^size 2048x72: choose two even numbers"),
    (dict(fmt="avi"), "^format 'avi': choose mp4 or webm"),
    (dict(seed=-1), "^seed -1: choose 0 or more"),
    (dict(workers=0), "^workers 0: choose 1 or more"),
])
def test_impossible_settings_are_refused(tmp_path, change, message):
    with pytest.raises(UserError, match=message):
        make_gestures(tmp_path / "data", **{"videos": 16, "workers": 1, **change})
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize("change, message", [
    (dict(seed=4), r"made with other settings \(seed 3 there, 4 now\): use the same settings, or name another directory"),
    (dict(videos=9), "videos 8 there, 9 now"),
    (dict(size=SMALL), r"size \[32, 32\] there, \[64, 48\] now"),
    (dict(fmt="webm"), "fmt mp4 there, webm now"),
])
def test_a_directory_with_other_settings_is_refused(tmp_path, change, message):
    settings = dict(videos=8, seed=3, size=(32, 32), workers=1)
    make_gestures(tmp_path, **settings)
    before = tree(tmp_path)
    with pytest.raises(UserError, match=message):
        make_gestures(tmp_path, **{**settings, **change})
    assert tree(tmp_path) == before


def test_foreign_directories_are_refused(tmp_path):
    (tmp_path / "real" / "videos").mkdir(parents=True)
    with pytest.raises(UserError, match="holds videos, made by another program .*no gestures.json"):
        make_gestures(tmp_path / "real", videos=8, workers=1)
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "gestures.json").write_text("{")
    with pytest.raises(UserError, match="gestures.json is damaged"):
        make_gestures(tmp_path / "broken", videos=8, workers=1)
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="file: cannot write the data set there"):
        make_gestures(tmp_path / "file", videos=8, workers=1)
