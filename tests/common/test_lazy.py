"""Packages whose public names are imported when they are first used."""
import importlib
import subprocess
import sys

import pytest

from tests.conftest import ROOT

ROOMS = sorted(path.parent.relative_to(ROOT).as_posix().replace("/", ".") for path in (ROOT / "ops").rglob("__init__.py"))


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A package `lazy_room` that exports `answer` and `missing` from its module `numbers_`, not imported yet."""
    directory = tmp_path / "lazy_room"
    directory.mkdir()
    (directory / "__init__.py").write_text(
        "from ops.common.lazy import exports\n"
        "__getattr__, __dir__, __all__ = exports(__name__, {'answer': 'numbers_', 'missing': 'numbers_'})\n")
    (directory / "numbers_.py").write_text("answer = [42]\n")
    monkeypatch.syspath_prepend(tmp_path)
    yield importlib.import_module("lazy_room")
    for name in ("lazy_room", "lazy_room.numbers_"):
        sys.modules.pop(name, None)


def test_a_name_imports_its_module_on_first_use(package):
    assert "lazy_room.numbers_" not in sys.modules
    assert package.answer == [42] and "lazy_room.numbers_" in sys.modules
    assert vars(package)["answer"] is package.answer


def test_dir_and_all_list_the_names_without_importing(package):
    assert package.__all__ == ["answer", "missing"] and {"answer", "missing", "__name__"} <= set(dir(package))
    assert "lazy_room.numbers_" not in sys.modules


def test_unknown_names_are_attribute_errors(package):
    with pytest.raises(AttributeError, match="module 'lazy_room' has no attribute 'question'"):
        package.question
    with pytest.raises(ImportError):
        exec("from lazy_room import question")
    with pytest.raises(AttributeError, match="missing"):  # exported, but its module does not define it
        package.missing


@pytest.mark.parametrize("room", ROOMS)
def test_every_room_exports_names_that_exist(room):
    module = importlib.import_module(room)
    for name in getattr(module, "__all__", []):
        assert getattr(module, name) is not None


def test_importing_the_rooms_does_not_import_torch():
    code = f"import sys, {', '.join(ROOMS)}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == 0
