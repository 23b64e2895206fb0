"""A small run of tools/fuzz.py: every input must end in a loaded clip, or in one line that names the file."""
import importlib
import multiprocessing
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from ops.common.errors import UserError
from ops.video import frames as frame_sources
from ops.video.opencv_log import SILENT, set_log_level
from tests.helpers import programs
from tools import fuzz
from tools.fuzzing import KINDS, process
from tools.fuzzing.damage import DAMAGES, Texts, damage
from tools.fuzzing.material import FRAMES, TEMPLATE, make_frame_directory, make_image, read_code
from tools.fuzzing.process import Fault, run_inputs, try_input

INPUTS = {"lists": 60, "images": 90, "videos": 42, "labels": 64}


@pytest.fixture(autouse=True)
def settings(monkeypatch):
    """Restores what fuzzing sets for its own process."""
    monkeypatch.setenv("TSM_CACHE", "")
    threads, level = torch.get_num_threads(), set_log_level(SILENT)
    yield
    torch.set_num_threads(threads)
    set_log_level(level)


def outcomes(kind, directory, seed=1):
    inputs = importlib.import_module(f"tools.fuzzing.{kind}").make(directory, seed)
    return [try_input(inputs, number) for number in range(INPUTS[kind])]


@pytest.mark.parametrize("kind", KINDS)
def test_every_input_is_loaded_or_refused_in_one_line(kind, tmp_path):
    found = outcomes(kind, tmp_path)
    assert [outcome for outcome in found if outcome.kind == "fault"] == []
    assert {outcome.kind for outcome in found} == {"loaded", "refused"}


def test_a_loader_that_hides_damage_is_caught(tmp_path, monkeypatch):
    """As training once did: OpenCV reads every file that begins like a JPEG."""
    monkeypatch.setattr(frame_sources, "_is_plain_jpeg", lambda content: content.startswith(b"\xff\xd8"))
    messages = " ".join(outcome.message for outcome in outcomes("images", tmp_path) if outcome.kind == "fault")
    assert "training and evaluation read frame" in messages and "training reads what evaluation refuses" in messages


def test_a_loader_that_takes_another_video_is_caught(tmp_path, monkeypatch):
    load = frame_sources.FrameDirectory.load
    monkeypatch.setattr(frame_sources.FrameDirectory, "load", lambda self, video, indices: load(
        self, video if (self.root / video).is_dir() else "a", indices))
    faults = [outcome for outcome in outcomes("lists", tmp_path) if outcome.kind == "fault"]
    assert any("images (video, frame)" in fault.message for fault in faults)


# ---- parts ----------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("error, kind, message", [
    (None, "loaded", "7"), (UserError("x/file.mp4: cut off"), "refused", "cut off"),
    (UserError("cut off"), "fault", "does not name the file"), (UserError(""), "fault", "not one line"),
    (Fault("others"), "fault", "others"), (KeyError("b"), "fault", "KeyError: 'b'")])
def test_outcomes(error, kind, message):
    class Seven:
        names = ["file.mp4"]

        def __call__(self, number):
            if error:
                raise error
            return [str(number)]

    outcome = try_input(Seven(), 7)
    assert (outcome.number, outcome.kind) == (7, kind) and message in outcome.message


def test_processes_that_hang_or_die_are_faults(monkeypatch):
    monkeypatch.setattr(process, "LIMIT", 0.05)
    ours, theirs = multiprocessing.Pipe()
    dead = SimpleNamespace(join=lambda: None, exitcode=-11)
    assert process._receive(ours, dead, 3) == (3, "fault", "the process takes over 0.05 seconds")
    theirs.close()
    assert process._receive(ours, dead, 4) == (4, "fault", "the process died with exit code -11")


def test_another_process_has_the_same_outcomes(tmp_path):
    here = outcomes("labels", tmp_path / "labels")[:10]
    assert list(run_inputs("labels", range(10), 1, directory=tmp_path)) == here


def test_an_interruption_ends_the_process_at_once(tmp_path, monkeypatch):
    def interrupted(outcomes, **words):
        yield next(outcomes)
        raise KeyboardInterrupt
    monkeypatch.setattr(fuzz, "progress", interrupted)
    try:
        fuzz.try_inputs("labels", range(10), 1, directory=tmp_path, verbose=False)
    except KeyboardInterrupt:  # its traceback still refers to the generator
        assert multiprocessing.active_children() == []
    else:
        pytest.fail("not interrupted")


def test_damage_depends_on_the_seed_alone():
    content = bytes(range(256)) * 20
    made = [[damage(content, np.random.default_rng((seed, i))) for i in range(50)] for seed in (0, 0, 1)]
    assert made[0] == made[1] != made[2]
    assert sum(one != content for one in made[0]) > 45
    for one_damage in DAMAGES:
        assert one_damage(content, np.random.default_rng(3)) != content
        one_damage(b"", np.random.default_rng(3))  # an earlier damage may have left nothing
    read = [[Texts(seed, ["word"])[i] for i in (150, 3, 3)] for seed in (5, 5, 6)]
    assert read[0] == read[1] != read[2] and read[0][1] == read[0][2] != read[0][0]


def test_images_carry_the_numbers_of_their_video_and_frame(tmp_path):
    make_frame_directory(tmp_path, 9)
    for frame in (1, 7, FRAMES):
        assert read_code(frame_sources.read_image(tmp_path / TEMPLATE.format(frame))) == (9, frame)
    assert not np.array_equal(make_image(9, 1), make_image(9, 2))


@pytest.mark.parametrize("flags, words", [
    (["--kinds", "sounds"], "--kinds 'sounds': choose lists, images"), (["--inputs", "0"], "--inputs 0"),
    (["--seed", "-1"], "--seed -1"), (["--only", "-1"], "--only -1")])
def test_wrong_flags(flags, words, monkeypatch, capfd):
    programs.assert_refused(programs.run(monkeypatch, capfd, "tools.fuzz", *flags), words)


def test_the_program_prints_the_message_of_one_input(tmp_path, monkeypatch, capfd):
    monkeypatch.setattr("tools.fuzz.run_inputs",
                        lambda kind, numbers, seed, *, directory: (each for each in outcomes(kind, directory, seed)[4:5]))
    done = programs.run(monkeypatch, capfd, "tools.fuzz", "--kinds", "labels", "--only", 4, "--seed", 1,
                        "--directory", tmp_path)
    assert done.status == 0 and done.out.splitlines()[-1].startswith("| label files of six data sets")
    assert "refused: " in done.err or "loaded: " in done.err
