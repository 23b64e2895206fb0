"""The floors of docs/architecture.md: imports inside `ops` point down, no circles, and the library never takes the stage."""
import ast
import re
from pathlib import Path

import pytest

from tests.conftest import ROOT

# A room may import from rooms on lower floors; rooms on one floor do not know each other.
FLOORS = (("common",), ("video", "remote"), ("data",), ("network", "prepare", "recipes"), ("dataset_config",),
          ("checkpoints",), ("evaluation",), ("training", "streaming"), ("runtimes",))
NETWORK = ("models", "temporal_shift", "non_local", "basic_ops", "backbones", "shift_places", "pretrained",
           "spec", "weights", "flops", "model_folder", "folding", "residual_parts", "fused_shift", "shift_moves",
           "shift_conv", "shift_kernels")
FACES = {"dataset": "data", "transforms": "data", "utils": "common"}  # published import paths, a few lines each
FILES = sorted((ROOT / "ops").rglob("*.py"))


def module_name(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def room_of(module: str) -> str:
    """`ops.data.sampling` -> data; the modules directly in ops belong to the network, or are a room of their own."""
    first = module.split(".")[1] if "." in module else ""
    return "network" if first in NETWORK else FACES.get(first, first)


def imports_of(path: Path) -> set[str]:
    """The modules of ours that a file imports anywhere, lazily too."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module:
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
    modules = {module_name(file) for file in FILES}
    named = {name if name in modules else name.rpartition(".")[0] for name in found}
    return {name for name in named if name.startswith("ops.")}


GRAPH = {module_name(path): imports_of(path) for path in FILES}


def test_every_module_has_a_room():
    rooms = {room for floor in FLOORS for room in floor}
    assert {room_of(module) for module in GRAPH} - {""} == rooms


def test_imports_point_down():
    height = {room: floor for floor, rooms in enumerate(FLOORS) for room in rooms}
    wrong = [f"{module} imports {other}" for module, others in GRAPH.items() if module != "ops" for other in others
             if room_of(module) != room_of(other) and height[room_of(other)] >= height[room_of(module)]]
    assert not wrong


def test_no_module_imports_itself_in_a_circle():
    done: set[str] = set()

    def visit(module: str, path: tuple[str, ...]) -> None:
        assert module not in path, " -> ".join((*path[path.index(module):], module))
        if module not in done:
            for other in sorted(GRAPH.get(module, ())):
                if other != module:
                    visit(other, (*path, module))
            done.add(module)

    for module in GRAPH:
        visit(module, ())


def test_the_library_imports_no_program():
    programs = {"main", "test_models", "opts", "tools", "online_demo", "scripts", "tests"}
    for path in FILES:
        for node in ast.walk(ast.parse(path.read_text())):
            names = ([node.module or ""] if isinstance(node, ast.ImportFrom) else
                     [alias.name for alias in node.names] if isinstance(node, ast.Import) else [])
            assert not {name.split(".")[0] for name in names} & programs, f"{path} imports a program"


@pytest.mark.parametrize("room", ["common", "video", "remote", "prepare"])
def test_rooms_without_torch(room):
    """What reads and prepares files starts in a moment, and its worker processes stay small."""
    allowed = {"ops.common.device", "ops.common.distributed", "ops.common.meters"}
    wrong = [module for module in GRAPH if room_of(module) == room and module not in allowed
             for node in ast.walk(ast.parse((ROOT / (module.replace(".", "/") + ".py")).read_text()
                                            if (ROOT / (module.replace(".", "/") + ".py")).exists() else ""))
             if (isinstance(node, ast.Import) and any(a.name.split(".")[0] in ("torch", "torchvision") for a in node.names))
             or (isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] in ("torch", "torchvision"))]
    assert not wrong


def test_the_library_does_not_print_or_parse_arguments():
    wrong = []
    for path in FILES:
        if module_name(path) == "ops.common.cli":
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call):
                name = getattr(node.func, "id", getattr(node.func, "attr", ""))
                if name in ("print", "parse_args", "ArgumentParser", "Parser"):
                    wrong.append(f"{module_name(path)}:{node.lineno} calls {name}")
    assert not wrong


def test_messages_of_the_library_name_no_flags():
    """An option is called by its name; `ops.common.cli.run` adds the dashes (`UserError.for_command_line`)."""
    wrong = []
    for path in FILES:
        if module_name(path) == "ops.common.cli":
            continue
        tree = ast.parse(path.read_text())
        docstrings = {id(node.body[0].value) for node in ast.walk(tree)
                      if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef)) and node.body
                      and isinstance(node.body[0], ast.Expr)}
        not_messages = docstrings | {id(word) for node in ast.walk(tree) if isinstance(node, ast.List) for word in node.elts}
        wrong += [f"{module_name(path)}:{node.lineno}: {node.value.strip()[:60]}" for node in ast.walk(tree)
                  if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in not_messages
                  and any(word.startswith("--") and word[2:3].isalpha() for word in node.value.replace("(", " ").split())]
    assert not wrong


def test_the_page_names_files_that_exist():
    text = (ROOT / "docs" / "architecture.md").read_text()
    named = set(re.findall(r"`((?:ops|archs|tools|tests|scripts|online_demo)/[\w/]*[\w/.]+)`", text))
    missing = sorted(name for name in named if "NAME" not in name and not (ROOT / name).exists())
    assert len(named) > 30 and not missing


def test_the_page_names_every_room():
    text = (ROOT / "docs" / "architecture.md").read_text()
    rooms = [path.name for path in (ROOT / "ops").iterdir() if path.is_dir() and path.name != "__pycache__"]
    assert all(f"`ops/{room}/`" in text for room in rooms)
