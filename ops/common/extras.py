"""Optional packages, imported when a program first needs them."""
import importlib
from typing import Any

from ops.common.errors import UserError


def import_extra(name: str, install: str = "-r requirements-runtimes.txt") -> Any:
    """Import a package. UserError with the command `pip install <install>` if it is missing."""
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise UserError(f"this needs the package {name}, which cannot be imported ({error}):"
                        f" pip install {install}") from None
