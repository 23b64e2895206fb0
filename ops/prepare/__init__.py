"""From public or own videos to what training reads: frames, flow, lists, splits and checks, without torch."""
from ops.common.lazy import exports

__getattr__, __dir__, __all__ = exports(__name__, {
    "extract_video": "extract", "extract_directory": "extract", "extract_flow_directory": "extract_flow",
    "write_lists": "list_writer", "check_lists": "check",
    "read_dataset_file": "user_file",
})
