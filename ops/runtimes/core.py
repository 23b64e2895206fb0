"""OpenVINO's Core."""
from functools import lru_cache
from typing import Any

from ops.common.extras import import_extra


@lru_cache(maxsize=1)
def find_core() -> Any:
    """OpenVINO's Core, one for the whole process.

    Deleting the last Core unloads its plugins, although threads that ran them and their fork handlers in the C library
    still exist.
    """
    return import_extra("openvino").Core()
