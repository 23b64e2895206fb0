"""Data, weights and copies of runs at addresses such as s3://bucket/name, through fsspec."""
from ops.common.lazy import exports

__getattr__, __dir__, __all__ = exports(__name__, {
    "fetch_data": "data", "local_file": "files", "copy_out": "files", "RunCopy": "run_copy", "fetch_run": "run_copy",
})
