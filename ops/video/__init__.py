"""Video files, frame directories and shards: bytes to frames, without torch."""
from ops.common.lazy import exports

__getattr__, __dir__, __all__ = exports(__name__, {
    "BrokenVideo": "container_ends", "decoded_frames": "decode", "find_videos": "discovery", "encode_video": "encode",
    "make_source": "frames", "VideoFiles": "video_files",
})
