"""Frame directories in tar files: the same clips, packed whole or not at all, gone on with after a kill."""
import contextlib
import gzip
import os
import re
import shutil
import signal
import sqlite3
import subprocess
import tarfile
import time

import pytest
import torch

from ops.common.errors import UserError
from ops.data.clip_transforms import GroupMultiScaleCrop, Stack, ToTorchFormatTensor
from ops.data.loader import make_loader
from ops.data.training_crop import TrainingCrop
from ops.data.tsn_dataset import TSNDataSet
from ops.video.frames import make_source
from ops.video.shards import INDEX, SHARD, Shards, find_directories, pack
from tests.helpers.datasets import refused
from tests.helpers.disks import enlarge, small_disk
from tests.helpers.processes import finish, messages, start
from tests.helpers.programs import assert_refused, make_frames, make_somethingv2, run, write_list

VIDEOS = {"a b": (7, 0), "ü/x.mp4": (5, 1), "-c": (9, 2), "d" * 120: (3, 3), "e": (8, 1)}


@pytest.fixture(scope="module")
def directories(tmp_path_factory):
    root = tmp_path_factory.mktemp("frames")
    make_frames(root, VIDEOS)
    return root


@pytest.fixture(scope="module")
def shards(directories, tmp_path_factory):
    root = tmp_path_factory.mktemp("shards")
    summary = pack(directories, root, per_shard=2, workers=2)
    assert (summary.videos, summary.shards, summary.images, summary.failures) == (5, 3, 32, [])
    return root


def data_set(root, lists, **options):
    class ToTensor:
        def __call__(self, images):
            return ToTorchFormatTensor(div=False)(Stack()(images))

    return TSNDataSet(root, lists, 4, image_tmpl="{:06d}.jpg", transform=options.pop("transform", ToTensor()), **options)


@pytest.mark.parametrize("data_format", ["auto", "shards"])
@pytest.mark.parametrize("fast", [False, True])
def test_clips_are_those_of_the_directories(directories, shards, tmp_path, data_format, fast):
    lists = write_list(tmp_path / "list.txt", VIDEOS)
    options = {"transform": TrainingCrop(GroupMultiScaleCrop(32, [1, .875]))} if fast else {}
    wanted = data_set(directories, lists, data_format="frames", **options)
    packed = data_set(shards, lists, data_format=data_format, **options)
    for i in range(len(VIDEOS)):
        (clip, label), (other, same) = wanted[0, i], packed[0, i]
        assert torch.equal(clip, other) and label == same


def test_workers_read_apart(directories, shards, tmp_path):
    """The parent reads first, so that its open files would be theirs too."""
    lists = write_list(tmp_path / "list.txt", {name: (count, 0) for name, (count, _) in VIDEOS.items()})

    def batches(root, workers):
        videos = data_set(root, lists)
        videos[0, 0]
        return [batch.clips for batch in make_loader(videos, 2, workers=workers, train=True, seed=1)]

    assert all(map(torch.equal, batches(shards, 2), batches(directories, 0)))


def test_flow_in_shards(tmp_path):
    make_frames(tmp_path / "flow", {"v": (4, 0)})
    for i in range(1, 5):
        for axis in "xy":
            (tmp_path / f"flow/v/flow_{axis}_{i:05d}.jpg").write_bytes((tmp_path / f"flow/v/{i:06d}.jpg").read_bytes())
    pack(tmp_path / "flow", tmp_path / "shards")
    lists = write_list(tmp_path / "list.txt", {"v": (4, 0)})
    clips = [TSNDataSet(root, lists, 2, 2, "Flow", "flow_{}_{:05d}.jpg", Stack(), random_shift=False)[0][0]
             for root in (tmp_path / "flow", tmp_path / "shards")]
    assert clips[0].shape[2] == 8 and (clips[0] == clips[1]).all()


def test_flow_of_numbered_videos_in_shards(tmp_path):
    """The published lists name video 78687 of this layout 78687, its directory is 078687."""
    template = "{:06d}-{}_{:05d}.jpg"
    make_frames(tmp_path / "flow", {"078687": (2, 0), "000004": (2, 0)})
    for directory in (tmp_path / "flow").iterdir():
        for i in (1, 2):
            for axis in "xy":
                shutil.copy(directory / f"{i:06d}.jpg", directory / template.format(int(directory.name), axis, i))
    lists = write_list(tmp_path / "list.txt", {"78687": (4, 0), "0004": (4, 0)})
    summary = pack(tmp_path / "flow", tmp_path / "shards", videos=["78687", "0004"])
    assert (summary.videos, summary.failures) == (2, [])
    for i in range(2):
        clips = [TSNDataSet(root, lists, 1, 2, "Flow", template, Stack(), random_shift=False)[i][0]
                 for root in (tmp_path / "flow", tmp_path / "shards")]
        assert clips[0].shape[2] == 4 and (clips[0] == clips[1]).all()
    with pytest.raises(UserError, match="flow video '²'.*the list must name them so"):
        make_source(tmp_path / "flow", template, modality="Flow", data_format="auto").load("²", [1])


def test_shards_are_ordinary_tar_files(directories, shards):
    names = {}
    for i in range(3):
        with tarfile.open(shards / SHARD.format(i)) as tar:
            names |= {member.name: tar.extractfile(member).read() for member in tar}
    assert names == {path.relative_to(directories).as_posix(): path.read_bytes() for path in directories.rglob("*.jpg")}


def content_of(directory):
    return {path.name: path.read_bytes() for path in directory.iterdir() if path.name != INDEX}


def killed_midway(frames, out):
    """Killed as soon as the first shard is there, while others are at work or waiting; False if it was over by then."""
    process = start("tools/make_shards.py", frames, out, "--videos_per_shard", 1, "-j", 2, stdout=subprocess.DEVNULL,
                    stderr=subprocess.DEVNULL)
    while process.poll() is None and not (out / SHARD.format(0)).exists():
        time.sleep(0.001)
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
    return process.wait() == -signal.SIGKILL and not all((out / SHARD.format(i)).exists() for i in range(30))


def test_killed_and_started_again_equals_an_undisturbed_run(tmp_path):
    frames = tmp_path / "frames"
    make_frames(frames, {f"v{i}": (20, 0) for i in range(30)}, size=(64, 48))
    killed = next(out for i in range(5) if killed_midway(frames, out := tmp_path / f"killed {i}"))
    assert not (killed / INDEX).exists()
    summary = pack(frames, killed, per_shard=1, workers=1)
    pack(frames, tmp_path / "undisturbed", per_shard=1, workers=1)
    assert 0 < summary.existing < 30 and summary.images == 600
    assert content_of(killed) == content_of(tmp_path / "undisturbed")
    assert pack(frames, killed, per_shard=1).existing == 30


def test_errors_name_the_file_and_what_to_do(directories, shards, tmp_path, monkeypatch, capfd):
    read = Shards(shards).read
    with pytest.raises(FileNotFoundError, match="not in the shards"):
        read(shards / "a b" / "000008.jpg")
    lists = write_list(tmp_path / "list.txt", {"a b": (70, 0)})
    with pytest.raises(UserError, match=r"missing frame: .*a b/0000.*jpg"):
        data_set(shards, lists)[0]
    with pytest.raises(UserError, match="no index.sqlite in"):
        Shards(directories)
    with pytest.raises(UserError, match=r"holds shards made with other settings \(per_shard 2 there, 3 now\)"):
        pack(directories, shards, per_shard=3)
    cut = tmp_path / "cut"
    pack(directories, cut)
    os.truncate(cut / SHARD.format(0), 2000)
    lists = write_list(tmp_path / "list.txt", VIDEOS)
    with pytest.raises(UserError, match="unreadable frame: .*shard-000000.tar is cut short"):
        [data_set(cut, lists)[i] for i in range(5)]
    (cut / INDEX).write_bytes(b"no data base, certainly, of any kind" * 100)
    with pytest.raises(UserError, match="index.sqlite is damaged"):
        data_set(cut, lists)[0]
    lists = write_list(tmp_path / "list.txt", {"a b": (7, 0), "gone": (3, 0)})
    done = run(monkeypatch, capfd, "tools.make_shards", directories, tmp_path / "some", "--list", lists)
    assert done.status == 2 and "failed: gone: no images" in done.err and "1 of 2 videos, 7 images" in done.out
    assert find_directories(directories) == sorted(VIDEOS)
    assert_refused(run(monkeypatch, capfd, "tools.make_shards", tmp_path / "none", tmp_path / "x"), "no such directory")


def test_main_trains_from_shards(tmp_path, monkeypatch, capfd):
    make_somethingv2(tmp_path)
    frames = tmp_path / "something/v2/20bn-something-something-v2-frames"
    assert run(monkeypatch, capfd, "tools.make_shards", frames, tmp_path / "shards").status == 0

    def losses(*more):
        done = run(monkeypatch, capfd, "main", "somethingv2", "RGB", "--shift", "--arch", "resnet18", "--num_segments", 2,
                   "--pretrain", "none", "--input_size", 32, "-b", 4, "-j", 0, "--debug", "--root_dataset", tmp_path,
                   "--root_log", tmp_path / "log", "--root_model", tmp_path / "model", *more)
        assert done.status == 0, done.err
        lines = [line.split("loss")[1] for line in (done.out + done.err).splitlines() if "loss" in line]
        return [re.sub(r" \([^()]* left\)$", "", line) for line in lines]

    assert losses("--root_path", tmp_path / "shards") == losses() != []


def test_checking_needs_the_directories(shards, tmp_path, monkeypatch, capfd):
    lists = write_list(tmp_path / "list.txt", VIDEOS)
    assert_refused(run(monkeypatch, capfd, "tools.check_dataset", lists, "--root_path", shards), "shards in", "--root_path")


# ---- names and links --------------------------------------------------------------------------------------------

def test_links_to_directories_are_packed(tmp_path):
    make_frames(tmp_path / "elsewhere", {"one": (2, 0), "class/two": (3, 0)})
    make_frames(tmp_path / "frames", {"own": (1, 0)})
    for link, target in (("one", "elsewhere/one"), ("again", "elsewhere/one"), ("class", "elsewhere/class"),
                         ("own/loop", "frames"), ("broken", "nowhere")):
        (tmp_path / "frames" / link).symlink_to(tmp_path / target)
    (tmp_path / "frames" / ".killed.partial-0123abcd").mkdir()
    (tmp_path / "frames" / ".killed.partial-0123abcd" / "000001.jpg").touch()
    assert find_directories(tmp_path / "frames") == ["again", "class/two", "one", "own"]
    assert pack(tmp_path / "frames", tmp_path / "shards", workers=1).images == 8
    read = Shards(tmp_path / "shards").read
    assert read(tmp_path / "shards/class/two/000003.jpg") == (tmp_path / "elsewhere/class/two/000003.jpg").read_bytes()


def test_names_that_lists_spell_differently_are_found(tmp_path):
    videos = {"./a": (2, 0), "b//c": (3, 0), "d/": (4, 0), "a": (2, 0)}
    make_frames(tmp_path / "frames", {"a": (2, 0), "b/c": (3, 0), "d": (4, 0)})
    lists = write_list(tmp_path / "list.txt", videos)
    summary = pack(tmp_path / "frames", tmp_path / "shards", videos=list(videos), workers=1)
    assert (summary.videos, summary.images, summary.failures) == (3, 9, [])
    clips = data_set(tmp_path / "shards", lists)
    wanted = data_set(tmp_path / "frames", lists)
    assert all(torch.equal(clips[0, i][0], wanted[0, i][0]) for i in range(4))


@pytest.mark.parametrize("name", ["../elsewhere/v", "a/../../v", "/v"])
def test_paths_that_lead_out_of_the_root_are_refused(tmp_path, monkeypatch, capfd, name):
    make_frames(tmp_path / "frames", {"a": (2, 0)})
    lists = write_list(tmp_path / "list.txt", {"a": (2, 0), name: (2, 0)})
    done = run(monkeypatch, capfd, "tools.make_shards", tmp_path / "frames", tmp_path / "shards", "--list", lists)
    assert_refused(done, name, "not below")
    assert not (tmp_path / "shards").exists()


def test_names_that_are_not_utf8_are_left_out_and_said(tmp_path, monkeypatch, capfd):
    make_frames(tmp_path / "frames", {"a": (2, 0), os.fsdecode(b"caf\xe9"): (2, 0)})
    done = run(monkeypatch, capfd, "tools.make_shards", tmp_path / "frames", tmp_path / "shards")
    assert done.status == 2 and "failed: caf\\udce9: its name is not UTF-8" in done.err and "1 of 2 videos" in done.out
    (tmp_path / "frames" / "a" / os.fsdecode(b"\xe9.jpg")).touch()
    done = run(monkeypatch, capfd, "tools.make_shards", tmp_path / "frames", tmp_path / "others", "-j", 1)
    assert_refused(done, "\\udce9.jpg: the name is not UTF-8")


# ---- errors -----------------------------------------------------------------------------------------------------

def test_a_target_whose_name_is_not_utf8(directories, tmp_path):
    target = tmp_path / os.fsdecode(b"caf\xe9 50%")
    status, out, err = finish(start("tools/make_shards.py", directories, target, "-j", 1))
    assert status == 0 and messages(err) == "" and r"--root_path " + str(tmp_path) + r"/caf\udce9 50%" in out, err
    name = next(path for path in directories.rglob("*.jpg")).relative_to(directories)
    assert Shards(target).read(target / name) == (directories / name).read_bytes()


def test_a_target_that_cannot_be_written_is_one_line(directories, tmp_path, monkeypatch, capfd):
    (tmp_path / "file").write_text("in the way")
    for target in (tmp_path / "file", tmp_path / "file" / "below", "/proc/shards"):
        assert_refused(run(monkeypatch, capfd, "tools.make_shards", directories, target), f"cannot write {target}")
    (tmp_path / "shards" / "shards.json").mkdir(parents=True)
    assert_refused(run(monkeypatch, capfd, "tools.make_shards", directories, tmp_path / "shards"), "cannot write")


def test_a_disk_that_is_full_when_the_index_is_written(tmp_path, monkeypatch, capfd):
    make_frames(tmp_path / "frames", {f"{n:03d}{'x' * 200}": (4, 0) for n in range(60)}, size=(16, 16))
    arguments = ["-j", 1]
    with small_disk(tmp_path / "disk", "100m") as disk:
        assert run(monkeypatch, capfd, "tools.make_shards", tmp_path / "frames", disk, *arguments).status == 0
        before = content_of(disk)
        (disk / INDEX).unlink()
        enlarge(disk, (sum(4096 + len(content) for content in before.values()) + 8192) // 4096 * 4096)
        done = run(monkeypatch, capfd, "tools.make_shards", tmp_path / "frames", disk, *arguments)
        assert_refused(done, f"cannot write {disk / INDEX}: ", "full")
        assert content_of(disk) == before  # no journal or half an index
        enlarge(disk, "100m")
        assert run(monkeypatch, capfd, "tools.make_shards", tmp_path / "frames", disk, *arguments).status == 0


@pytest.mark.parametrize("left", ["shards.json", SHARD.format(0)])
def test_incomplete_shards_are_not_taken_for_frames(directories, tmp_path, left, monkeypatch, capfd):
    lists = write_list(tmp_path / "list.txt", VIDEOS)
    pack(directories, tmp_path / "shards", workers=1)
    for file in (tmp_path / "shards").iterdir():
        if file.name != left:
            file.unlink()
    with pytest.raises(UserError, match="no index.sqlite in .*: start tools/make_shards.py to make .* or to complete them"):
        data_set(tmp_path / "shards", lists)[0]
    with pytest.raises(UserError, match="missing frame"):
        data_set(tmp_path / "shards", lists, data_format="frames")[0]
    done = run(monkeypatch, capfd, "tools.check_dataset", lists, "--root_path", tmp_path / "shards")
    assert_refused(done, "shards in", "--root_path")


def test_missing_shards_are_said_before_and_during_training(directories, tmp_path):
    lists = write_list(tmp_path / "list.txt", VIDEOS)
    pack(directories, tmp_path / "shards", per_shard=2, workers=1)
    videos = data_set(tmp_path / "shards", lists)
    (tmp_path / "shards" / SHARD.format(2)).unlink()
    with pytest.raises(UserError, match="unreadable frame: .*: the shard shard-000002.tar is missing in"):
        [videos[i] for i in range(5)]
    with pytest.raises(UserError, match="the shard shard-000002.tar is missing in .*shards, which should contain 3"):
        data_set(tmp_path / "shards", lists, data_format="shards")[0]


@pytest.mark.parametrize("change", [
    "UPDATE files SET shard = 'x'", "UPDATE files SET offset = -5", "UPDATE files SET size = NULL", "DROP TABLE files",
    "UPDATE files SET size = 1 << 60", "UPDATE files SET shard = 77", "UPDATE files SET offset = 1 << 40",
    "UPDATE files SET size = 0", "PRAGMA user_version = 2000000000", "UPDATE files SET shard = x'00'",
    "ALTER TABLE files RENAME COLUMN shard TO other"])
def test_a_tampered_index_is_one_line(directories, tmp_path, change):
    lists = write_list(tmp_path / "list.txt", VIDEOS)
    pack(directories, tmp_path / "shards", per_shard=2, workers=1)
    with contextlib.closing(sqlite3.connect(tmp_path / "shards" / INDEX)) as index:
        index.execute(change)
        index.commit()
    with refused("shard"):
        data_set(tmp_path / "shards", lists)[0]


@pytest.mark.parametrize("spoil", ["text", "link", "twice", "gzip"])
def test_a_shard_that_is_no_shard_is_one_line(directories, tmp_path, spoil):
    pack(directories, tmp_path / "shards", per_shard=2, workers=1)
    shard = tmp_path / "shards" / SHARD.format(1)
    (tmp_path / "shards" / INDEX).unlink()
    if spoil == "gzip":
        shard.write_bytes(gzip.compress(shard.read_bytes()))
    elif spoil == "text":
        shard.write_bytes(b"no tar file" * 999)
    elif spoil == "twice":
        shutil.copy(tmp_path / "shards" / SHARD.format(0), shard)
    else:
        with tarfile.open(shard, "a") as tar:
            member = tarfile.TarInfo("a/000001.jpg")
            member.type, member.linkname = tarfile.SYMTYPE, "/etc/passwd"
            tar.addfile(member)
    with refused("shard-000001.tar", "delete it and start again"):
        pack(directories, tmp_path / "shards", per_shard=2, workers=1)
