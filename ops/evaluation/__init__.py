"""What a network is worth: predictions for lists of videos and for single ones, metrics and reports."""
from ops.common.lazy import exports

__getattr__, __dir__, __all__ = exports(__name__, {
    "Predictor": "predict", "Predictions": "metrics", "write_report": "metrics", "ClipRuntime": "clip_runtime",
    "TorchClip": "clip_runtime",
})
