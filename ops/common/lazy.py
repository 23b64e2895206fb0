"""Public names of a package that import their module when they are first used."""
import importlib
import sys
from typing import Any, Callable, Mapping


def exports(package: str, modules: Mapping[str, str]) -> tuple[Callable[[str], Any], Callable[[], list[str]], list[str]]:
    """`__getattr__`, `__dir__` and `__all__` for a package's `__init__` (PEP 562).

    package: the package's `__name__`. modules: public name -> the module inside the package that defines it.
    Importing such a package imports none of its modules:

        __getattr__, __dir__, __all__ = exports(__name__, {"TSNDataSet": "tsn_dataset", "VideoRecord": "list_files"})
    """
    names = sorted(modules)

    def get(name: str) -> Any:
        if name not in modules:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        value = getattr(importlib.import_module(f"{package}.{modules[name]}"), name)
        setattr(sys.modules[package], name, value)  # the next access finds it without this function
        return value

    def list_names() -> list[str]:
        return sorted({*vars(sys.modules[package]), *names})

    return get, list_names, names
