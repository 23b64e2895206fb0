"""Whether the archive of a torch.export program (.pt2) can be loaded without running code from it.

`torch.export.load` unpickles what an archive marks as pickled, evaluates its symbolic sizes and guards as Python, puts names
into generated code, and calls whatever function below `torch` a node names. So before it sees a file, every entry is
compared with what tools/export.py writes: known file names, no pickles but plain tensors, aten operators, plain names and
sizes.
"""
import io
import json
import pickle
import re
import zipfile
from typing import Any, Iterator

import torch

from ops.common.errors import UserError, shown

_FILES = re.compile(r"[^/]+/(archive_format|archive_version|version|byteorder|\.data/[\w.]+|\.format_version"
                    r"|\.storage_alignment|models/model\.json|data/weights/(weight_\d+|model_weights_config\.json)"
                    r"|data/constants/(tensor_\d+|model_constants_config\.json)|data/sample_inputs/model\.pt)")
_OPERATOR = re.compile(r"torch\.ops\.aten\.\w+\.\w+|_operator\.(getitem|add|neg|sub|mul|floordiv|mod|eq|ge|le|gt|lt|ne)")
_SIZE = re.compile(r"(\b(Symbol|Integer|Add|Mul|Max|Min|Mod|FloorDiv|True|False|positive|nonnegative|integer)\b"
                   r"|'[su]\d+'|\b[su]\d+\b|\d+|[ +*/(),=-])*")
_WORD = re.compile(r"[\w.+]*")  # names that end up in generated code, and the version of torch
_TREE = re.compile(r'(\b(builtins\.(tuple|list|dict)|null|type|context|children_spec|\d+)\b|[\[\]{}:,"\\ ])*')


def checked_copy(archive: zipfile.ZipFile, extra: str) -> bytes:
    """The archive's content, written anew from the entries that were checked, so that no reader finds others in it.

    extra: the one extra file that it may hold. UserError if loading it could run code.
    """
    copy = io.BytesIO()
    with zipfile.ZipFile(copy, "w", zipfile.ZIP_STORED) as target:
        for entry in archive.infolist():
            path = entry.filename.partition("/")[2]
            if not _FILES.fullmatch(entry.filename) and path != extra or entry.filename in target.namelist():
                raise _refused(f"it has a file {shown(entry.filename)[:60]!r}")
            if entry.compress_type != zipfile.ZIP_STORED:
                raise _refused(f"{path} is compressed")  # to any size
            content = archive.read(entry)
            _check_entry(path, content)
            target.writestr(entry.filename, content)
    return copy.getvalue()


def _check_entry(path: str, content: bytes) -> None:
    if path.endswith("_config.json"):
        if any(value is not False for value in _values(json.loads(content), "use_pickle")):
            raise _refused(f"{path} names pickled objects")
    elif path == "data/sample_inputs/model.pt":
        _check_samples(content)
    elif path == "models/model.json":
        _check_program(json.loads(content))


def _check_samples(content: bytes) -> None:
    """The example inputs: torch would fall back to loading any object if this failed."""
    try:
        torch.load(io.BytesIO(content), weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, ValueError, EOFError):
        raise _refused("its example inputs are no plain tensors") from None


def _check_program(program: Any) -> None:
    for target in _values(program, "target"):
        if isinstance(target, str) and not _OPERATOR.fullmatch(target) and not target.isidentifier():
            raise _refused(f"it calls {shown(target)[:60]!r}")
    for metadata in _values(program, "metadata"):
        if metadata:
            raise _refused("its nodes have metadata")
    if program.get("guards_code"):
        raise _refused("it has guards in Python")
    for key, text in _texts(program, ""):
        pattern = (_SIZE if key == "expr_str" else _TREE if key in ("in_spec", "out_spec") else _WORD)
        if not pattern.fullmatch(text):
            raise _refused(f"{shown(key)} is {shown(text)[:60]!r}")


def _values(tree: Any, wanted: str) -> Iterator[Any]:
    """Every value under this key, at any depth."""
    if isinstance(tree, dict):
        for key, value in tree.items():
            if key == wanted:
                yield value
            yield from _values(value, wanted)
    elif isinstance(tree, list):
        for value in tree:
            yield from _values(value, wanted)


def _texts(tree: Any, key: str) -> Iterator[tuple[str, str]]:
    """Every text, and every key as a text of its own, with the key that it is under."""
    if isinstance(tree, str):
        yield key, tree
    elif isinstance(tree, dict):
        for name, value in tree.items():
            yield "a name", name
            yield from _texts(value, name)
    elif isinstance(tree, list):
        for value in tree:
            yield from _texts(value, key)


def _refused(reason: str) -> UserError:
    return UserError(f"the .pt2 file is not one that tools/export.py writes, and could run code: {reason}: it is not loaded")
