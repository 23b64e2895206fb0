"""Extract the frames of Something-Something-V2 videos: VIDEO_ROOT/<name>.webm to FRAME_ROOT/<name>/000001.jpg, ...

Frames are 256 pixels high; the width keeps the aspect ratio. After an interruption, run it again: existing directories
are complete and are kept. Videos that cannot be read completely get no directory; they are listed with the reason, and
the exit status is then 2.
"""
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from ops.common.cli import run
from tools.shared.extraction import vid2img


def main() -> int:
    return vid2img(__doc__, source="VIDEO_ROOT", target="FRAME_ROOT", template="{:06d}.jpg", height=256, by_class=False)


if __name__ == "__main__":
    run(main)
