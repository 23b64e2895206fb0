"""Clips of one recording are recognised by shared frames; scenes and takes that only look alike are not."""
import io
from itertools import combinations

import numpy as np
import pytest
from PIL import Image

from ops.prepare.gestures.definition import CLASSES
from ops.prepare.gestures.render import render_clip
from ops.prepare.shared_frames import find_shared_frames, join_groups, look_of
from ops.video.decode import decoded_frames
from tests.helpers.clips import real_video


@pytest.fixture(scope="module")
def films():
    """name -> the frames of a real video as small images: a moving camera, an animation, a fixed camera in a car."""
    return {name: [frame.reformat(max(2, frame.width * 128 // frame.height // 2 * 2), 128, "rgb24").to_image()
                   for frame in decoded_frames(real_video(f"{name}.mp4"))]
            for name in ("bikes", "bigbuckbunny", "carphone_pristine")}


def looks_of(frames):
    return [look_of(frames[index]) for index in (0, (len(frames) + 1) // 2 - 1, len(frames) - 1)]


def cut(films, length, step):
    """name_number -> looks, of clips of `length` frames that begin every `step` frames."""
    return {f"{name}_{number}": looks_of(frames[start:start + length]) for name, frames in films.items()
            for number, start in enumerate(range(0, len(frames) - length + 1, step))}


def recompressed(image, size):
    file = io.BytesIO()
    image.resize(size).save(file, "JPEG", quality=60)
    return Image.open(file).convert("RGB")


@pytest.mark.parametrize("step", [25, 12], ids=["one after the other", "overlapping"])
def test_clips_cut_from_a_recording_are_linked_to_their_neighbors(films, step):
    looks = cut(films, 25, step)
    matches = find_shared_frames(looks)
    linked = {frozenset((match.clip, match.other)) for match in matches}
    for name in films:
        clips = [clip for clip in looks if clip.startswith(name)]
        neighbors = sum(frozenset(pair) in linked for pair in zip(clips, clips[1:]))
        assert neighbors >= (len(clips) - 1) // 2, name
    for match in matches:  # only neighbors; of clips that overlap, the next but one is a neighbor too
        (name, number), (other, other_number) = match.clip.rsplit("_", 1), match.other.rsplit("_", 1)
        assert name == other and int(other_number) - int(number) <= 25 // step
        assert step == 12 or (match.position, match.other_position) == (2, 0)


def test_different_scenes_and_takes_of_one_camera_are_not_linked(films):
    looks = cut(films, 25, 60)  # 35 frames are left out between two clips: they show the same scene later
    assert len(looks) == 4 + 2 + 2
    assert find_shared_frames(looks) == []


def test_rendered_gestures_are_not_linked():
    looks = {str(seed): looks_of([Image.fromarray(image) for image in
                                  render_clip(seed % len(CLASSES), np.random.default_rng(seed), (96, 72))])
             for seed in range(64)}
    assert find_shared_frames(looks) == []


def test_copies_are_found_when_scaled_and_recompressed(films):
    frames = films["bikes"][:25]
    looks = {"original": looks_of(frames), "other": looks_of(films["bigbuckbunny"][:25]),
             "copy": looks_of([recompressed(frame, (200, 90)) for frame in frames])}
    assert [(match.clip, match.other) for match in find_shared_frames(looks)] == [("original", "copy")]


def test_titles_and_poses_that_many_clips_share_are_no_evidence(films):
    title = films["bikes"][0]
    middles = [films["bikes"][n] for n in (20, 60, 100, 140, 180)] + [films["bigbuckbunny"][n] for n in (30, 70, 110)]
    opening = {f"clip {number}": looks_of([title, middle, films["carphone_pristine"][15 * number]])
               for number, middle in enumerate(middles)}
    assert find_shared_frames(opening) == []  # the same position
    both = {f"clip {number}": looks_of([title, middle, title]) for number, middle in enumerate(middles)}
    assert find_shared_frames(both) == []  # last and first frames, but of all clips
    assert len(find_shared_frames(dict(list(both.items())[:2]))) == 1


def test_clips_in_which_nothing_moves_or_nothing_is_seen_are_no_evidence(films):
    still, black = films["bikes"][0], Image.new("RGB", (64, 48), (5, 5, 9))
    assert look_of(black) is None
    moving = [still, films["bikes"][20]]
    looks = {"a": looks_of([still] * 5), "b": looks_of([still] * 9), "c": looks_of([*moving, black]),
             "d": looks_of([black, films["bikes"][120], films["bikes"][160]]), "e": [look_of(still)] * 2}
    assert find_shared_frames(looks) == []


def test_every_pair_within_the_radius_is_found_among_thousands():
    """Random hashes, of which the last of every tenth clip differs from the first of the next in up to 16 bits."""
    rng = np.random.default_rng(0)
    codes = rng.integers(0, 256, (3000, 3, 32), np.uint8)
    wanted = set()
    for number in range(0, 2990, 10):
        flips = np.zeros(256, np.uint8)
        flips[rng.choice(256, rng.integers(0, 17), replace=False)] = 1
        codes[number + 1, 0] = codes[number, 2] ^ np.packbits(flips)
        wanted.add((str(number), str(number + 1), 2, 0))
    looks = {str(number): [code.tobytes() for code in clip] for number, clip in enumerate(codes)}
    found = {tuple(match) for match in find_shared_frames(looks)}
    assert found <= wanted and len(found) >= 0.99 * len(wanted)


def test_links_join_groups():
    groups = [["a1", "a2"], ["b"], ["c1", "c2"], ["d"], ["e"]]
    assert sorted(map(sorted, join_groups(groups, [("a2", "b"), ("b", "c1"), ("e", "d")]))) == [
        ["a1", "a2", "b", "c1", "c2"], ["d", "e"]]
    assert join_groups(groups, []) == groups
    for a, b in combinations("abc", 2):
        assert join_groups([["a"], ["b"], ["c"]], [(a, b), (b, a)])[0][0] == "a"
