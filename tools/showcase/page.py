"""Parts of a self-contained page: images inside it, and the chart of training curves."""
import base64
import io
from pathlib import Path
from typing import Any, Mapping, Sequence

from PIL import Image

from ops.video.decode import decoded_frames


def image_tag(data: bytes, kind: str = "png", attributes: str = "") -> str:
    return f'<img {attributes} src="{data_url(data, kind)}">'


def data_url(data: bytes, kind: str) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(data).decode()}"


def coded(image: Image.Image, kind: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def poster(video: Path, seconds: float) -> str:
    """The video's image at this time, as a data URL; "" if it ends before."""
    frames = decoded_frames(video)
    image = next((frame for frame in frames if (frame.time or 0) >= seconds), None)
    return "" if image is None else data_url(coded(image.to_image(), "JPEG", quality=85), "jpeg")


def chart(curves: Mapping[str, Sequence[Mapping[str, float]]], colors: Mapping[str, str],
          titles: Mapping[str, str]) -> str:
    """An SVG of each model's training (dashed) and validation (solid) top-1, percent by epoch; rows as in log.csv."""
    width, height, left, bottom = 640, 260, 44, 34
    epochs = max(len(rows) for rows in curves.values())

    def place(epoch: float, percent: float) -> str:
        x = left + (width - left - 10) * epoch / max(epochs, 1)
        return f"{x:.1f},{(height - bottom) * (1 - percent / 100) + 8:.1f}"
    lines = [f'<text x="4" y="{float(place(0, p).split(",")[1]) + 4:.0f}" font-size="12">{p}%</text>'
             f'<polyline points="{place(0, p)} {place(epochs, p)}" stroke="#ddd"/>' for p in (0, 25, 50, 75, 100)]
    lines += [f'<text x="{float(place(e, 0).split(",")[0]) - 3:.0f}" y="{height - 6}" font-size="12">{e}</text>'
              for e in range(1, epochs + 1)]
    for i, (model, rows) in enumerate(curves.items()):
        for column, dash in (("train_top1", "5 4"), ("val_top1", "none")):
            points = " ".join(place(row["epoch"] + 1, row[column]) for row in rows if column in row)
            lines.append(f'<polyline points="{points}" fill="none" stroke="{colors[model]}" stroke-width="2.5"'
                         f' stroke-dasharray="{dash}"/>')
        lines.append(f'<text x="{left + 12}" y="{26 + 17 * i}" font-size="13" fill="{colors[model]}">{titles[model]}:'
                     " validation solid, training dashed</text>")
    return f'<svg width="{width}" height="{height}" font-family="system-ui,sans-serif">{"".join(lines)}</svg>'
