"""Pictures of a batch as the network sees it: the frames of each clip, no longer normalized, under its label."""
from dataclasses import dataclass
from typing import Optional, Sequence

from PIL import Image, ImageDraw
from torch import Tensor

from ops.data.preprocessing import Preprocessing

GAP, LINE = 4, 16  # pixels: between images; height of a line of text
LETTER = 6  # pixels: width of a letter of the text


@dataclass(frozen=True)
class BatchPictures:
    """Draws the inputs of a network that takes clips of `segments` frames of `modality`, normalized by `preprocessing`."""
    preprocessing: Preprocessing
    segments: int
    modality: str = "RGB"
    class_names: Optional[Sequence[str]] = None

    def sheet(self, inputs: Tensor, labels: Tensor, clips: int = 4) -> Image.Image:
        """One row per clip, of the first `clips` of a batch. inputs: (N, T*C, H, W). labels: (N,), or (N, num_class)."""
        rows = [self.images(clip) for clip in inputs[:clips].float().cpu()]
        return grid(rows, [self.text(label) for label in labels[:clips].cpu()], per_line=1)

    def images(self, clip: Tensor) -> list[Image.Image]:
        """The network's input (T*C, H, W) before it was normalized: an image per segment, for Flow two (x, y)."""
        pixels = self.preprocessing.invert(clip[None])[0].unflatten(0, (self.segments, -1))
        if self.modality == "Flow":
            return [Image.fromarray(plane.numpy()) for segment in pixels for plane in segment[:2]]
        colors = pixels[:, :3].flip(1) if self.preprocessing.color == "BGR" else pixels[:, :3]
        return [Image.fromarray(image.permute(1, 2, 0).numpy()) for image in colors]

    def text(self, label: Tensor) -> str:
        """The class of a label, or for shares of classes (num_class,) each one with its share, largest first.

        Whole shares, of a multi-label clip that is not mixed, are not shown.
        """
        if label.dim() == 0:
            return self._name(int(label))
        found = sorted(((float(share), i) for i, share in enumerate(label) if share > 0), reverse=True)
        if all(share > 0.995 for share, _ in found):
            return ", ".join(self._name(i) for _, i in reversed(found)) or "no class"
        return " + ".join(f"{share:.2f} {self._name(i)}" for share, i in found)

    def _name(self, label: int) -> str:
        return self.class_names[label] if self.class_names else f"class {label}"


def grid(rows: Sequence[Sequence[Image.Image]], texts: Sequence[str], per_line: int) -> Image.Image:
    """Rows of images with a line of text above each, `per_line` rows side by side."""
    width, height = rows[0][0].size
    cell = len(rows[0]) * (width + GAP), LINE + height + GAP
    per_line = min(per_line, len(rows))
    sheet = Image.new("RGB", (per_line * cell[0] + GAP, -(-len(rows) // per_line) * cell[1] + GAP), "white")
    draw = ImageDraw.Draw(sheet)
    for position, (row, text) in enumerate(zip(rows, texts)):
        left, top = GAP + position % per_line * cell[0], GAP + position // per_line * cell[1]
        draw.text((left, top), text[:cell[0] // LETTER], fill="black")  # so that texts do not overlap
        for i, image in enumerate(row):
            sheet.paste(image, (left + i * (width + GAP), top + LINE))
    return sheet
