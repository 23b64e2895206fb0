"""tools/README.md: it lists every tool, and its commands have only options that the programs know."""
import importlib
import re
import shlex
import sys

import pytest

from tests.conftest import ROOT

README = (ROOT / "tools" / "README.md").read_text()
COMMANDS = re.findall(r"`python ([^`]+)`", README)
TOOLS = {f"tools/{path.name}" for path in (ROOT / "tools").glob("*.py")} - {"tools/__init__.py"}


def test_every_tool_is_listed():
    assert TOOLS - {command.split()[0] for command in COMMANDS} == set()


@pytest.mark.parametrize("command", COMMANDS)
def test_the_options_of_a_command_exist(command, monkeypatch, capsys):
    program, *words = shlex.split(command)
    assert (ROOT / program).is_file()
    subject = words[:1] if program == "tools/benchmark.py" else []
    monkeypatch.setattr(sys, "argv", [program, *subject, "--help"])
    with pytest.raises(SystemExit) as end:
        importlib.import_module(program.removesuffix(".py").replace("/", ".")).main()
    text = capsys.readouterr().out
    assert end.value.code == 0
    for option in (word for word in words if word.startswith("-")):
        assert re.search(rf"(?<![\w-]){option}(?![\w-])", text), f"{program} has no {option}"
