"""A run's files copied to an S3 server while they change, and fetched back."""
import json
import os
import threading
import time

import fsspec
import pytest

from ops.common.errors import UserError
from ops.remote import run_copy
from ops.remote.files import check_address, copy_out, local_file
from ops.remote.run_copy import RunCopy, RunFiles, fetch_run
from tests.helpers.disks import small_disk
from tests.helpers.files import tree
from tests.helpers.http import http_server
from tests.helpers.s3 import checked_credentials, objects


@pytest.fixture
def directories(tmp_path):
    found = {"log": tmp_path / "log" / "run", "checkpoint": tmp_path / "model" / "run"}
    for path in found.values():
        path.mkdir(parents=True)
    (found["log"] / "log.csv").write_text("1\n")
    (found["checkpoint"] / "last").write_bytes(b"epoch 1")
    return found


@pytest.fixture
def soon(monkeypatch):
    monkeypatch.setattr(run_copy, "INTERVAL", 0.05)


def position(content):
    """b"epoch 3" is (3,)."""
    return tuple(int(word) for word in content.read(20).split()[1:2])


def run_files(directories):
    return RunFiles(directories, log="log/log.csv", checkpoints=["checkpoint/last"], position=position)


def files_of(directories):
    return {f"{name}/{file}": content for name, path in directories.items() for file, content in tree(path).items()}


def copied(address):
    return {name: content for name, content in objects(address).items() if name != "copied.json"}


def wait_until(condition):
    end = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


def test_changed_files_are_copied_during_the_run_and_at_its_end(bucket, directories, soon):
    address = f"{bucket}/runs/run"
    with RunCopy(address, run_files(directories)):
        wait_until(lambda: copied(address) == files_of(directories))
        (directories["log"] / "pictures").mkdir()
        (directories["log"] / "pictures" / "batch.png").write_bytes(b"png")
        (directories["log"] / ".log.csv.partial-0123abcd").write_bytes(b"half")
        os.symlink("/etc/passwd", directories["log"] / "link")
        wait_until(lambda: "log/pictures/batch.png" in copied(address))
        (directories["checkpoint"] / "last").write_bytes(b"epoch 2")
    assert copied(address) == {"log/log.csv": b"1\n", "log/pictures/batch.png": b"png", "checkpoint/last": b"epoch 2"}


def test_a_checkpoint_is_never_ahead_of_the_log_there(bucket, directories, soon):
    """The run replaces both all the time, the log first; whatever is at the address at any moment fits together."""
    address, ended = f"{bucket}/run", threading.Event()
    large = b" " * (1 << 20)

    def train():
        for epoch in range(2, 400):
            for file, content in ((directories["log"] / "log.csv", b"%d\n" % epoch),
                                  (directories["checkpoint"] / "last", b"epoch %d" % epoch + large)):
                file.with_name("new").write_bytes(content)
                os.replace(file.with_name("new"), file)
            if ended.wait(0.01):
                return

    thread = threading.Thread(target=train)
    with RunCopy(address, run_files(directories)):
        wait_until(lambda: "checkpoint/last" in copied(address))
        thread.start()
        seen = set()
        for _ in range(30):
            fs = fsspec.filesystem("s3")
            checkpoint, log = fs.cat(f"{address}/checkpoint/last"), fs.cat(f"{address}/log/log.csv")
            assert int(checkpoint.split()[1]) <= int(log)
            seen.add(checkpoint)
        ended.set()
        thread.join()
    assert len(seen) > 2


def test_an_unreachable_address_is_a_warning_and_the_copies_are_made_up_for(bucket, s3_address, directories, soon, caplog):
    address = f"{bucket}/run"
    caplog.set_level("INFO")
    with RunCopy(address, run_files(directories)):
        with checked_credentials(s3_address):
            (directories["log"] / "log.csv").write_text("1\n2\n")
            wait_until(lambda: "training goes on, next attempt" in caplog.text)
        wait_until(lambda: "the copies are complete again" in caplog.text)
    assert copied(address) == files_of(directories)


def test_copies_that_fail_until_the_end_are_an_error_that_names_the_files(bucket, s3_address, directories, soon, caplog):
    with checked_credentials(s3_address):
        with pytest.raises(UserError, match="train_url s3://.*access is denied"):
            RunCopy(f"{bucket}/run", run_files(directories))
    copy = RunCopy(f"{bucket}/run", run_files(directories))
    with checked_credentials(s3_address):
        with pytest.raises(UserError, match="access is denied.*complete here and not there: .*log.csv.*resume auto"), copy:
            (directories["log"] / "log.csv").write_text("1\n2\n")
    copy = RunCopy(f"{bucket}/run", run_files(directories))
    with checked_credentials(s3_address):
        with pytest.raises(UserError, match="the loss is not finite"), copy:
            raise UserError("the loss is not finite")
    assert "complete here and not there" in caplog.text


def test_the_run_is_fetched_back_where_it_is_older_or_missing(bucket, directories, tmp_path):
    address, files = f"{bucket}/run", files_of(directories)
    elsewhere = {name: tmp_path / "elsewhere" / name for name in directories}
    assert not fetch_run(address, run_files(elsewhere))
    with RunCopy(address, run_files(directories)):
        pass
    assert fetch_run(address, run_files(elsewhere)) and files_of(elsewhere) == files
    assert not fetch_run(address, run_files(elsewhere)), "it is as new"
    assert not fetch_run(address, run_files(directories))
    later = time.time() + 60
    (elsewhere["checkpoint"] / "last").write_bytes(b"epoch 3 longer")
    os.utime(elsewhere["checkpoint"] / "last", (later, later))
    assert not fetch_run(address, run_files(elsewhere)), "it is newer"
    with RunCopy(address, run_files(elsewhere)):
        pass
    assert fetch_run(address, run_files(directories)) and files_of(directories) == files_of(elsewhere)


def test_names_in_the_record_cannot_leave_the_directories(bucket, directories):
    state = {"saved": 2 ** 62, "size": 7, "position": [5], "coming": None}
    record = {"log/../../x": state, "checkpoint/last": state}
    fsspec.filesystem("s3").pipe(f"{bucket}/run/checkpoint/last", b"epoch 5")
    fsspec.filesystem("s3").pipe(f"{bucket}/run/copied.json", json.dumps(record).encode())
    with pytest.raises(UserError, match="leads out"):
        fetch_run(f"{bucket}/run", run_files(directories))


def test_weights_are_fetched_once_and_again_when_they_change(bucket, cache):
    fs, address = fsspec.filesystem("s3"), f"{bucket}/TSM_run/ckpt.pth.tar"
    fs.pipe(address, b"first")
    path = local_file(address, "weights")
    assert path.read_bytes() == b"first" and path.parent.name == "TSM_run" and path.is_relative_to(cache)
    path.write_bytes(b"same!")
    assert local_file(address, "weights").read_bytes() == b"same!"
    fs.pipe(address, b"second")
    assert local_file(address, "weights").read_bytes() == b"second"
    assert local_file("a/b.pth", "weights").as_posix() == "a/b.pth"
    assert local_file(path.as_uri(), "weights") == path
    with pytest.raises(UserError, match="it is a directory"):
        local_file(f"{bucket}/TSM_run", "weights")


@pytest.mark.parametrize("dates", [("Thu, 26 Nov 2026 10:00:00 GMT", "Thu, 26 Nov 2026 10:00:01 GMT"), (None, None)])
def test_weights_of_the_same_size_are_not_taken_for_each_other(dates, cache):
    """Of a server that gives a date and no ETag, or neither."""
    with http_server() as (address, files):
        for content, date in zip((b"first", b"other"), dates):
            files["/runs/ckpt.pth"] = content, {"Last-Modified": date} if date else {}
            path = local_file(f"{address}/runs/ckpt.pth?download=1", "weights")
            assert path.read_bytes() == content and path.name == "ckpt.pth"


def test_what_http_cannot_do_is_said_in_a_line(cache):
    with http_server(ranges=False) as (address, files):
        files["/ckpt.pth"] = bytes(9 << 20), {"ETag": "1"}
        with pytest.raises(UserError, match=r"its server cannot send parts of a file \(range requests\)"):
            local_file(f"{address}/ckpt.pth", "weights")
        with pytest.raises(UserError, match=r"^train_url http://[0-9.:]+/runs: .*nothing can be written to http"):
            check_address(f"{address}/runs", "train_url")


def test_results_are_copied_out(bucket, tmp_path):
    (tmp_path / "a.json").write_text("{}")
    check_address(f"{bucket}/out", "train_url")
    copy_out([tmp_path / "a.json"], f"{bucket}/out")
    assert objects(f"{bucket}/out") == {"a.json": b"{}"}
    with pytest.raises(UserError, match="train_url s3://no-such-bucket/x"):
        check_address("s3://no-such-bucket/x", "train_url")
    with pytest.raises(UserError, match="complete here, and not there: .*a.json"):
        copy_out([tmp_path / "a.json"], "s3://no-such-bucket/x")
    copy_out([tmp_path / "a.json"], str(tmp_path / "deep" / "out"))
    assert (tmp_path / "deep" / "out" / "a.json").read_text() == "{}"


# ---- what is there is whole, and belongs together --------------------------------------------------------------------

def test_a_full_disk_keeps_the_last_good_copy(directories, soon, tmp_path):
    """Nothing of another file system may be copied in place of a good file before it is complete."""
    last = directories["checkpoint"] / "last"
    last.write_bytes(b"epoch 1 " + bytes(400_000))
    before = last.read_bytes()
    with small_disk(tmp_path / "disk", "1m") as disk:
        address = str(disk / "runs" / "run")
        with RunCopy(address, run_files(directories)):
            pass
        with pytest.raises(UserError, match="cannot be written: No space left on device"):
            with RunCopy(address, run_files(directories)):
                last.write_bytes(b"epoch 2 " + bytes(900_000))
        assert {path.name for path in (disk / "runs" / "run" / "checkpoint").iterdir()} == {"last"}
        elsewhere = {name: tmp_path / "elsewhere" / name for name in directories}
        assert fetch_run(address, run_files(elsewhere))
        assert (elsewhere["checkpoint"] / "last").read_bytes() == before


def test_a_checkpoint_of_another_size_is_not_fetched(directories, tmp_path):
    address = tmp_path / "there"
    with RunCopy(str(address), run_files(directories)):
        pass
    (address / "checkpoint" / "last").write_bytes(b"epo")
    elsewhere = {name: tmp_path / "elsewhere" / name for name in directories}
    with pytest.raises(UserError, match="it has 3 bytes, and 7 when it was copied"):
        fetch_run(str(address), run_files(elsewhere))
    assert not elsewhere["checkpoint"].exists()


@pytest.mark.parametrize("moment", ["before", "after"])
def test_a_kill_beside_the_copy_of_a_checkpoint_leaves_a_record_that_fits(moment, directories, tmp_path):
    address, last = tmp_path / "there", directories["checkpoint"] / "last"
    with RunCopy(str(address), run_files(directories)):
        pass
    copy = RunCopy(str(address), run_files(directories))
    last.write_bytes(b"epoch 2 longer")
    with open(last, "rb") as content:
        copy._copy_checkpoint("checkpoint/last", content)
    record = json.loads((address / "copied.json").read_text())
    record["checkpoint/last"] = {"saved": 1, "size": 7, "position": [1], "coming": record["checkpoint/last"]}
    (address / "copied.json").write_text(json.dumps(record))
    if moment == "before":
        (address / "checkpoint" / "last").write_bytes(b"epoch 1")
    elsewhere = {name: tmp_path / "elsewhere" / name for name in directories}
    assert fetch_run(str(address), run_files(elsewhere))
    expected = {"before": b"epoch 1", "after": b"epoch 2 longer"}[moment]
    assert (elsewhere["checkpoint"] / "last").read_bytes() == expected


def test_the_further_run_counts_whatever_the_clocks_say(directories, tmp_path):
    address, last = str(tmp_path / "there"), directories["checkpoint"] / "last"
    last.write_bytes(b"epoch 2")
    with RunCopy(address, run_files(directories)):
        pass
    ahead = time.time() + 3600
    last.write_bytes(b"epoch 1")
    os.utime(last, (ahead, ahead))
    assert fetch_run(address, run_files(directories)) and last.read_bytes() == b"epoch 2"
    last.write_bytes(b"epoch 3")
    os.utime(last, (1e9, 1e9))
    assert not fetch_run(address, run_files(directories)) and last.read_bytes() == b"epoch 3"


def test_a_file_that_cannot_be_copied_does_not_keep_the_others_from_it(directories, soon, tmp_path):
    there = tmp_path / "there"
    (there / "log" / "a").mkdir(parents=True)
    (directories["log"] / "a").write_text("in the place of a directory")
    with pytest.raises(UserError, match="cannot be written.*complete here and not there: [^,]*/a:"):
        with RunCopy(str(there), run_files(directories)):
            pass
    assert (there / "checkpoint" / "last").read_bytes() == b"epoch 1" and (there / "log" / "log.csv").exists()


def test_without_its_log_no_checkpoint_is_copied(directories, soon, tmp_path):
    there = tmp_path / "there"
    (there / "log" / "log.csv").mkdir(parents=True)
    with pytest.raises(UserError, match="complete here and not there: .*log.csv, .*last"):
        with RunCopy(str(there), run_files(directories)):
            pass
    assert not (there / "checkpoint").exists()
