"""Data sets at an address: fetched once, whole or not at all, from a real S3 server and from this machine."""
import gzip
import io
import json
import random
import subprocess
import sys
import tarfile
import time
import zipfile

import fsspec
import pytest

from ops.common.errors import UserError
from ops.common.files import CannotWrite
from ops.remote import data
from ops.remote.data import fetch_data
from ops.remote.filesystems import open_place
from tests.helpers.disks import small_disk
from tests.helpers.processes import start
from tests.helpers.s3 import checked_credentials

FILES = {"something/v2/frames/a/000001.jpg": b"first", "something/v2/frames/b/000001.jpg": b"",
         "something/v2/list.txt": b"a 1 0\n"}
MODES = {".tar": "w", ".gz": "w:gz", ".tgz": "w:gz", ".xz": "w:xz", ".bz2": "w:bz2"}


def pack(path, files=FILES):
    """An archive of the form that its suffix names."""
    if path.suffix == ".zip":
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, content in files.items():
                archive.writestr(name, content)
        return path
    with tarfile.open(path, MODES[path.suffix]) as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return path


def content(root):
    """{relative name: bytes} of a root, without the record of what was fetched."""
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in sorted(root.rglob("*"))
            if path.is_file() and path.relative_to(root).parts[0] != ".fetched"}


def upload(path, bucket):
    fsspec.filesystem("s3").put(str(path), f"{bucket}/{path.name}")
    return f"{bucket}/{path.name}"


@pytest.mark.parametrize("name", ["d.tar", "d.tar.gz", "d.tgz", "d.tar.bz2", "d.tar.xz", "d.zip"])
def test_archives_are_unpacked_under_the_root(tmp_path, bucket, name):
    address = upload(pack(tmp_path / name), bucket)
    fetch_data(address, tmp_path / "root")
    assert content(tmp_path / "root") == FILES
    record, = (tmp_path / "root" / ".fetched").glob("*.json")
    assert json.loads(record.read_text())["bytes"] == (tmp_path / name).stat().st_size
    assert [path for path in record.parent.iterdir()] == [record], "the archive and the lock are gone"


@pytest.mark.parametrize("form", ["s3", "path", "file"])
def test_directories_and_paths_of_this_machine(tmp_path, bucket, form):
    for name, text in FILES.items():
        (tmp_path / "source" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "source" / name).write_bytes(text)
    if form == "s3":
        fsspec.filesystem("s3").put(f"{tmp_path}/source/", f"{bucket}/source", recursive=True)
    address = {"s3": f"{bucket}/source", "path": str(tmp_path / "source"), "file": f"file://{tmp_path}/source"}[form]
    fetch_data(address, tmp_path / "root")
    assert content(tmp_path / "root") == FILES
    assert content(tmp_path / "source") == FILES
    fetch_data(str(pack(tmp_path / "again.tar")), tmp_path / "root")  # the same files: nothing is in the way
    assert content(tmp_path / "root") == FILES


def test_what_was_fetched_is_used_without_the_server_and_refused_once_it_differs(tmp_path, bucket, monkeypatch, caplog):
    address = upload(pack(tmp_path / "d.tar"), bucket)
    fetch_data(address, tmp_path / "root")
    (tmp_path / "root" / "something/v2/list.txt").write_bytes(b"edited")
    caplog.set_level("INFO")
    fetch_data(address, tmp_path / "root")
    assert "already in" in caplog.text
    upload(pack(tmp_path / "d.tar", {**FILES, "new": b"new"}), bucket)
    with pytest.raises(UserError, match="it has changed since it was fetched"):
        fetch_data(address, tmp_path / "root")
    fsspec.filesystem("s3").rm(address)
    fetch_data(address, tmp_path / "root")
    assert "using what was fetched from it before" in caplog.text
    assert content(tmp_path / "root")["something/v2/list.txt"] == b"edited"


@pytest.mark.parametrize("name", ["d.tar", "d.zip"])
@pytest.mark.parametrize("member", ["/etc/cron.d/x", "../x", "a/../../x", "..\\x", "C:/x", "a/.."])
def test_members_that_leave_the_root_are_refused(tmp_path, name, member):
    pack(tmp_path / name, {**FILES, member: b"harm"})
    with pytest.raises(UserError, match="contains"):
        fetch_data(str(tmp_path / name), tmp_path / "root")
    assert content(tmp_path / "root") == {} and not (tmp_path / "x").exists()


@pytest.mark.parametrize("kind, word", [(tarfile.SYMTYPE, "link"), (tarfile.LNKTYPE, "link"), (tarfile.CHRTYPE, "device"),
                                        (tarfile.FIFOTYPE, "device")])
def test_links_and_devices_are_refused(tmp_path, kind, word):
    with tarfile.open(pack(tmp_path / "d.tar"), "a") as archive:
        member = tarfile.TarInfo("something/v2/other")
        member.type, member.linkname = kind, "something/v2/list.txt"
        archive.addfile(member)
    with pytest.raises(UserError, match=f"'something/v2/other', which is a {word}"):
        fetch_data(str(tmp_path / "d.tar"), tmp_path / "root")
    assert content(tmp_path / "root") == {}


def test_a_link_in_a_zip_is_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "d.zip", "w") as archive:
        member = zipfile.ZipInfo("link")
        member.create_system, member.external_attr = 3, 0o120777 << 16
        archive.writestr(member, "/etc/passwd")
    with pytest.raises(UserError, match="'link', which is a link"):
        fetch_data(str(tmp_path / "d.zip"), tmp_path / "root")


def test_object_names_that_leave_the_root_are_refused(tmp_path, bucket):
    name, fs = bucket.removeprefix("s3://"), fsspec.filesystem("s3")
    fs.call_s3("put_object", Bucket=name, Key="set/good", Body=b"1")
    fs.call_s3("put_object", Bucket=name, Key="set/a/../../../x", Body=b"harm")
    with pytest.raises(UserError, match="leads out of the directory of the data sets"):
        fetch_data(f"{bucket}/set", tmp_path / "root")
    assert content(tmp_path / "root") == {}


@pytest.mark.parametrize("name", ["d.tar", "d.tar.gz", "d.zip"])
def test_damaged_and_empty_archives_are_refused(tmp_path, name):
    path = pack(tmp_path / name, {"a": random.Random(0).randbytes(50_000)})
    path.write_bytes(path.read_bytes()[:30_000])
    with pytest.raises(UserError, match="damaged"):
        fetch_data(str(path), tmp_path / "root")
    with pytest.raises(UserError, match="contains no files"):
        fetch_data(str(pack(path, {})), tmp_path / "root")
    assert content(tmp_path / "root") == {}


@pytest.mark.parametrize("name", ["d.tar", "d.tar.gz"])
@pytest.mark.parametrize("length", [3 * 512, 3 * 512 + 100])  # header and content of 1, header of 2; a part of the next
def test_an_archive_cut_between_two_members_is_damaged(tmp_path, name, length):
    """tarfile takes such a cut for the end."""
    packed = pack(tmp_path / "whole.tar", {"a": b"1", "b": b"", "c": b"3"}).read_bytes()[:length]
    (tmp_path / name).write_bytes(gzip.compress(packed) if name.endswith(".gz") else packed)
    with pytest.raises(UserError, match="damaged: it has no end"):
        fetch_data(str(tmp_path / name), tmp_path / "root")
    assert content(tmp_path / "root") == {}


@pytest.mark.parametrize("target", ["elsewhere", "elsewhere/file", "nowhere"])
def test_links_in_a_directory_are_refused(tmp_path, target):
    for name in ("source", "elsewhere"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").write_text("1")
    (tmp_path / "source" / "link").symlink_to(tmp_path / target)
    with pytest.raises(UserError, match="it contains 'link', which is a link"):
        fetch_data(str(tmp_path / "source"), tmp_path / "root")
    assert content(tmp_path / "root") == {}


@pytest.mark.parametrize("form", ["d.tar", "d.zip", "d"])
def test_the_record_of_a_root_that_was_packed_is_left_out(tmp_path, form):
    """`tar -C data .` of a root that has fetched something itself."""
    files = {**FILES, ".fetched/x.json": b"{}"}
    if form == "d":
        for name, text in files.items():
            (tmp_path / form / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / form / name).write_bytes(text)
    else:
        pack(tmp_path / form, {f"./{name}": text for name, text in files.items()})
    fetch_data(str(tmp_path / form), tmp_path / "root")
    assert content(tmp_path / "root") == FILES and not (tmp_path / "root" / ".fetched" / "x.json").exists()


@pytest.mark.parametrize("root", [".", "root"])
def test_the_root_itself_is_no_address_of_data(tmp_path, root):
    (tmp_path / "source").mkdir()
    (tmp_path / "source" / "list.txt").write_text("1")
    with pytest.raises(UserError, match="is root_dataset itself, or above it: leave data_url out"):
        fetch_data(str(tmp_path / "source"), tmp_path / "source" / root)
    assert content(tmp_path / "source") == {"list.txt": b"1"} and not (tmp_path / "source" / ".fetched").exists()


def test_a_root_that_cannot_be_written_is_used_when_it_has_the_data(tmp_path):
    address = str(pack(tmp_path / "d.tar"))
    with small_disk(tmp_path / "root", "2m") as root:
        fetch_data(address, root)
        subprocess.run(["mount", "-o", "remount,ro", str(root)], check=True)
        fetch_data(address, root)
        with pytest.raises(CannotWrite, match="Read-only file system"):
            fetch_data(str(pack(tmp_path / "other.tar")), root)


def test_files_in_the_way_are_kept(tmp_path):
    there = tmp_path / "root" / "something" / "v2"
    there.mkdir(parents=True)
    (there / "list.txt").write_text("mine")
    with pytest.raises(UserError, match="list.txt is there already and differs"):
        fetch_data(str(pack(tmp_path / "d.tar")), tmp_path / "root")
    assert content(tmp_path / "root") == {"something/v2/list.txt": b"mine"}


# ---- wrong addresses ------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("address, words", [
    ("s3://no-such-bucket/d.tar", "no such file, directory or bucket"), ("{bucket}/none.tar", "no such file"),
    ("{bucket}/readme.txt", "neither a directory nor an archive"), ("/no/such/place.tar", "no such file"),
    ("xyz://a/b.tar", "xyz://a/b.tar: unknown protocol: choose s3://"),
    ("http://127.0.0.1:1/d.tar", "its server cannot be reached")])
def test_wrong_addresses_are_one_line(tmp_path, bucket, address, words):
    fsspec.filesystem("s3").pipe(f"{bucket}/readme.txt", b"text")
    with pytest.raises(UserError, match=words) as error:
        fetch_data(address.format(bucket=bucket), tmp_path / "root")
    assert str(error.value).startswith("data_url ") and "\n" not in str(error.value)


def test_wrong_credentials_are_one_line_without_them(tmp_path, bucket, s3_address, monkeypatch):
    address = upload(pack(tmp_path / "d.tar"), bucket)
    with checked_credentials(s3_address), pytest.raises(UserError, match="access is denied.*usual places") as error:
        fetch_data(address, tmp_path / "root")
    assert "testing-secret" not in str(error.value)
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    fsspec.get_filesystem_class("s3").clear_instance_cache()
    with pytest.raises(UserError, match="access is denied.*usual places"):
        fetch_data(address, tmp_path / "root")


def test_a_missing_library_is_named_with_its_command(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "gcsfs", None)
    with pytest.raises(UserError, match="pip install -r requirements-remote.txt"):
        fetch_data("gs://bucket/d.tar", tmp_path / "root")


# ---- interruptions --------------------------------------------------------------------------------------------------

BIG = {"set/frames/0": random.Random(1).randbytes(40 << 20), "set/list.txt": b"0 1 0\n"}
PROGRAM = "import sys, pathlib; from ops.remote.data import fetch_data; fetch_data(sys.argv[1], pathlib.Path(sys.argv[2]))"


def start_fetch(address, root):
    return start("-c", PROGRAM, address, root, stdout=None, stderr=None)


def killed_during_the_transfer(address, root):
    """The part of the archive that a killed fetch leaves."""
    for _ in range(10):
        process = start_fetch(address, root)
        while process.poll() is None:
            part = next(root.glob(".fetched/*/archive"), None)
            if part and part.stat().st_size:
                process.kill()
        if process.wait() and part.exists() and not list(root.glob(".fetched/*.json")):
            return part
    raise AssertionError("the transfer always ended before it was killed")


def test_a_killed_fetch_continues_with_the_bytes_that_it_has(tmp_path, bucket):
    address, root = upload(pack(tmp_path / "d.tar", BIG), bucket), tmp_path / "root"
    part = killed_during_the_transfer(address, root)
    assert content(root) == {}
    with open(part, "r+b") as f:  # a mark in the first file's data: it stays if these bytes are not fetched again
        f.seek(5000)
        f.write(b"MARK")
    fetch_data(address, root)
    found = content(root)
    assert found.keys() == BIG.keys() and found["set/list.txt"] == BIG["set/list.txt"]
    assert b"MARK" in found["set/frames/0"] and len(found["set/frames/0"]) == 40 << 20


def test_a_killed_fetch_starts_again_if_the_archive_has_changed(tmp_path, bucket):
    address, root = upload(pack(tmp_path / "d.tar", BIG), bucket), tmp_path / "root"
    killed_during_the_transfer(address, root)
    other = {**BIG, "set/frames/0": random.Random(2).randbytes(40 << 20)}
    upload(pack(tmp_path / "d.tar", other), bucket)
    fetch_data(address, root)
    assert content(root) == other


@pytest.mark.parametrize("form", ["archive", "directory"])
def test_kills_at_any_moment_never_leave_a_part_for_the_whole(tmp_path, bucket, form):
    files = {f"set/frames/{i:02d}": random.Random(i).randbytes(1 << 20) for i in range(30)} | {"set/list.txt": b"30\n"}
    root, rng = tmp_path / "root", random.Random(3)
    if form == "archive":
        address = upload(pack(tmp_path / "d.tar.gz", files), bucket)
    else:
        fsspec.filesystem("s3").pipe({f"{bucket}/d/{name}": text for name, text in files.items()})
        address = f"{bucket}/d"
    for _ in range(6):
        process = start_fetch(address, root)
        time.sleep(rng.uniform(0.1, 1))
        process.kill()
        process.wait()
        if (root / "set" / "list.txt").exists():
            assert content(root) == files
    assert start_fetch(address, root).wait() == 0
    assert content(root) == files and len(list((root / ".fetched").iterdir())) == 1


def test_two_processes_fetch_once(tmp_path, bucket):
    address, root = upload(pack(tmp_path / "d.tar", BIG), bucket), tmp_path / "root"
    processes = [start_fetch(address, root) for _ in range(3)]
    assert [process.wait() for process in processes] == [0, 0, 0]
    assert content(root) == BIG


@pytest.mark.parametrize("form", ["d.tar", "d"])
def test_another_size_than_at_the_start_is_refused(tmp_path, bucket, form):
    """The archive or file is replaced between the look at its size and the transfer."""
    fs, key = fsspec.filesystem("s3"), {"d.tar": "d.tar", "d": "d/list.txt"}[form]
    pack(tmp_path / "d.tar")
    fs.pipe(f"{bucket}/{key}", (tmp_path / "d.tar").read_bytes())
    place = open_place(f"{bucket}/{form}", "data_url")
    facts = place.describe()
    fs.pipe(f"{bucket}/{key}", (tmp_path / "d.tar").read_bytes()[:1000])
    with pytest.raises(UserError, match="1000 bytes came, it has 10240"):
        data._fetch(place, facts, tmp_path / "work", tmp_path / "root")
    assert not (tmp_path / "root").exists()


@pytest.mark.parametrize("form", ["d.tar", "d.tar.xz", "d"])
def test_a_full_disk_is_one_line(tmp_path, bucket, form):
    files = {**FILES, "something/large": bytes(3 << 20)}
    fs = fsspec.filesystem("s3")
    if form == "d":
        fs.pipe({f"{bucket}/d/{name}": text for name, text in files.items()})
    else:
        upload(pack(tmp_path / form, files), bucket)
    with small_disk(tmp_path / "disk", "2m") as disk:
        with pytest.raises(UserError, match="cannot write .*(the disk has 0.00 GB free|No space left)"):
            fetch_data(f"{bucket}/{form}", disk / "root")
        assert content(disk / "root") == {}
