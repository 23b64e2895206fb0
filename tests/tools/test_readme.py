"""The READMEs: tools/README.md lists every tool, commands have only options that exist, and the same in every document."""
import importlib
import re
import shlex
import sys

import pytest
import torch
import torchvision

from ops.models import TSN
from ops.weights import save_checkpoint
from tests.conftest import ROOT
from tests.helpers.classifier import NAMES, make_classifier
from tests.helpers.clips import clip
from tests.helpers.online import save_online
from tests.helpers.programs import run

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


# ---- the main README's code -----------------------------------------------------------------------------------

def code_of(document, language="python"):
    return re.findall(rf"```{language}\n(.*?)```", (ROOT / document).read_text(), re.DOTALL)


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A directory with the files that README's code names."""
    make_classifier(tmp_path / "ckpt.pth.tar")
    save_online(tmp_path)
    clip(tmp_path / "video.mp4", 12)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TSM_CACHE", str(tmp_path / "cache"))
    return tmp_path


def test_the_readmes_python_runs(place, capfd):
    values = {"frames": torch.zeros(4, 3, 64, 64, dtype=torch.uint8), "clips": torch.zeros(1, 24, 64, 64),
              "my_resnet": torchvision.models.resnet18()}
    blocks = code_of("README.md")
    for block in blocks:
        exec(compile(block, "README.md", "exec"), values)
    assert len(blocks) == 3 and values["scores"].shape == (1, 174)
    assert values["best"]["class"] in NAMES and set(values["best"]) == {"class", "label", "probability", "score"}
    assert capfd.readouterr().out.count("\n") >= 4  # a decision per camera


def test_the_readmes_released_model_classifies_a_video(place, monkeypatch, capfd):
    words, = [words for words in commands_in("README.md") if words[1] == "tools/predict.py" and "video.mp4" in words]
    model = TSN(400, 8, "RGB", base_model="resnet50", is_shift=True, pretrain="none", print_spec=False)
    (place / "cache").mkdir()
    save_checkpoint({"state_dict": {f"module.{key}": value for key, value in model.state_dict().items()}},
                    place / "cache" / words[-1])
    done = run(monkeypatch, capfd, "tools.predict", *words[2:], "--device", "cpu")
    assert done.status == 0 and done.out.startswith("video.mp4: 12 frames") and "classes are numbers" in done.err
