"""main.py --track: one tracked run for all processes of a run, with its settings."""
import yaml

from tests.helpers import trackers
from tests.helpers.processes import ranks
from tests.helpers.programs import assert_refused, run
from tests.helpers.small_run import NAME, flags


def test_the_processes_of_a_run_are_one_tracked_run(data, tmp_path, monkeypatch):
    for name, value in trackers.environment(tmp_path).items():
        monkeypatch.setenv(name, value)
    argv = flags(data, tmp_path, "--track", "wandb", "-b", 2, "--epochs", 2)
    status, _, err = ranks(2, "main.py", *argv)
    assert status == 0, err
    name = NAME.replace("_e3_", "_e2_")
    run, = trackers.tracked("wandb", tmp_path, tmp_path / "log" / name)
    assert run.name == name and [epoch for epoch, _ in run.rows] == [0, 1] and run.ends == [False]
    stored = yaml.safe_load((tmp_path / "log" / name / "settings.yaml").read_text())
    assert stored["track"] == "wandb" and {key: run.settings[key] for key in ("track", "lr", "arch")} == {
        "track": "wandb", "lr": "0.01", "arch": "resnet18"}
    assert "acc/test_top1" in run.rows[1][1]


def test_an_unknown_tracker_is_refused(data, tmp_path, monkeypatch, capfd):
    done = run(monkeypatch, capfd, "main", *flags(data, tmp_path, "--track", "wandbb"))
    assert_refused(done, "--track 'wandbb'", "none, wandb, trackio or mlflow", "did you mean wandb?")
