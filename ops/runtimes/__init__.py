"""Clip models and the steps of online models in PyTorch, ONNX Runtime and OpenVINO; their export and quantization."""
from ops.common.lazy import exports

__getattr__, __dir__, __all__ = exports(__name__, {
    "open_runtime": "registry", "open_exported": "registry", "open_clip": "registry", "open_step": "registry",
    "BACKENDS": "registry", "find_runtime": "registry", "export_model": "export", "ExportOptions": "export",
    "quantize_step": "quantize", "read_exported": "exported_file", "write_exported": "exported_file",
})
