"""Shared by the tests of the quickstart and of its steps."""
import pytest

from tests.conftest import ROOT
from tools.showcase import steps


@pytest.fixture
def executed(monkeypatch, tmp_path):
    """The words of every program that a step runs; none really runs.

    A program writes the file that its second word names. fails.py exits with status 3. While there is a file `kill`, a
    program is interrupted.
    """
    programs = []

    def execute(words, stdout):
        programs.append(list(words))
        if (tmp_path / "kill").exists():
            raise KeyboardInterrupt
        if words[0] == "fails.py":
            return 3
        (stdout or (ROOT / words[1])).write_text("made")
        return 0
    monkeypatch.setattr(steps, "execute", execute)
    return programs
