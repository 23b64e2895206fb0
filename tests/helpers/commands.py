"""The programs of the repository, as files to run."""
import argparse
import importlib

import pytest

from ops.common import cli
from tests.conftest import ROOT

_PLACES = ("main.py", "test_models.py", "online_demo/main.py", "tools/**/*.py")
PROGRAMS = sorted(str(path.relative_to(ROOT)) for place in _PLACES for path in ROOT.glob(place)
                  if 'if __name__ == "__main__":' in path.read_text())


class _Captured(BaseException):
    """Carries a program's parser out of its `main`, which reads its flags first."""


def parsers_of(program: str) -> list[cli.Parser]:
    """The parsers of a program: its own and those of its subcommands."""
    def capture(parser, *_, **__):
        raise _Captured(parser)

    module = importlib.import_module(program.removesuffix(".py").replace("/", "."))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cli.Parser, "parse_known_args", capture)
        with pytest.raises(_Captured) as captured:
            module.main()
    parser, = captured.value.args
    return [parser, *(sub for action in parser._actions if isinstance(action, argparse._SubParsersAction)
                      for sub in action.choices.values())]


def options_of(parser: cli.Parser) -> list[argparse.Action]:
    """The flags that --help lists, without --help itself."""
    return [action for action in parser._actions if action.option_strings and action.dest != "help"
            and action.help is not argparse.SUPPRESS]
