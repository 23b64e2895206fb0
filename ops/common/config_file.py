"""A program's options in a yaml file: each flag by its name (`lr: 0.01`), in any of its spellings and without dashes."""
import argparse
from pathlib import Path
from typing import Any, Mapping, Sequence

import yaml

from ops.common.choices import suggestion
from ops.common.errors import UserError
from ops.common.files import atomic_write
from ops.common.yaml_file import compose_yaml, read_yaml_text, yaml_pairs

_SWITCH = {"true": True, "yes": True, "on": True, "false": False, "no": False, "off": False}


def read_config(path: Path, parser: argparse.ArgumentParser, not_allowed: Sequence[str] = ()) -> dict[str, Any]:
    """The options of a yaml file, checked as the parser would check them: destination -> value.

    An empty value or null leaves an option at its default. not_allowed: destinations that such a file must not have.
    UserError, with file and line, for an unknown name, a value that the option does not allow, and yaml that is none.
    """
    actions = {_plain(name): action for action in parser._actions for name in action.option_strings or [action.dest]
               if action.dest not in ("help", *not_allowed) and not _switches_off(action, name)}
    found: dict[str, Any] = {}
    for key, node, line in yaml_pairs(compose_yaml(read_yaml_text(path, "settings file"), path), path):
        place = f"{path}:{line}"
        if _plain(key) not in actions:
            raise UserError(f"{place}: there is no option {key!r}{suggestion(_plain(key), actions)}")
        action = actions[_plain(key)]
        if action.dest in found:
            raise UserError(f"{place}: {key!r} is set twice: remove one")
        if node.tag != "tag:yaml.org,2002:null":
            found[action.dest] = _value(action, node, f"{place}: {key}")
    return found


def write_config(path: Path, settings: Mapping[str, Any]) -> None:
    """Write options as `read_config` reads them."""
    with atomic_write(path) as f:
        yaml.safe_dump(dict(settings), f, width=1 << 20)


def _plain(name: str) -> str:
    return name.lstrip("-").replace("-", "_")


def _switches_off(action: argparse.Action, name: str) -> bool:
    """Whether this spelling is the `--no-NAME` of a switch."""
    return isinstance(action, argparse._StoreFalseAction) or (
        isinstance(action, argparse.BooleanOptionalAction) and _plain(name).startswith("no_"))


def _value(action: argparse.Action, node: yaml.Node, place: str) -> Any:
    several = action.nargs in ("+", "*")
    parts = node.value if isinstance(node, yaml.SequenceNode) and several else [node]
    if not parts or not all(isinstance(part, yaml.ScalarNode) for part in parts):
        raise UserError(f"{place}: choose {'one or more values: [1, 2]' if several else 'a single value'}")
    if action.nargs == 0:
        if node.value.lower() not in _SWITCH:
            raise UserError(f"{place} {node.value!r}: choose true or false")
        return _SWITCH[node.value.lower()]
    try:
        values = [action.type(part.value) if callable(action.type) else part.value for part in parts]
    except argparse.ArgumentTypeError as error:
        raise UserError(f"{place} {error}") from None
    return values if several else values[0]
