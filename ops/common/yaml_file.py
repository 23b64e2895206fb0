"""Reading the yaml files that users write, with errors that name file and line."""
from pathlib import Path
from typing import Iterator, Optional

import yaml

from ops.common.errors import UserError


def read_yaml_text(path: Path, what: str) -> str:
    """The text of a file; UserError for one that cannot be read. what: the kind of file, for the message."""
    try:
        return path.read_text(encoding="utf-8-sig")
    except (OSError, ValueError) as error:  # ValueError: not UTF-8, or a name with a null byte
        reason = getattr(error, "strerror", None) or error
        raise UserError(f"cannot read the {what} {path}: {reason}") from None


def compose_yaml(text: str, path: Path) -> Optional[yaml.Node]:
    """The nodes of a yaml text; None for an empty one. UserError with file and line for another text."""
    try:
        return yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        raise UserError(f"{path}:{mark.line + 1 if mark else 1}: not yaml: {error.problem}") from None
    except (yaml.YAMLError, RecursionError) as error:
        raise UserError(f"{path}: not yaml: {str(error).splitlines()[0]}") from None


def yaml_pairs(node: Optional[yaml.Node], path: Path, what: str = "the file") -> Iterator[tuple[str, yaml.Node, int]]:
    """(key, value, line from 1) of a mapping. UserError, with file and line, for another node or a repeated key."""
    if node is None:
        return
    if not isinstance(node, yaml.MappingNode):
        raise UserError(f"{path}:{node.start_mark.line + 1}: {what} must hold `name: value` lines")
    seen = set()
    for key, value in node.value:
        line = key.start_mark.line + 1
        if not isinstance(key, yaml.ScalarNode) or not key.value:
            raise UserError(f"{path}:{line}: a name must be text")
        if key.value in seen:
            raise UserError(f"{path}:{line}: {key.value!r} appears twice: remove one")
        seen.add(key.value)
        yield key.value, value, line
