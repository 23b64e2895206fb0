"""The files of a small gestures data set."""
import av
import numpy as np

SMALL = (64, 48)  # width, height


def decoded(path):
    """Frames (T, H, W, 3), codec name, and packet sizes of a video that has only key frames."""
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        stream.codec_context.thread_count = 1
        frames, sizes = [], []
        for packet in container.demux(stream):
            sizes += [packet.size] if packet.size else []
            assert packet.is_keyframe or not packet.size
            frames += [frame.to_ndarray(format="rgb24") for frame in packet.decode()]
        return np.stack(frames), stream.codec_context.name, np.array(sizes)
