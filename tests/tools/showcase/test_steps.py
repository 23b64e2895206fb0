"""Steps that run once: what repeats them, what an interrupted training resumes from, and where their output goes."""
import json

import pytest

from ops.common.errors import UserError
from tools.showcase.steps import Steps, execute


def test_a_step_runs_once_and_again_only_for_a_reason(tmp_path, executed):
    a, b = tmp_path / "a", tmp_path / "b"

    def both(flag="x"):
        steps = Steps(tmp_path / "steps.json")
        return [steps.run("a", ["a.py", a, flag], a), steps.run("b", ["b.py", b], b, after=["a"])]
    assert both() == [True, True]
    assert both() == [False, False]
    b.unlink()
    assert both() == [False, True]  # its output is gone
    assert both("y") == [True, True]  # another command, and b depends on it
    assert [words[0] for words in executed] == ["a.py", "b.py", "b.py", "a.py", "b.py"]
    done = json.loads((tmp_path / "steps.json").read_text())
    assert done["a"]["command"] == f"python a.py {a} y" and done["a"]["seconds"] >= 0


@pytest.fixture
def train(tmp_path, executed):
    """train(flag, data, killed) makes lists of the data and trains on them; returns the training's words, or None if it
    was done before. killed: the training is interrupted and leaves this checkpoint ("": none yet).
    """
    lists, file = tmp_path / "lists", tmp_path / "ckpt"

    def train(flag="x", data="all", killed=None):
        steps = Steps(tmp_path / "steps.json")
        steps.run("lists", ["lists.py", lists, data], lists)
        if killed is None:
            done = steps.run("train", ["main.py", file, flag], file, after=["lists"], partial=file)
            return executed[-1] if done else None
        (tmp_path / "kill").touch()
        with pytest.raises(KeyboardInterrupt):
            steps.run("train", ["main.py", file, flag], file, after=["lists"], partial=file)
        (tmp_path / "kill").unlink()
        if killed:
            file.write_text(killed)
    return train


def test_a_training_that_was_interrupted_is_resumed_and_then_done(tmp_path, train):
    file = str(tmp_path / "ckpt")
    train(killed="half")
    train(killed="more")
    assert train() == ["main.py", file, "x", "--resume", file]
    assert train() is None  # resumed or not, it is the same command
    assert train("y") == ["main.py", file, "y"]  # another training does not start from the old checkpoint


def test_a_checkpoint_of_another_training_is_not_resumed(tmp_path, train):
    (tmp_path / "ckpt").write_text("another run's, even if complete")
    assert "--resume" not in train()
    train("y", killed="half")
    assert "--resume" not in train("z")  # another recipe
    train("y", killed="half")
    train("z", killed="")  # it has no checkpoint of its own yet, and must not take y's
    assert "--resume" not in train("z")
    train("y", killed="half")
    assert "--resume" not in train("y", data="other")


def test_a_failed_step_is_an_error_and_not_done(tmp_path, executed):
    steps = Steps(tmp_path / "steps.json")
    with pytest.raises(UserError, match="step bad failed with status 3: fix the cause and run the same command again"):
        steps.run("bad", ["fails.py"], tmp_path)
    assert set(Steps(tmp_path / "steps.json").records["bad"]) == {"command", "begun"}


def test_standard_output_goes_to_a_file_once_it_is_complete(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "p.py").write_text("import sys; print('line'); sys.exit(int(sys.argv[1]))")
    assert execute(["p.py", "1"], tmp_path / "out") == 1 and not (tmp_path / "out").exists()
    assert execute(["p.py", "0"], tmp_path / "out") == 0 and (tmp_path / "out").read_text() == "line\n"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "p.py"]


def test_an_unwritable_file_for_standard_output_is_one_line(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="out: cannot write there .*file is not a directory.: choose another --out"):
        execute(["p.py"], tmp_path / "file" / "out")
