"""The programs with data, weights, runs and reports at addresses of a real S3 server: --data_url, --train_url."""
import json
import signal
import tarfile
import time

import fsspec
import pytest
import torch

from tests.helpers.files import tree
from tests.helpers.processes import finish, ranks, start
from tests.helpers.programs import assert_refused, run
from tests.helpers.s3 import objects
from tests.helpers.small_run import NAME, flags, rows, weights


@pytest.fixture
def archive(data, bucket, tmp_path):
    """The address of the small data set as an archive."""
    with tarfile.open(tmp_path / "set.tar", "w") as tar:
        tar.add(data / "something", "something")
    fsspec.filesystem("s3").put(str(tmp_path / "set.tar"), f"{bucket}/set.tar")
    return f"{bucket}/set.tar"


def test_training_and_testing_fetch_the_data_set(data, archive, trained, tmp_path, monkeypatch, capfd):
    root = tmp_path / "root"
    done = run(monkeypatch, capfd, "main", *flags(root, tmp_path, "--data_url", archive))
    assert done.status == 0, done.err
    assert rows(tmp_path) == rows(trained)
    fetched = {name: content for name, content in tree(root).items() if not name.startswith(".fetched")}
    assert fetched == tree(data)
    weights = tmp_path / "model" / NAME / "ckpt.pth.tar"
    done = run(monkeypatch, capfd, "test_models", "somethingv2", "--weights", weights, "--root_dataset", root, "--data_url",
               archive, "-j", 0, "--device", "cpu", "--out", tmp_path / "report")
    assert done.status == 0 and "already in" in done.err, done.err


def test_the_processes_of_a_run_fetch_once(archive, tmp_path):
    root = tmp_path / "root"
    status, _, err = ranks(2, "main.py", *flags(root, tmp_path, "--data_url", archive, "--debug"))
    assert status == 0, err
    assert len(list((root / ".fetched").iterdir())) == 1


def test_a_run_moves_to_another_machine_through_its_address(data, trained, bucket, tmp_path, monkeypatch, capfd):
    """Interrupted here, and continued in directories that have nothing of it: as if it had not been interrupted."""
    here, there, url = tmp_path / "here", tmp_path / "there", f"{bucket}/runs"
    process = start("main.py", *flags(data, here, "--train_url", url))
    while not (here / "model" / NAME / "ckpt.pth.tar").exists():
        assert process.poll() is None
        time.sleep(0.02)
    process.send_signal(signal.SIGTERM)
    status, _, err = finish(process)
    assert status == 143 and f"logs and checkpoints are complete in {url}/{NAME}" in err, err
    copied = {name: content for name, content in objects(f"{url}/{NAME}").items() if name != "copied.json"}
    local = {"log": tree(here / "log" / NAME), "checkpoint": tree(here / "model" / NAME)}
    assert copied == {f"{part}/{name}": content for part, files in local.items() for name, content in files.items()}

    done = run(monkeypatch, capfd, "main", *flags(data, there, "--train_url", url, "--resume", "auto"))
    assert done.status == 0 and f"the run continues from {url}/{NAME}" in done.err, done.err
    assert rows(there) == rows(trained)
    expected = weights(trained)
    assert all(torch.equal(value, expected[name]) for name, value in weights(there).items())
    assert objects(f"{url}/{NAME}")["log/log.csv"] == (there / "log" / NAME / "log.csv").read_bytes()

    done = run(monkeypatch, capfd, "main", *flags(data, here, "--train_url", url, "--resume", "auto"))
    assert done.status == 0 and "nothing left to do" in done.err, "the older checkpoint here is replaced"
    assert rows(here) == rows(trained)


def test_a_report_of_weights_at_an_address_is_copied_out(data, trained, bucket, tmp_path, monkeypatch, capfd, cache):
    monkeypatch.chdir(tmp_path)
    address = f"{bucket}/{NAME}/ckpt.pth.tar"
    fsspec.filesystem("s3").put(str(trained / "model" / NAME / "ckpt.pth.tar"), address)
    argv = ["somethingv2", "--weights", address, "--root_dataset", data, "-j", 0, "--device", "cpu", "--csv_file",
            tmp_path / "answers.csv"]
    done = run(monkeypatch, capfd, "test_models", *argv, "--train_url", f"{bucket}/reports")
    assert done.status == 0, done.err
    report = objects(f"{bucket}/reports/test_{NAME}")
    assert report == {**tree(tmp_path / "log" / f"test_{NAME}"), "answers.csv": (tmp_path / "answers.csv").read_bytes()}
    assert "results.json" in report
    done = run(monkeypatch, capfd, "test_models", *argv, "--train_url", "s3://no-such-bucket/reports")
    assert_refused(done, "--train_url s3://no-such-bucket/reports", "no such file, directory or bucket")
    argv[2] = f"{bucket}/none.pth.tar"
    assert_refused(run(monkeypatch, capfd, "test_models", *argv), f"--weights {bucket}/none.pth.tar", "no such file")


def test_a_report_in_this_directory_is_copied_under_its_name(data, trained, tmp_path, monkeypatch, capfd):
    (tmp_path / "report").mkdir()
    monkeypatch.chdir(tmp_path / "report")
    done = run(monkeypatch, capfd, "test_models", "somethingv2", "--weights", trained / "model" / NAME / "ckpt.pth.tar",
               "--root_dataset", data, "-j", 0, "--device", "cpu", "--out", ".", "--train_url", tmp_path / "there")
    assert done.status == 0, done.err
    assert tree(tmp_path / "there") == {f"report/{name}": text for name, text in tree(tmp_path / "report").items()}


def test_a_run_is_not_copied_into_itself(data, tmp_path, monkeypatch, capfd):
    done = run(monkeypatch, capfd, "main", *flags(data, tmp_path, "--train_url", tmp_path / "log"))
    assert_refused(done, "--train_url", "choose an address apart from --root_log and --root_model")
    assert not (tmp_path / "log" / NAME).exists()


def test_a_new_run_at_the_address_of_another_one_is_refused(data, tmp_path, monkeypatch, capfd):
    there = tmp_path / "there" / NAME
    (there / "checkpoint").mkdir(parents=True)
    (there / "checkpoint" / "ckpt.pth.tar").write_bytes(b"1")
    state = {"saved": 1, "size": 1, "position": [2, 0], "coming": None}
    (there / "copied.json").write_text(json.dumps({"checkpoint/ckpt.pth.tar": state}))
    done = run(monkeypatch, capfd, "main", *flags(data, tmp_path, "--train_url", tmp_path / "there"))
    assert_refused(done, "holds a run already: continue it with --resume auto, or choose another address,"
                         " or another --suffix")


def test_a_wrong_address_ends_every_process(bucket, tmp_path):
    argv = flags(tmp_path / "root", tmp_path, "--data_url", f"{bucket}/none.tar")
    status, _, err = ranks(2, "main.py", *argv)
    assert status and f"main.py: error: --data_url {bucket}/none.tar: there is no such file" in err
    assert "Traceback" not in err


@pytest.mark.parametrize("address, shown", [
    ("https://me:hunter2@host/set.tar", "https://***@host/set.tar"),
    ("https://host/set.tar?X-Amz-Date=1&X-Amz-Signature=hunter2", "X-Amz-Signature=***"),
    ("abfs://container/set.tar?sv=1&sig=hunter2", "sig=***")])
def test_a_password_in_an_address_is_refused_and_not_shown(address, shown, tmp_path, monkeypatch, capfd):
    done = run(monkeypatch, capfd, "main", *flags(tmp_path, tmp_path, f"--data_url={address}"))
    assert_refused(done, "--data_url", shown, "usual places")
    assert "hunter2" not in done.err + done.out and not (tmp_path / "log").exists()


def test_a_password_in_a_settings_file_is_refused_and_not_shown(tmp_path, monkeypatch, capfd):
    (tmp_path / "settings.yaml").write_text("train_url: ftp://me:hunter2@host/runs\n")
    done = run(monkeypatch, capfd, "main", *flags(tmp_path, tmp_path, "--config", tmp_path / "settings.yaml"))
    assert_refused(done, "settings.yaml:1: train_url", "ftp://***@host/runs")
    assert "hunter2" not in done.err + done.out
