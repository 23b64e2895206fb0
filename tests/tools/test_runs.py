"""tools/plot_log.py and tools/compare_runs.py on the logs of real runs."""
import json
import shutil

import pytest
from PIL import Image

from ops.training.run_log import read_log
from tests.helpers.charts import capture_figures, lines_of
from tests.helpers.programs import assert_refused, make_somethingv2, run
from tests.helpers.small_run import NAME, SMALL


@pytest.fixture(scope="module")
def logs(tmp_path_factory):
    """The log directories of two runs, of which one has another learning rate and is validated less often."""
    base, patch = tmp_path_factory.mktemp("runs"), pytest.MonkeyPatch()
    make_somethingv2(base)
    for name, more in {"slow": [], "fast": ["--lr", 0.02, "-ef", 5]}.items():
        patch.setattr("sys.argv", ["main.py", "somethingv2", "RGB", *map(str, SMALL), "--debug", "-j", "0",
                                   "--root_dataset", str(base), "--root_log", str(base / name),
                                   "--root_model", str(base / name), *map(str, more)])
        import main
        assert main.main() == 0
        for checkpoint in base.glob(f"{name}/*/*.pth.tar"):
            checkpoint.unlink()  # 90 MB each; the tests read the logs
    patch.undo()
    return base / "slow" / NAME, base / "fast" / NAME


def test_the_picture_shows_the_numbers_of_the_logs(logs, tmp_path, monkeypatch, capfd):
    figures = capture_figures(monkeypatch)
    done = run(monkeypatch, capfd, "tools.plot_log", logs[0], logs[1] / "log.csv", "--out", tmp_path / "p.png")
    assert done.status == 0 and done.out == f"{tmp_path / 'p.png'}: 2 runs, 3 epochs\n", done.err
    loss, accuracy = (lines_of(axes) for axes in figures[0].axes)
    for directory in logs:  # the two have the same name, and are called by their paths
        rows = read_log(directory / "log.csv")
        for shown, column in ((loss, "loss"), (accuracy, "top1")):
            for kind, label in (("val", "validation"), ("train", "training")):
                assert shown[f"{directory}, {label}"] == [(int(row["epoch"]) + 1, float(row[f"{kind}_{column}"]))
                                                          for row in rows if row[f"{kind}_{column}"]]
    assert Image.open(tmp_path / "p.png").format == "PNG"


def test_a_picture_in_the_directory_of_a_run_is_drawn_again_but_replaces_nothing_else(logs, tmp_path, monkeypatch, capfd):
    run_directory = tmp_path / "run"
    shutil.copytree(logs[0], run_directory)
    picture = run_directory / "p.png"
    for _ in range(2):
        assert run(monkeypatch, capfd, "tools.plot_log", run_directory, "--out", picture).status == 0
    for name in ("log.csv", "args.txt"):
        picture.unlink()
        picture.symlink_to(run_directory / name)
        done = run(monkeypatch, capfd, "tools.plot_log", run_directory / "log.csv", "--out", picture)
        assert_refused(done, "--out", f"would overwrite the input {run_directory / name}")


def test_the_table_has_what_differs_and_the_results(logs, monkeypatch, capfd):
    done = run(monkeypatch, capfd, "tools.compare_runs", *logs)
    assert done.status == 0, done.err
    table = dict(line.split(maxsplit=1) for line in done.out.splitlines()[3:])
    assert table["lr"].split() == ["0.01", "0.02"] and table["eval_freq"].split() == ["2", "5"]
    assert "arch" not in table and "command" not in table
    records = json.loads(run(monkeypatch, capfd, "tools.compare_runs", *logs, "--json").out)
    for record, directory in zip(records, logs, strict=True):
        rows = read_log(directory / "log.csv")
        best = max((row for row in rows if row["val_top1"]), key=lambda row: float(row["val_top1"]))
        assert record["run"] == str(directory) and record["results"]["epochs done"] == "3"
        assert record["results"]["best val_top1"] == f"{float(best['val_top1']):.2f} (epoch {best['epoch']})"
        assert record["results"]["last train_loss"] == f"{float(rows[-1]['train_loss']):.4g}"


@pytest.mark.parametrize("program", ["tools.plot_log", "tools.compare_runs"])
def test_what_is_no_log_is_refused(program, logs, tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    for name, content in {"published": b"Epoch: [0][0/20], lr: 0.01000\tLoss 5.1\n" * 2, "binary": b"\xff\xfe\0\n1\n",
                          "numbers": b"epoch,lr\n0,0.1\n", "nan": b"epoch,train_loss\n0,nan\n"}.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / "log.csv").write_bytes(content)
        assert_refused(run(monkeypatch, capfd, program, logs[0], name), f"{name}/log.csv is not a log that main.py wrote")
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "log.csv").write_text("epoch,train_loss\n")
    assert_refused(run(monkeypatch, capfd, program, "empty"), "empty/log.csv has no epoch")
    assert_refused(run(monkeypatch, capfd, program, "nowhere"), "nowhere/log.csv does not exist")
    assert_refused(run(monkeypatch, capfd, program, logs[0], logs[0] / "log.csv"), "is given twice")
    assert not list(tmp_path.rglob("*.png"))


def test_a_run_of_an_earlier_version_is_compared_too(tmp_path, monkeypatch, capfd):
    """Without args.txt and the newer columns."""
    (tmp_path / "log.csv").write_text("epoch,lr,train_loss,train_top1,train_top5,val_loss,val_top1,val_top5,data_seconds,"
                                      "step_seconds\n0,0.1,1.5,20,60,,,,0.1,0.2\n")
    done = run(monkeypatch, capfd, "tools.compare_runs", tmp_path)
    assert done.status == 0 and "without args.txt" in done.out and "1.5" in done.out and "val_top1" not in done.out
    assert_refused(run(monkeypatch, capfd, "tools.plot_log", tmp_path, "--out", "runs.jpg"), "ends in .png")
