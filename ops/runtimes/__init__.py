"""The step of an online model in PyTorch, ONNX Runtime and OpenVINO: one module and one registry row per backend."""
from ops.common.lazy import exports

__getattr__, __dir__, __all__ = exports(__name__, {
    "open_runtime": "registry", "open_exported": "registry", "BACKENDS": "registry", "find_runtime": "registry",
    "export_step": "export", "quantize_step": "quantize", "read_exported": "step_file", "write_exported": "step_file",
})
