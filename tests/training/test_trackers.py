"""--track: real trackers without a network. Those that are not installed are skipped."""
import json
import logging
import sys

import pytest

from ops.common.choices import TRACKERS
from ops.common.errors import UserError
from ops.training.run_log import RunLog
from ops.training.trackers import Tracker, check_installed, open_tracker
from tests.helpers import trackers
from tests.helpers.tensorboard import scalars

SETTINGS = {"lr": 0.1, "dataset": "somethingv2", "lr_steps": [50, 100], "shift": True}


def row(epoch):
    return {"epoch": epoch, "lr": 0.1, "train_loss": 1 / (epoch + 1), "val_top1": 50.0 + epoch}


@pytest.fixture(params=TRACKERS)
def kind(request, tmp_path, monkeypatch):
    pytest.importorskip(request.param, reason=f"{request.param} is not installed: pip install {request.param}")
    for name, value in trackers.environment(tmp_path).items():
        monkeypatch.setenv(name, value)
    for module in [name for name in sys.modules if name.split(".")[0] == "trackio"]:  # reads TRACKIO_DIR when it is imported
        monkeypatch.delitem(sys.modules, module)
    return request.param


def open_run(kind, directory, epoch, settings=SETTINGS):
    tracker = open_tracker(kind, directory, settings=settings, resumed_at=epoch or None)
    return RunLog(directory, epoch, tracker=tracker)


def test_a_killed_and_resumed_run_is_one_run_with_the_scalars_of_tensorboard(kind, tmp_path):
    directory = tmp_path / "log" / "TSM_run"
    with pytest.raises(KeyError), open_run(kind, directory, 0) as run_log:
        for epoch in range(2):
            run_log.add(row(epoch), 50.0 + epoch)
        raise KeyError("the run is lost in epoch 2")
    with open_run(kind, directory, 2, {**SETTINGS, "lr": 0.2}) as run_log:
        for epoch in range(2, 4):
            run_log.add(row(epoch), 50.0 + epoch)
    run, = trackers.tracked(kind, tmp_path, directory)
    assert run.name.startswith("TSM_run")
    assert [epoch for epoch, _ in run.rows] == [0, 1, 2, 3]
    for tag, points in scalars(directory).items():
        if tag != "first_batch":
            assert [values[tag] for _, values in run.rows] == pytest.approx([value for _, value in points])
    assert {"loss/train", "acc/test_top1", "acc/test_top1_best", "lr"} == set(run.rows[0][1])
    assert (run.settings["dataset"], run.settings["lr_steps"]) == ("somethingv2", "[50, 100]")
    assert run.ends in ([], [False], [True, False]), "mlflow keeps the last one, trackio none"


def test_rows_that_the_tracker_lacks_are_sent_by_the_resumed_run(kind, tmp_path):
    directory = tmp_path / "log" / "TSM_run"
    with RunLog(directory) as run_log:
        run_log.add(row(0), 50.0)
    with open_run(kind, directory, 1) as run_log:
        run_log.add(row(1), 51.0)
    run, = trackers.tracked(kind, tmp_path, directory)
    assert [epoch for epoch, _ in run.rows] == [0, 1]


@pytest.mark.parametrize("start", [1, 3])
def test_epochs_that_are_trained_anew_are_another_tracked_run(start, kind, tmp_path, caplog):
    """With the epochs of the log from the first one on; what was sent before stays what it was."""
    caplog.set_level(logging.INFO)
    directory = tmp_path / "log" / "TSM_run"
    with open_run(kind, directory, 0) as run_log:
        for epoch in range(4):
            run_log.add(row(epoch), 50.0 + epoch)
    with open_run(kind, directory, start, {**SETTINGS, "lr": 0.2}) as run_log:
        for epoch in range(start, 5):
            run_log.add({**row(epoch), "lr": 0.2}, 50.0 + epoch)
    before, after = sorted(trackers.tracked(kind, tmp_path, directory), key=lambda run: len(run.rows))
    assert [values["lr"] for _, values in before.rows] == [0.1] * 4 and before.settings["lr"] == "0.1"
    assert [epoch for epoch, _ in after.rows] == list(range(5)) and after.settings["lr"] == "0.2"
    assert [values["lr"] for _, values in after.rows] == pytest.approx([value for _, value in scalars(directory)["lr"]])
    assert f"has epochs up to 3, and training goes on at epoch {start}: the epochs from the first one on" in caplog.text


def test_a_new_run_in_the_same_directory_is_another_tracked_run(kind, tmp_path):
    directory = tmp_path / "log" / "TSM_run"
    for _ in range(2):
        with open_run(kind, directory, 0) as run_log:
            run_log.add(row(0), 50.0)
    assert len(trackers.tracked(kind, tmp_path, directory)) == 2


def test_a_tracker_that_fails_is_a_warning_and_its_rows_are_sent_later(kind, tmp_path, monkeypatch, caplog):
    directory = tmp_path / "log" / "TSM_run"
    tracker = Tracker(kind, directory, name="TSM_run", settings=SETTINGS, resumed_at=None)
    with monkeypatch.context() as patch:
        patch.setattr(tracker.backend, "log", lambda *_: (_ for _ in ()).throw(ConnectionError("no route to\nthe server")))
        tracker.log({"lr": 0.5}, 0)
    assert f"warning: track {kind}: no route to the server (ConnectionError); training goes on" in caplog.text
    assert json.loads((directory / "tracker.json").read_text())["epoch"] == -1
    tracker.log({"lr": 0.25}, 1)
    tracker.close()
    run, = trackers.tracked(kind, tmp_path, directory)
    assert run.rows == [(0, {"lr": 0.5}), (1, {"lr": 0.25})]


@pytest.mark.parametrize("name", TRACKERS)
def test_a_missing_package_is_named_with_its_command(name, monkeypatch):
    monkeypatch.setattr(sys, "path", [])
    monkeypatch.delitem(sys.modules, name, raising=False)
    with pytest.raises(UserError, match=f"track {name} needs its package: pip install {name}"):
        check_installed(name)
    check_installed("none")


def test_a_tracker_that_cannot_start_is_one_line(kind, tmp_path, monkeypatch):
    monkeypatch.setattr("ops.training.trackers.BACKENDS", {kind: lambda *_: (_ for _ in ()).throw(OSError("no\nlogin"))})
    with pytest.raises(UserError, match=rf"^track {kind}: no login \(OSError\)$"):
        Tracker(kind, tmp_path, name="run", settings={}, resumed_at=None)


@pytest.fixture(autouse=True)
def quiet_loggers():
    """Trackers set up loggers of their own."""
    before = logging.getLogger().handlers[:]
    yield
    logging.getLogger().handlers[:] = before
