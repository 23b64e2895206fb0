"""The public functions of ops.video take the names of files as text and as paths."""
import os

import numpy as np
import pytest

from ops.video import container_ends, decode, discovery, encode, forward, frame_index, frames, shards, video_files
from tests.helpers.clips import clip
from tests.helpers.programs import make_frames


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """v.mp4, the frame directories f/a and f/b, and their shards in s."""
    root = tmp_path_factory.mktemp("paths")
    clip(root / "v.mp4", 9)
    make_frames(root / "f", {"a": (3, 0), "b": (2, 0)})
    shards.pack(root / "f", root / "s", workers=1)
    return root


def opened(path):
    with decode.open_video(path) as container:
        return decode.video_stream(container).width


def marked(path):
    """Whether any packet of the video is damaged."""
    with decode.open_video(path) as container:
        return [decode.is_damaged(packet, path) for packet in container.demux(decode.video_stream(container))]


def encoded(path):
    encode.encode_video(path, [np.zeros((32, 48, 3), np.uint8)] * 2, 25)
    return os.path.getsize(path)


def packed(path):
    return str(shards.pack(path, f"{path} again" if isinstance(path, str) else path.with_name("f also"), workers=1))


def loaded(source, video):
    return [np.asarray(image).sum() for image in source.load(video, [1, 2])]


CASES = {
    "missing_bytes": ("v.mp4", container_ends.missing_bytes),
    "is_joined_whole": ("v.mp4", lambda path: container_ends.is_joined_whole(path, 0)),
    "open_video": ("v.mp4", opened), "is_damaged": ("v.mp4", marked),
    "decoded_frames": ("v.mp4", lambda path: [frame.pts for frame in decode.decoded_frames(path)]),
    "encode_video": ("new.mp4", encoded),
    "frame_index": ("v.mp4", lambda path: frame_index.frame_index(path).count),
    "scan": ("v.mp4", lambda path: frame_index.scan(path).count),
    "recount": ("v.mp4", lambda path: frame_index.recount(path).count),
    "read_frames": ("v.mp4", lambda path: sorted(video_files.read_frames(path, [2, 5]))),
    "read_forward": ("v.mp4", lambda path: sorted(forward.read_forward(path, [2, 5], 9))),
    "VideoFiles": ("", lambda path: loaded(video_files.VideoFiles(path), "v.mp4")),
    "holds_frames": ("f/a", discovery.holds_frames), "frame_names": ("f/a", discovery.frame_names),
    "find_videos": ("", lambda path: list(discovery.find_videos(path))[:3]),
    "find_directories": ("f", shards.find_directories), "pack": ("f", packed),
    "is_sharded": ("s", shards.is_sharded), "holds_shards": ("s", shards.holds_shards),
    "shard_files": ("s", shards.shard_files),
    "Shards": ("s/a/000001.jpg", lambda path: len(shards.Shards(os.path.dirname(os.path.dirname(path))).read(path))),
    "open_image": ("f/a/000001.jpg", lambda path: frames.open_image(path).size),
    "read_image": ("f/a/000001.jpg", lambda path: frames.read_image(path).tobytes()),
    "read_pixels": ("f/a/000001.jpg", lambda path: frames.read_pixels(path).tobytes()),
    "make_source": ("f", lambda path: loaded(
        frames.make_source(path, "{:06d}.jpg", modality="RGB", data_format="auto"), "b")),
}


@pytest.mark.parametrize("name", CASES)
def test_text_and_paths_are_alike(name, files, tmp_path, monkeypatch):
    monkeypatch.setenv("TSM_CACHE", str(tmp_path))
    place, call = CASES[name]
    assert call(str(files / place)) == call(files / place)
