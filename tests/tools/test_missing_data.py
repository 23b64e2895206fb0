"""Without data, programs list the commands that make it from the download; the commands work as they are printed."""
import importlib
import re
import shlex
import shutil
import sys

import pytest

from ops.common.errors import UserError
from ops.dataset_config import DATASETS, resolve_dataset
from tests.conftest import ROOT
from tests.helpers.clips import real_video
from tests.helpers.label_files import V2, V2_FRAMES, write
from tests.helpers.programs import assert_refused, run

PUBLIC = [name for name, entry in DATASETS.items() if not entry.prepare]


def commands_of(message):
    """The commands of a message as words, the first of which is the program."""
    steps = re.findall(r"\(\d\) (.*?)(?:; (?=\()|\n|$)", message)
    return [shlex.split(step)[1:] for step in steps if step.startswith("python ")]


@pytest.mark.parametrize("name", PUBLIC)
@pytest.mark.parametrize("modality", ["RGB", "Flow"])
def test_every_public_data_set_has_commands_with_options_that_exist(name, modality, tmp_path, monkeypatch, capsys):
    with pytest.raises(UserError) as error:
        resolve_dataset(name, modality, str(tmp_path / "my data"), needed=["val_list"])
    commands = commands_of(error.value.for_command_line())
    assert any(program.startswith("tools/gen_label_") for program, *_ in commands)
    assert sum(program == "tools/extract_flow.py" for program, *_ in commands) == 2 * (modality == "Flow")
    for program, *words in commands:
        assert (ROOT / program).is_file()
        monkeypatch.setattr(sys, "argv", [program, "--help"])
        with pytest.raises(SystemExit):
            importlib.import_module(program.removesuffix(".py").replace("/", ".")).main()
        text = capsys.readouterr().out
        assert all(re.search(rf"(?<![\w-]){word}(?![\w-])", text) for word in words if word.startswith("--")), program


@pytest.mark.parametrize("program, words", [
    ("main", ["somethingv2", "RGB", "--shift"]), ("main", ["somethingv2", "Flow"]),
    ("tools.show_batch", ["somethingv2", "RGB"]), ("tools.check_dataset", ["somethingv2"])])
def test_programs_list_the_commands_of_this_data_set(program, words, tmp_path, monkeypatch, capfd):
    done = run(monkeypatch, capfd, program, *words, "--root_dataset", tmp_path)
    assert_refused(done, "train_videofolder", "TSM_ROOT", f"tools/gen_label_sthv2.py --root_dataset {tmp_path}",
                   f"tools/vid2img_sthv2.py VIDEOS {tmp_path / 'something/v2/20bn-something-something-v2-frames'}")
    assert ("tools/extract_flow.py" in done.err) == ("Flow" in words)


def test_the_commands_make_the_data(tmp_path, monkeypatch, capfd):
    """A download of five videos becomes the lists and images of RGB and of flow."""
    videos = tmp_path / "videos"
    videos.mkdir()
    for name in V2_FRAMES:
        shutil.copy(real_video("carphone_pristine.mp4"), videos / f"{name}.mp4")
    root = tmp_path / "root"
    done = run(monkeypatch, capfd, "main", "somethingv2", "Flow", "--root_dataset", root)
    labels = re.search(r"label files into (\S+);", done.err)[1]
    write(root.parent / labels, {f"{name}.json": content for name, content in V2.items()})
    for program, *words in commands_of(done.err):
        words = [str(videos) if word == "VIDEOS" else word for word in words]
        made = run(monkeypatch, capfd, program.removesuffix(".py").replace("/", "."), *words)
        assert made.status == 0, made.err
    for modality in ("RGB", "Flow"):
        data = resolve_dataset("somethingv2", modality, str(root), needed=["train_list", "val_list"])
        path, count, _ = data.train_list.read_text().splitlines()[0].split()
        assert len(list((data.frames / path).iterdir())) == int(count) > 100
    assert data.class_names == ["Approaching something with your camera", "Holding something",
                                "Putting something next to something"]
