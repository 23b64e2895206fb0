"""Images for a self-contained HTML page: every image is inside the page, as a data URL."""
import base64
import html
import io
from pathlib import Path
from typing import Any

from PIL import Image

from ops.video.decode import decoded_frames


def image_tag(content: bytes, alt: str, kind: str = "png") -> str:
    """An `img` element. content: the bytes of an image file."""
    return f'<img alt="{html.escape(alt)}" src="{data_url(content, kind)}">'


def chart_tag(png: bytes, alt: str) -> str:
    """An `img` element at half the image's pixels, since charts are drawn at twice their size (`ops.common.plots.DPI`)."""
    width = Image.open(io.BytesIO(png)).width // 2
    return f'<img alt="{html.escape(alt)}" width={width} src="{data_url(png, "png")}">'


def data_url(content: bytes, kind: str) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(content).decode()}"


def encode_image(image: Image.Image, kind: str, **options: Any) -> bytes:
    """The bytes of an image file. kind: of Pillow's formats. options: of Pillow's `save`."""
    content = io.BytesIO()
    image.save(content, kind, **options)
    return content.getvalue()


def poster_url(video: Path, seconds: float) -> str:
    """The first frame of the video at or after this time, as a data URL; "" if the video ends earlier."""
    frame = next((frame for frame in decoded_frames(video) if (frame.time or 0) >= seconds), None)
    return "" if frame is None else data_url(encode_image(frame.to_image(), "JPEG", quality=85), "jpeg")
