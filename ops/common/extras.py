"""Optional packages, imported when a program first needs them."""
import importlib
from typing import Any

from ops.common.errors import UserError


def import_extra(name: str) -> Any:
    """Import a package of requirements-runtimes.txt. UserError that gives the command to install it if it is missing."""
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise UserError(f"this needs the package {name}, which cannot be imported ({error}):"
                        " pip install -r requirements-runtimes.txt") from None
