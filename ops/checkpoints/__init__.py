"""Weight files: what a file holds, whichever form it has, the released ones, and conversion between forms."""
from ops.common.lazy import exports

__getattr__, __dir__, __all__ = exports(__name__, {
    "Checkpoint": "checkpoint", "load_checkpoint": "checkpoint", "load_streamable": "online_format",
    "inspect_file": "inspect", "find_weights": "model_zoo", "MODEL_ZOO": "model_zoo",
})
