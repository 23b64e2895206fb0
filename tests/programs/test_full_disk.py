"""A full disk ends every program that prepares data in one line; with room again, the result is that of another disk."""
import os
import resource
import subprocess
import sys

import numpy as np
import pytest

from ops import dataset_config
from tests.conftest import ROOT
from tests.helpers.clips import clip, encode
from tests.helpers.disks import enlarge, small_disk
from tests.helpers.files import tree
from tests.helpers.programs import assert_refused, make_frames, run

LABELS = ("waving", "clapping", "nodding")
# program -> its arguments, with {src} for the videos, {frames} for the frame directories, {out} for where it writes
PROGRAMS = {
    "tools.make_dataset": "{src} mine --extract --height 64 -j 1 --out {out}/mine --dataset_file {out}/own.yaml",
    "tools.vid2img_kinetics": "{src} {out}/frames --height 64 -j 1",
    "tools.extract_flow": "{frames} {out}/flow --frames --height 64 -j 1",
    "tools.make_shards": "{frames} {out}/shards --videos_per_shard 1 -j 1",
    "tools.make_gestures": "--out {out}/gestures --videos 8 --size 64x64 -j 1",
}


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Videos of noise in a directory per class, and frame directories."""
    base = tmp_path_factory.mktemp("data")
    rng = np.random.default_rng(0)
    for label in LABELS:
        (base / "src" / label).mkdir(parents=True)
        for name in "abc":
            encode(base / "src" / label / f"{name}.mp4", list(rng.integers(0, 255, (10, 64, 96, 3), np.uint8)))
    make_frames(base / "frames", {f"v{number}": (10, 0) for number in range(6)}, size=(96, 64))
    return base


@pytest.fixture(autouse=True)
def isolated(tmp_path, monkeypatch):
    monkeypatch.setenv("TSM_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(dataset_config, "DATASET_FILE", tmp_path / "default.yaml")


def arguments(program, data, out):
    return PROGRAMS[program].format(src=data / "src", frames=data / "frames", out=out).split()


@pytest.mark.parametrize("program", PROGRAMS)
def test_a_full_disk_is_no_videos_fault_and_a_larger_one_resumes(data, tmp_path, monkeypatch, capfd, program):
    (tmp_path / "other").mkdir()
    assert run(monkeypatch, capfd, program, *arguments(program, data, tmp_path / "other")).status == 0
    whole = tree(tmp_path / "other")
    with small_disk(tmp_path / "disk", sum(map(len, whole.values())) // 2) as disk:
        done = run(monkeypatch, capfd, program, *arguments(program, data, disk))
        assert_refused(done, "cannot write", "No space left on device")
        assert not done.out and "left out" not in done.err and "failed" not in done.err
        assert not [name for name in tree(disk) if "partial" in name]
        assert not (disk / "own.yaml").exists()
        enlarge(disk, "100m")
        assert run(monkeypatch, capfd, program, *arguments(program, data, disk)).status == 0
        found = tree(disk)
    assert set(found) == set(whole)
    assert {name for name in whole if found[name] != whole[name]} <= {"own.yaml"}


@pytest.mark.parametrize("program", PROGRAMS)
def test_a_limit_on_the_size_of_files_is_no_videos_fault(data, tmp_path, program):
    """Several processes, which cannot write a file of more than 600 bytes."""
    command = [arg.replace("1", "2") if before == "-j" else arg for before, arg in
               zip(["", *arguments(program, data, tmp_path / "out")], arguments(program, data, tmp_path / "out"))]
    limit = (600, resource.getrlimit(resource.RLIMIT_FSIZE)[1])
    done = subprocess.run([sys.executable, ROOT / "tools" / f"{program.removeprefix('tools.')}.py", *command],
                          preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, limit), cwd=ROOT, text=True,
                          capture_output=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
    assert done.returncode == 2 and "Traceback" not in done.stderr, done
    assert done.stderr.splitlines()[-1].count(": error: ") == 1 and "File too large" in done.stderr, done
    assert not done.stdout and "left out" not in done.stderr and "failed" not in done.stderr
    assert not (tmp_path / "out" / "own.yaml").exists()


def test_a_cache_that_cannot_be_written_does_not_matter(tmp_path, monkeypatch, capfd):
    for label in LABELS:
        (tmp_path / "src" / label).mkdir(parents=True)
        for name in "ab":
            clip(tmp_path / "src" / label / f"{name}.mp4", 9)
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("TSM_CACHE", str(tmp_path / "file" / "cache"))
    assert run(monkeypatch, capfd, "tools.make_dataset", tmp_path / "src", "mine", "--split-by", "file", "--dataset_file",
               tmp_path / "own.yaml").status == 0
    with small_disk(tmp_path / "disk", 4096) as disk:
        (disk / "full").write_bytes(bytes(4096))
        monkeypatch.setenv("TSM_CACHE", str(disk / "cache"))
        assert run(monkeypatch, capfd, "tools.check_dataset", "mine", "--dataset_file", tmp_path / "own.yaml",
                   "--ignore", "duplicate,leak,label").status == 0
