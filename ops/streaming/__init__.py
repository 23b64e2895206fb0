"""Online models: one frame and a state in, logits and the new state out; streams of decisions and their scores."""
from ops.common.lazy import exports

__getattr__, __dir__, __all__ = exports(__name__, {
    "OnlineTSM": "online", "StepRuntime": "step_runtime", "Stream": "stream", "Decision": "stream",
    "frame_transform": "stream", "open_source": "sources", "score_online": "online_scoring",
})
