"""--part: the parts of a job array leave the files that one run leaves, at the same time, in turn, and after a kill."""
import json
import os
import shutil
import signal
import sqlite3
import time

import numpy as np
import pytest

from tests.helpers.classifier import make_classifier
from tests.helpers.clips import clip, encode
from tests.helpers.files import tree
from tests.helpers.processes import finish, messages, ranks, start
from tests.helpers.programs import make_frames, run

PARTS = 3
PREDICT = "tools/predict.py"
LONG = "a name so long that its temporary directory gets a shortened one"


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """What the programs read: videos, one of them broken, videos by class, and frames."""
    root = tmp_path_factory.mktemp("source")
    rng = np.random.default_rng(0)
    for directory in ("videos", "classes/a", "classes/b"):
        (root / directory).mkdir(parents=True)
        for name in ("1", "2", "3", f"{LONG} 1", f"{LONG} 2"):
            encode(root / directory / f"{name}.mp4", list(rng.integers(0, 255, (12, 32, 48, 3), np.uint8)))
    (root / "videos" / "broken.mp4").write_bytes(b"no video")
    make_frames(root / "frames", {f"v{i}": (3 + i, 0) for i in range(7)})
    (root / "frames" / "v2").rename(root / "frames" / "w")
    (root / "list.txt").write_text("".join(f"v{i} {3 + i} 0\n" for i in range(7)))  # v2 has no frames
    return root


PROGRAMS = {  # program -> its arguments, the number of parts that fail
    "vid2img_sthv2": ("{source}/videos {out} --height 32 -j 1", 1),
    "vid2img_kinetics": ("{source}/classes {out} --height 32 -j 1", 0),
    "extract_flow": ("{source}/videos {out} --layout rgb --height 32 -j 1", 1),
    "make_shards": ("{source}/frames {out} --list {source}/list.txt --videos_per_shard 1 -j 1", 1),
}


def begin(program, source, out, *more):
    arguments = PROGRAMS[program][0].split()
    return start(f"tools/{program}.py", *(word.format(source=source, out=out) for word in arguments), *more)


def part(program, source, out, number, count=PARTS):
    return begin(program, source, out, "--part", f"{number}/{count}")


def rows(directory):
    """The files of a directory, with the content of an index in place of its bytes."""
    files = tree(directory)
    if "index.sqlite" in files:
        with sqlite3.connect(directory / "index.sqlite") as index:
            files["index.sqlite"] = (index.execute("SELECT * FROM files").fetchall(),
                                     index.execute("PRAGMA user_version").fetchall())
    return files


@pytest.fixture(scope="module")
def whole(source, tmp_path_factory):
    """What one run of each program leaves."""
    outs = {program: tmp_path_factory.mktemp(program) for program in PROGRAMS}
    ended = {program: finish(begin(program, source, out)) for program, out in outs.items()}
    assert {program: status for program, (status, _, _) in ended.items()} == {
        program: 2 * failing for program, (_, failing) in PROGRAMS.items()}, ended
    return {program: rows(out) for program, out in outs.items()}


@pytest.mark.parametrize("program", PROGRAMS)
def test_parts_at_the_same_time_equal_one_run(program, source, whole, tmp_path):
    out = tmp_path / "out"
    ended = [finish(process) for process in [part(program, source, out, number) for number in (1, 2, 3)]]
    assert rows(out) == whole[program]
    statuses = [status for status, _, _ in ended]
    assert sorted(statuses) == [0] * (PARTS - PROGRAMS[program][1]) + [2] * PROGRAMS[program][1], ended
    assert all(text.startswith(f"part {number}/3: ") for number, (_, text, _) in enumerate(ended, 1))


@pytest.mark.parametrize("program", PROGRAMS)
def test_parts_in_turn_equal_one_run(program, source, whole, tmp_path):
    out = tmp_path / "out"
    for number in (3, 1, 2):
        assert not rows(out) == whole[program]
        finish(part(program, source, out, number))
    assert rows(out) == whole[program]
    again = finish(part(program, source, out, 1))  # finds everything done
    assert rows(out) == whole[program] and "Traceback" not in again[2]


def test_more_parts_than_work(source, whole, tmp_path):
    for number in range(1, 9):
        status, text, err = finish(part("make_shards", source, tmp_path, number, 8))
        assert status == (2 if "failed" in err else 0), err
    assert text.startswith("part 8/8: 0 of 0 videos") and rows(tmp_path) == whole["make_shards"]


@pytest.mark.parametrize("program, begun", [("vid2img_sthv2", ".*partial-*/000*.jpg"), ("make_shards", "*.tar")])
def test_a_killed_part_runs_again_while_others_work(program, begun, tmp_path):
    source = tmp_path / "source"
    rng = np.random.default_rng(0)
    (source / "videos").mkdir(parents=True)
    for number in range(9):
        encode(source / "videos" / f"{number}.mp4", list(rng.integers(0, 255, (60, 64, 96, 3), np.uint8)))
    make_frames(source / "frames", {f"v{i}": (40, 0) for i in range(20)}, size=(120, 90))
    (source / "list.txt").write_text("".join(f"v{i} 40 0\n" for i in range(20)))
    for attempt in range(5):
        out = tmp_path / f"attempt {attempt}"
        victim = part(program, source, out, 1)
        while victim.poll() is None and not list(out.glob(begun)):
            time.sleep(0.001)
        os.killpg(victim.pid, signal.SIGKILL)
        if finish(victim)[0] == -signal.SIGKILL:
            break
    assert [path.name for path in out.glob(".part-*")] == [".part-1-of-3.lock"]
    others = [part(program, source, out, number) for number in (2, 3)]
    again = part(program, source, out, 1)
    for process in (*others, again):
        status, _, err = finish(process)
        assert status == 0, err
    assert finish(begin(program, source, tmp_path / "whole"))[0] == 0
    assert rows(out) == rows(tmp_path / "whole")


def test_frames_of_another_program_are_refused_by_every_part(tmp_path):
    """Also by a part whose own videos have no frames, or the next part would take the others for its own."""
    for name in "ab":
        (tmp_path / "videos").mkdir(exist_ok=True)
        clip(tmp_path / "videos" / f"{name}.mp4", 3)
    (tmp_path / "out" / "a").mkdir(parents=True)
    (tmp_path / "out" / "a" / "000001.jpg").touch()
    for number in (2, 1):
        status, _, err = finish(start("tools/vid2img_sthv2.py", tmp_path / "videos", tmp_path / "out", "--part",
                                      f"{number}/2"))
        assert status == 2 and "holds frames of 1 of these videos, made by another program" in err


def test_parts_with_other_settings_are_refused(source, tmp_path):
    assert finish(part("vid2img_kinetics", source, tmp_path, 1))[0] == 0
    status, _, err = finish(begin("vid2img_kinetics", source, tmp_path, "--part", "2/3", "--height", 40))
    assert status == 2 and "made with other settings (height 32 there, 40 now)" in err


def test_flow_lists_are_written_by_a_run_without_part(source, tmp_path):
    frames = ["tools/extract_flow.py", source / "frames", tmp_path / "flow", "--frames", "--height", 0, "-j", 1, "--list",
              source / "list.txt", tmp_path / "flow.txt"]
    for number in (1, 2):
        status, text, err = finish(start(*frames, "--part", f"{number}/2"))
        assert status == 0 and "lists: not written by a part" in text and not (tmp_path / "flow.txt").exists(), err
    status, text, err = finish(start(*frames))
    assert status == 2 and "7 already there" in text and "v2" in err
    assert (tmp_path / "flow.txt").read_text().split("\n")[0] == "v0 2 0"


# ---- results of parts -------------------------------------------------------------------------------------------

@pytest.fixture(scope="module")
def checked(tmp_path_factory):
    """Two lists with a fault of every kind that concerns several videos, and one damaged video."""
    root = tmp_path_factory.mktemp("checked")
    make_frames(root, {f"v{i}": (9 + i % 2, i % 2) for i in range(9)}, size=(120, 90))
    shutil.copytree(root / "v0", root / "copy")
    (root / "v4" / "000005.jpg").write_bytes(b"")
    shutil.copy(root / "v1" / "000010.jpg", root / "v7" / "000011.jpg")
    (root / "train.txt").write_text("".join(f"v{i} {9 + i % 2} {i % 2}\n" for i in range(7)) + "no line\nv1 10 1\n")
    (root / "val.txt").write_text("copy 9 0\nv7 10 1\nv8 9 0\ngone 9 1\n")
    return root


@pytest.mark.parametrize("at_once", [True, False])
def test_the_last_part_of_a_check_reports_what_one_run_reports(at_once, checked, tmp_path):
    argv = ["tools/check_dataset.py", checked / "train.txt", checked / "val.txt", "-j", 1, "--num_class", 2, "--json"]
    whole = finish(start(*argv, "--fix", tmp_path / "whole.txt"))
    kinds = {finding["kind"] for finding in json.loads(whole[1])["findings"]}
    assert whole[0] == 2 and {"line", "duplicate", "leak", "missing", "count", "empty"} <= kinds, kinds
    parts = [[*argv, "--fix", tmp_path / "parts.txt", "--part", f"{number}/3", "--results", tmp_path / "results"]
             for number in (2, 3, 1)]
    ended = ([finish(process) for process in [start(*part) for part in parts]] if at_once else
             [finish(start(*part)) for part in parts])
    reports = [text for _, text, _ in ended if text.startswith("{")]
    assert reports == [whole[1]], ended
    assert sum(" videos inspected, " in text for _, text, _ in ended) == 2
    for name in ("train", "val"):
        assert (tmp_path / f"parts_{name}.txt").read_text() == (tmp_path / f"whole_{name}.txt").read_text()
    assert sorted(path.name for path in (tmp_path / "results").iterdir()) == [
        "part-1-of-3.json", "part-2-of-3.json", "part-3-of-3.json", "parts.json"]


def test_a_part_of_a_check_that_is_missing_or_damaged_runs_again_alone(checked, tmp_path):
    argv = ["tools/check_dataset.py", checked / "val.txt", "-j", 1, "--results", tmp_path]
    assert "without results in" in finish(start(*argv, "--part", "2/2"))[1]
    (tmp_path / "part-2-of-2.json").write_text("{")
    status, _, err = finish(start(*argv, "--part", "1/2"))
    assert status == 2 and "part-2-of-2.json is damaged" in err and "run that part again" in err
    status, text, err = finish(start(*argv, "--part", "2/2"))
    assert text == finish(start(*argv[:-2]))[1], err
    status, _, err = finish(start(*argv, "--part", "1/3"))
    assert status == 2 and "holds results made with other settings (parts 2 there, 3 now)" in err


@pytest.fixture(scope="module")
def predicted(tmp_path_factory):
    """Five videos, one of them broken, and weights: the arguments of tools/predict.py."""
    root = tmp_path_factory.mktemp("predicted")
    for number in range(5):
        clip(root / f"{number}.mp4", 5 + 9 * number)
    (root / "2.mp4").write_bytes(b"no video")
    weights = make_classifier(root / "weights.pth.tar")
    return [root, root / "gone", root / "4.mp4", "--weights", weights, "--device", "cpu", "-j", 0]


@pytest.mark.parametrize("more", [["--json"], [], ["--window", 0.5, "--json"]])
def test_the_last_part_of_a_prediction_prints_what_one_run_prints(more, predicted, tmp_path, monkeypatch, capfd):
    def predict(*flags):
        done = run(monkeypatch, capfd, "tools.predict", *predicted, *more, *flags)
        return done._replace(err=messages(done.err))
    whole = predict()
    assert whole[0] == 2 and whole[2].count("failed: ") == 2, whole[2]
    ended = [predict("--part", f"{number}/3", "--results", tmp_path) for number in (3, 1, 2)]
    assert ended[-1] == whole
    assert [text.split(";")[0] for _, text, _ in ended[:2]] == ["part 3/3: 2 videos", "part 1/3: 3 videos"]
    status, _, err = predict("--part", "1/3", "--results", tmp_path, "--topk", 2)
    assert status == 2 and "made with other settings (topk 5 there, 2 now)" in err


@pytest.mark.parametrize("processes, more", [(3, []), (2, ["--window", 0.5, "--json"])])
def test_the_processes_of_a_run_answer_together(processes, more, predicted, monkeypatch, capfd):
    whole = run(monkeypatch, capfd, "tools.predict", *predicted, *more)
    together = ranks(processes, PREDICT, *predicted, *more)
    assert together[1] == whole[1]
    failures = [[line for line in err.splitlines() if line.startswith("failed: ")] for _, _, err in (whole, together)]
    assert failures[0] == failures[1] and len(failures[0]) == 2


def test_an_answer_that_cannot_be_printed_is_no_fault_of_the_results(predicted, checked, tmp_path):
    check = ["tools/check_dataset.py", checked / "val.txt", "-j", 1]
    for name, argv in {"predict": [PREDICT, *predicted], "check": check}.items():
        argv = [*argv, "--results", tmp_path / name, "--part"]
        finish(start(*argv, "2/2"))
        with open("/dev/full", "w") as full:
            status, _, err = finish(start(*argv, "1/2", stdout=full))
        assert status == 2 and err.splitlines()[-1].endswith(
            "error: cannot write standard output: No space left on device"), err
        process = start(*argv, "1/2")
        process.stdout.close()  # as `| head` does
        assert "cannot write" not in process.stderr.read() and process.wait(240) == 0


def test_parts_need_a_directory_for_their_results(predicted, checked):
    for argv in ([PREDICT, *predicted], ["tools/check_dataset.py", checked / "val.txt"]):
        status, _, err = finish(start(*argv, "--part", "1/2"))
        assert status == 2 and "error: --part needs --results: the directory where the parts put their" in err
