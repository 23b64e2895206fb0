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
from tools.benchmark import SUBJECTS

DOCUMENTS = ["README.md", "online_demo/README.md", "tools/README.md",
             *sorted(f"docs/{path.name}" for path in (ROOT / "docs").glob("*.md"))]
TOOLS = {f"tools/{path.name}" for path in (ROOT / "tools").glob("*.py")} - {"tools/__init__.py"}


def commands_in(document):
    """The python commands of a document, in code blocks and between backticks, as words; without comments."""
    text = (ROOT / document).read_text().replace("\\\n", " ")
    found = re.findall(r"^ *(?:\$ )?(python \S+\.py\b.*)$", text, re.MULTILINE)
    found += re.findall(r"`(python \S+\.py\b[^`]*)`", text)
    return [shlex.split(command, comments=True) for command in found]


OPTIONS = {(words[1], *sorted(word.split("=")[0] for word in words if word.startswith("-")))
           for document in DOCUMENTS for words in commands_in(document)}


def test_every_tool_is_listed():
    assert TOOLS - {words[1] for words in commands_in("tools/README.md")} == set()


@pytest.mark.parametrize("command", sorted(OPTIONS), ids=" ".join)
def test_the_options_of_a_command_exist(command, monkeypatch, capsys):
    program, *options = command
    assert (ROOT / program).is_file()
    subjects = list(SUBJECTS) if program == "tools/benchmark.py" else [None]
    texts = []
    for subject in subjects:
        monkeypatch.setattr(sys, "argv", [program, *filter(None, [subject]), "--help"])
        with pytest.raises(SystemExit) as end:
            importlib.import_module(program.removesuffix(".py").replace("/", ".")).main()
        assert end.value.code == 0
        texts.append(capsys.readouterr().out)
    for option in options:
        assert re.search(rf"(?<![\w-]){option}(?![\w-])", "".join(texts)), f"{program} has no {option}"


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
