"""Lists, csv files, yaml files and links that nobody would write: a result, or one line; never a traceback or an escape."""
import sys

import pytest

from ops import dataset_config
from tests.helpers.clips import clip
from tests.helpers.programs import assert_refused, make_frames, run

LABELS = ("one", "two")
LISTS = {"NUL": b"v0 9 0\nv\x001 9 1\n", "not UTF-8": b"v\xe9 9 0\nv1 9 1\n", "UTF-16": "v0 9 0\n".encode("utf-16"),
         "long": b"v" * 100000 + b" 9 0\nv1 9 1\n", "long video": b"v" * 100000 + b".mp4 9 0\nv1 9 1\n",
         "escape": b"v\x1b[31m 9 0\nv1 9 1\n", "no path": b" 9 0\n", "only a mark": b"\xef\xbb\xbf"}
FINE = {"CRLF": b"v0 9 0\r\nv1 9 1\r\n", "byte order mark": b"\xef\xbb\xbfv0 9 0\nv1 9 1\n",
        "CR": b"v0 9 0\rv1 9 1\r"}
ENTRY = "train_list: l.txt, val_list: l.txt, num_class: 2"
YAML = {
    "aliases": "a: &a [x, x]\n" + "".join(
        f"{b}: &{b} [{', '.join([f'*{a}'] * 9)}]\n" for a, b in zip("abcdefgh", "bcdefghi")),
    "call": 'x: !!python/object/apply:os.system ["touch {pwned}"]',
    "root called": "x: {{root: !!python/object/apply:os.getcwd [], " + ENTRY + "}}",
    "name": "x: {{root: !!python/name:os.getcwd '', " + ENTRY + "}}", "deep": "x: " + "[" * 5000,
    "deep maps": "{{a: " * 3000, "no such user": "x: {{root: ~nosuchuser/x, " + ENTRY + "}}", "in itself": "&x {{x: *x}}",
    "NUL": 'x: {{root: "a\\0b", ' + ENTRY + "}}", "surrogate": 'x: {{root: "\\uD800", ' + ENTRY + "}}",
    "long": "x: {{root: " + "y" * 5000 + ", " + ENTRY + "}}",
    "list": "- x", "text": "hello", "documents": "---\nx: 1\n---\n",
    "merged": "b: &b {{root: ., " + ENTRY + "}}\nx:\n  <<: *b\n", "control": "x: \0"}


@pytest.fixture(autouse=True)
def isolated(tmp_path, monkeypatch):
    monkeypatch.setenv("TSM_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(dataset_config, "DATASET_FILE", tmp_path / "default.yaml")


@pytest.fixture
def frames(tmp_path):
    make_frames(tmp_path / "f", {"v0": (9, 0), "v1": (9, 1)})
    return tmp_path / "f"


def commands(frames, file, out):
    yield "tools.check_dataset", [file, "--root_path", frames, "-j", 1]
    yield "tools.make_shards", [frames, out / "shards", "--list", file, "-j", 1]
    yield "tools.extract_flow", [frames, out / "flow", "--frames", "--height", 0, "-j", 1, "--list", file, out / "flow.txt"]


@pytest.mark.parametrize("name", LISTS)
def test_hostile_lists(frames, tmp_path, monkeypatch, capfd, name):
    (tmp_path / "l.txt").write_bytes(LISTS[name])
    for program, arguments in commands(frames, tmp_path / "l.txt", tmp_path):
        done = run(monkeypatch, capfd, program, *arguments)
        assert done.status == 2 and "Traceback" not in done.err, (program, done)
        assert "\x1b" not in done.out + done.err and "\0" not in done.out + done.err, (program, done)


@pytest.mark.parametrize("name", FINE)
def test_lists_of_other_systems(frames, tmp_path, monkeypatch, capfd, name):
    (tmp_path / "l.txt").write_bytes(FINE[name])
    for program, arguments in commands(frames, tmp_path / "l.txt", tmp_path):
        done = run(monkeypatch, capfd, program, *arguments)
        assert done.status == 0, (program, done)
    assert (tmp_path / "flow.txt").read_text() == "v0 8 0\nv1 8 1\n"


@pytest.mark.parametrize("name", YAML)
def test_hostile_yaml(tmp_path, monkeypatch, capfd, name):
    text = YAML[name].format(pwned=tmp_path / "pwned")
    (tmp_path / "own.yaml").write_text(text)
    (tmp_path / "l.txt").write_text("v0 9 0\n")
    assert_refused(run(monkeypatch, capfd, "tools.check_dataset", "x", "--dataset_file", tmp_path / "own.yaml"))
    for label in LABELS:
        (tmp_path / "v" / label).mkdir(parents=True)
        for video in "ab":
            clip(tmp_path / "v" / label / f"{video}.mp4", 9)
    done = run(monkeypatch, capfd, "tools.make_dataset", tmp_path / "v", "new", "--split-by", "file", "--dataset_file",
               tmp_path / "own.yaml")
    assert done.status == 0 or not assert_refused(done)
    assert (tmp_path / "own.yaml").read_text().startswith(text)
    assert not (tmp_path / "pwned").exists()


def test_csv_files_with_null_bytes_and_escapes(tmp_path, monkeypatch, capfd):
    for label in LABELS:
        (tmp_path / "v" / label).mkdir(parents=True)
        for video in "ab":
            clip(tmp_path / "v" / label / f"{video}.mp4", 9)

    def make(label):
        (tmp_path / "t.csv").write_text("".join(f"{name}/{video}.mp4,{label if name == 'one' else 'z'}\n"
                                                for name in LABELS for video in "ab"))
        return run(monkeypatch, capfd, "tools.make_dataset", tmp_path / "v", "mine", "--csv", tmp_path / "t.csv",
                   "--split-by", "file", "--dataset_file", tmp_path / "own.yaml")

    # Before 3.11, Python's csv reader refuses the byte itself.
    assert_refused(make("x\0y"), "cannot be written to a list" if sys.version_info >= (3, 11) else "line contains NUL")
    done = make("x\x1b[31my")
    assert done.status == 0 and "\x1b" not in done.out + done.err and "x\\x1b[31my" in done.out


def test_links_to_themselves_are_no_directories(frames, tmp_path, monkeypatch, capfd):
    for label in LABELS:
        (tmp_path / "v" / label).mkdir(parents=True)
        for video in "ab":
            clip(tmp_path / "v" / label / f"{video}.mp4", 9)
    for directory in (frames, tmp_path / "v", tmp_path / "v" / "one"):
        (directory / "loop").symlink_to("loop")
        (directory / "loop.mp4").symlink_to("loop.mp4")
    done = run(monkeypatch, capfd, "tools.make_dataset", tmp_path / "v", "mine", "--split-by", "file", "--dataset_file",
               tmp_path / "own.yaml")
    assert done.status == 2 and "left out: one/loop.mp4: " in done.err and "lists of 2 + 2 videos" in done.out
    done = run(monkeypatch, capfd, "tools.vid2img_kinetics", tmp_path / "v", tmp_path / "frames", "-j", 1)
    assert done.status == 2 and "failed: one/loop.mp4: " in done.err and done.out.startswith("5 videos: 4 extracted")
    for program, arguments in (("tools.make_shards", [frames, tmp_path / "shards"]),
                               ("tools.extract_flow", [frames, tmp_path / "flow", "--frames", "--height", 0, "-j", 1])):
        assert run(monkeypatch, capfd, program, *arguments).status == 0
