"""The programs with data at an address: --data_url, from a real S3 server."""
import tarfile

import fsspec
import pytest

from tests.helpers.files import tree
from tests.helpers.processes import finish, torchrun
from tests.helpers.programs import assert_refused, run
from tests.helpers.small_run import NAME, flags, rows


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
    status, _, err = finish(torchrun(2, "main.py", *flags(root, tmp_path, "--data_url", archive, "--debug")))
    assert status == 0, err
    assert len(list((root / ".fetched").iterdir())) == 1


def test_a_wrong_address_ends_every_process(bucket, tmp_path):
    argv = flags(tmp_path / "root", tmp_path, "--data_url", f"{bucket}/none.tar")
    status, _, err = finish(torchrun(2, "main.py", *argv))
    assert status and f"main.py: error: --data_url {bucket}/none.tar: there is no such file" in err
    assert "in train" not in err, "only torchrun itself prints a traceback"


@pytest.mark.parametrize("address, shown", [
    ("https://me:hunter2@host/set.tar", "https://***@host/set.tar"),
    ("https://host/set.tar?X-Amz-Date=1&X-Amz-Signature=hunter2", "X-Amz-Signature=***"),
    ("abfs://container/set.tar?sv=1&sig=hunter2", "sig=***")])
def test_a_password_in_an_address_is_refused_and_not_shown(address, shown, tmp_path, monkeypatch, capfd):
    done = run(monkeypatch, capfd, "main", *flags(tmp_path, tmp_path, f"--data_url={address}"))
    assert_refused(done, "--data_url", shown, "usual places")
    assert "hunter2" not in done.err + done.out and not (tmp_path / "log").exists()
