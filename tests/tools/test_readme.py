"""The READMEs: tools/README.md lists every tool, commands have only options that exist, and the same in every document."""
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


def commands_in(document):
    """The commands of a document's code blocks as words, with continued lines joined and comments left out."""
    text = (ROOT / document).read_text().replace("\\\n", " ")
    return [shlex.split(line.lstrip("$ "), comments=True) for line in text.splitlines() if re.match(r"(\$ )?python ", line)]


def test_the_training_of_own_videos_is_the_one_that_was_measured():
    """docs/own_videos.md states the accuracy that its command reached."""
    training = {document: [words[3:] for words in commands_in(document) if words[1:2] == ["main.py"] and "-b" in words]
                for document in ("README.md", "docs/own_videos.md")}
    assert len(training["README.md"]) == 1 and training["README.md"] == training["docs/own_videos.md"]
