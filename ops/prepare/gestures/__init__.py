"""The gestures data set: rendered videos of eight gestures that only the order of their frames tells apart."""
from ops.common.lazy import exports

__getattr__, __dir__, __all__ = exports(__name__, {
    "prepare_gestures": "dataset", "make_gestures": "make", "render_clip": "render", "render_stream": "render",
    "CLASSES": "definition",
})
