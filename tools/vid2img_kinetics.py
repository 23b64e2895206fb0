"""Extract the frames of Kinetics videos: SRC/<class>/<name>.mp4 to DST/<class>/<name>/img_00001.jpg, ...

Frames are 331 pixels high; the width keeps the aspect ratio. Every directory in SRC counts as a class, so this program
also extracts UCF101 and HMDB51, which have the same layout. After an interruption, run it again: existing directories
are complete and are kept. Videos that cannot be read completely get no directory; they are listed with the reason, and
the exit status is then 2.
"""
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from ops.common.cli import run
from tools.shared.extraction import vid2img


def main() -> int:
    return vid2img(__doc__, source="SRC", target="DST", template="img_{:05d}.jpg", height=331, by_class=True)


if __name__ == "__main__":
    run(main)
