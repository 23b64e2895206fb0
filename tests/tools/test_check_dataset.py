"""tools/check_dataset.py: it finds each fault and nothing else, and leaves the bad videos out of the clean list."""
import json
import shutil

import numpy as np
import pytest
from PIL import Image

from ops import dataset_config
from ops.data.list_files import read_list
from ops.dataset_config import resolve_dataset
from ops.prepare.inspect_video import inspect_video
from tests.helpers.clips import clip, real_video
from tests.helpers.programs import assert_refused, make_frames, make_somethingv2, run, write_list


@pytest.fixture(autouse=True)
def isolated(tmp_path, monkeypatch):
    """The user's datasets.yaml and cache are not used."""
    monkeypatch.setenv("TSM_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(dataset_config, "DATASET_FILE", tmp_path / "default.yaml")


def check(monkeypatch, capfd, *argv):
    return run(monkeypatch, capfd, "tools.check_dataset", *argv, "-j", 2)


def found(monkeypatch, capfd, *argv):
    """(status, {(line, kind): detail}) by --json."""
    done = check(monkeypatch, capfd, *argv, "--json")
    report = json.loads(done.out)
    assert report["clean"] == (not report["findings"]) == (done.status == 0)
    assert sum(report["counts"].values()) == len(report["findings"])
    return done.status, {(f"{f['list']}:{f['line']}", f["kind"]): f["detail"] for f in report["findings"]}


def frames(tmp_path, count=3, length=9):
    """Good videos v0, v1, ... and their list."""
    make_frames(tmp_path / "f", {f"v{i}": (length, 0) for i in range(count)})
    return write_list(tmp_path / "list.txt", {f"v{i}": (length, i % 2) for i in range(count)})


def recode(file, mode, **options):
    with Image.open(file) as image:
        changed = image.convert(mode)
    changed.save(file, **options)


FAULTS = {
    "missing": (lambda v: shutil.rmtree(v), "no directory"),
    "empty": (lambda v: [file.unlink() for file in v.iterdir()], "no images"),
    "empty frame": (lambda v: (v / "000005.jpg").write_bytes(b""), "000005.jpg has no bytes"),
    "truncated": (lambda v: (v / "000009.jpg").write_bytes((v / "000009.jpg").read_bytes()[:-300]), "000009.jpg"),
    "unreadable": (lambda v: (v / "000001.jpg").write_bytes(b"no image" * 50), "000001.jpg: cannot identify"),
    "gap": (lambda v: (v / "000004.jpg").unlink(), "000004.jpg is missing, but the directory has 8 frames"),
    "count": (lambda v: (v / "000009.jpg").unlink(), "the list has 9 frames, the video 8"),
    "count more": (lambda v: shutil.copy(v / "000001.jpg", v / "000010.jpg"), "the list has 9 frames, the video 10"),
    "short": (lambda v: [(v / f"{i:06d}.jpg").unlink() for i in range(8, 10)], "7 frames, fewer than 8"),
    "color": (lambda v: recode(v / "000005.jpg", "L"), "000005.jpg is grayscale"),
    "color cmyk": (lambda v: recode(v / "000009.jpg", "CMYK"), "000009.jpg is CMYK"),
    "color rgba": (lambda v: recode(v / "000001.jpg", "RGBA", format="PNG"), "000001.jpg is RGBA"),
    "sizes": (lambda v: Image.new("RGB", (50, 40)).save(v / "000009.jpg"), "48x40 and of 50x40"),
    "missing names": (lambda v: [f.rename(v / f"img_{f.name}") for f in v.iterdir()], "the first is img_000001.jpg"),
}


def from_zero(directory):
    for file in sorted(directory.iterdir()):
        file.rename(directory / f"{int(file.stem) - 1:06d}.jpg")


@pytest.mark.parametrize("name", [*FAULTS, "index_base"])
def test_each_fault_of_a_frame_directory_is_the_only_finding(tmp_path, monkeypatch, capfd, name):
    file = frames(tmp_path)
    damage, words = FAULTS.get(name, (from_zero, "its first frame is 000000.jpg"))
    damage(tmp_path / "f" / "v1")
    status, findings = found(monkeypatch, capfd, file, "--root_path", tmp_path / "f")
    kind = name.split(" ")[0]
    wanted = {("list:2", kind)} | ({("list:2", "count")} if kind == "short" else set())
    assert status == 2 and set(findings) == wanted
    assert words in findings["list:2", kind]


def test_only_a_full_check_decodes_every_frame(tmp_path, monkeypatch, capfd):
    file = frames(tmp_path)
    (tmp_path / "f" / "v1" / "000003.jpg").write_bytes(b"")
    assert found(monkeypatch, capfd, file, "--root_path", tmp_path / "f") == (0, {})
    assert set(found(monkeypatch, capfd, file, "--root_path", tmp_path / "f", "--full")[1]) == {("list:2", "empty")}


def test_faults_of_video_files(tmp_path, monkeypatch, capfd):
    for name in ("a.mp4", "b.webm", "cut.mkv", "d.avi", "gray.mp4"):
        clip(tmp_path / name, 12)
    whole = (tmp_path / "cut.mkv").read_bytes()
    (tmp_path / "cut.mkv").write_bytes(whole[:len(whole) // 2])
    (tmp_path / "void.mp4").touch()
    (tmp_path / "text.mp4").write_text("words")
    shutil.copy(real_video("bikes.mp4"), tmp_path)
    (tmp_path / "l.txt").write_text("a.mp4 0\nb.webm 12 0\ncut.mkv 12 0\nd.avi 11 0\nvoid.mp4 0\ntext.mp4 0\n"
                                    "gone.mp4 0\nbikes.mp4 250 0\n")
    status, findings = found(monkeypatch, capfd, tmp_path / "l.txt")
    assert status == 2
    # clips a, b and d have the same images, but lossy codecs store them differently
    assert {key: detail for key, detail in findings.items() if key[1] != "duplicate"} == {
        ("l:3", "truncated"): findings["l:3", "truncated"], ("l:5", "empty"): "the file is empty",
        ("l:4", "count"): "the list has 11 frames, the video 12", ("l:7", "missing"): f"no file {tmp_path}/gone.mp4",
        ("l:6", "unreadable"): findings["l:6", "unreadable"]}
    assert "truncated" in findings["l:3", "truncated"]


def test_labels_outside_the_classes_or_against_the_directory_name(tmp_path, monkeypatch, capfd):
    make_frames(tmp_path, {f"{name}/v": (9, 0) for name in ("pick_up", "Put Down", "other", "x")})
    (tmp_path / "category.txt").write_text("pick up\nput down\n")
    (tmp_path / "l.txt").write_text("pick_up/v 9 0\nPut Down/v 9 0\nother/v 9 2\nx/v 9 -1\n")
    flags = [tmp_path / "l.txt", "--categories", tmp_path / "category.txt"]
    assert found(monkeypatch, capfd, *flags) == (2, {
        ("l:2", "label"): "label 0 is 'pick up', but the directory is 'put down' (1)",
        ("l:3", "label"): "label 2 is outside the classes 0 to 1",
        ("l:4", "label"): "label -1 is outside the classes 0 to 1"})
    (tmp_path / "l.txt").write_text("other/v 9 1\nx/v 9 2\n")
    assert found(monkeypatch, capfd, *flags)[1] == {
        ("l:2", "label"): "label 2 is outside the classes 0 to 1: the list numbers classes from 1, it must number them"
                          " from 0"}


def test_directories_that_look_the_same_with_other_labels(tmp_path, monkeypatch, capfd):
    videos = {"caf\u00e9/a": (9, 0), "cafe\u0301/b": (9, 1), "cafe\u0301/c": (9, 0), "tea/d": (9, 1)}
    make_frames(tmp_path, videos)
    file = write_list(tmp_path / "l.txt", videos)
    status, findings = found(monkeypatch, capfd, file)
    assert status == 2 and set(findings) == {("l:2", "label")}
    assert "l:1 has label 0 in a directory of the same name" in findings["l:2", "label"]


def test_copies_within_a_list_and_across_lists(tmp_path, monkeypatch, capfd):
    for i in range(8):
        make_frames(tmp_path, {f"v{i}": (9, i % 2)}, seed=i)
    for copy, original in (("copy of 0", "v0"), ("copy of 2", "v2"), ("copy of 3", "v3")):
        shutil.copytree(tmp_path / original, tmp_path / copy)
    for directory in ("dark 1", "dark 2"):  # images of a single color identify no video
        (tmp_path / directory).mkdir()
        for i in range(1, 10):
            Image.new("RGB", (48, 40)).save(tmp_path / directory / f"{i:06d}.jpg")
    train = ["v0 9 0", "v1 9 1", "copy of 0 9 0", "v2 9 0", "v3 9 1", "v4 9 0", "v4 9 0", "v5 9 1", "v5 9 0",
             "dark 1 9 0"]
    (tmp_path / "train.txt").write_text("\n".join(train))
    (tmp_path / "val.txt").write_text("v1 9 1\ncopy of 2 9 0\ncopy of 3 9 0\nv6 9 0\ndark 2 9 1\n")
    flags = [tmp_path / "train.txt", tmp_path / "val.txt"]
    assert found(monkeypatch, capfd, *flags) == (2, {
        ("train:3", "duplicate"): "has the same first and middle frame as train:1 v0",
        ("train:7", "duplicate"): "is also in train:6", ("train:9", "duplicate"): "is also in train:8",
        ("train:8", "label"): "label 1, but train:9 has label 0",
        ("train:9", "label"): "label 0, but train:8 has label 1",
        ("train:2", "leak"): "is also in val:1",
        ("train:4", "leak"): "has the same first and middle frame as val:2 copy of 2",
        ("train:5", "leak"): "has the same first and middle frame as val:3 copy of 3",
        ("train:5", "label"): "label 1, but val:3 copy of 3 has label 0",
        ("val:3", "label"): "label 0, but train:5 v3 has label 1"})
    done = check(monkeypatch, capfd, *flags, "--fix", tmp_path / "clean.txt")
    assert done.status == 2 and f"{tmp_path}/clean_train.txt: 3 videos of train" in done.err
    assert (tmp_path / "clean_train.txt").read_text() == "v0 9 0\nv4 9 0\ndark 1 9 0\n"
    assert (tmp_path / "clean_val.txt").read_text() == "v1 9 1\ncopy of 2 9 0\nv6 9 0\ndark 2 9 1\n"
    assert found(monkeypatch, capfd, tmp_path / "clean_train.txt", tmp_path / "clean_val.txt") == (0, {})


def test_a_clean_list_has_the_right_frame_counts_and_loads(tmp_path, monkeypatch, capfd):
    file = frames(tmp_path, count=9)
    for i, name in enumerate(("missing", "gap", "count", "count more", "truncated", "short", "color")):
        FAULTS[name][0](tmp_path / "f" / f"v{i}")
    clip(tmp_path / "f" / "film.mp4", 11)
    file.write_text(file.read_text() + "not a line\nfilm.mp4 1\n\n")
    before = file.read_text()
    done = check(monkeypatch, capfd, file, "--root_path", tmp_path / "f", "--fix", tmp_path / "new" / "clean.txt")
    assert done.status == 2 and "Traceback" not in done.err
    assert "line (1): not in the form" in done.out and "    list:10 not a line: not: path" in done.out
    records = read_list(tmp_path / "new" / "clean.txt")
    assert {r.path: (r.num_frames, r.label) for r in records} == {
        "v2": (8, 0), "v3": (10, 1), "v6": (9, 0), "v7": (9, 1), "v8": (9, 0), "film.mp4": (11, 1)}
    assert [p.name for p in (tmp_path / "new").iterdir()] == ["clean.txt"] and file.read_text() == before
    again = [tmp_path / "new" / "clean.txt", "--root_path", tmp_path / "f"]
    assert set(found(monkeypatch, capfd, *again)[1]) == {("clean:3", "color")}
    assert found(monkeypatch, capfd, *again, "--ignore", "color") == (0, {})


def test_a_data_set_given_by_name(tmp_path, monkeypatch, capfd):
    make_somethingv2(tmp_path, train=6, val=4, classes=2)
    flags = ["somethingv2", "--root_dataset", tmp_path, "--min_frames", 3]
    done = check(monkeypatch, capfd, *flags)
    assert done.status == 0 and done.out.splitlines()[-1] == "clean: 10 videos"
    assert "6 videos; 2 of 2 classes of 3 to 3 videos; 3 to 13 frames, median 8; " in done.out
    assert "pixels: 48x40 (6)" in done.out
    base = tmp_path / "something/v2/20bn-something-something-v2-frames"
    shutil.rmtree(base / "clip 0")
    shutil.copytree(base / "clip 9", base / "clip 0")
    status, findings = found(monkeypatch, capfd, *flags)
    assert status == 2 and ("train:1", "leak") in findings and ("train:1", "label") in findings
    page = check(monkeypatch, capfd, *flags).out
    assert "leak (1): the same video in two lists\n    train:1 clip 0: has the same first and middle frame as" in page


def test_no_clean_list_is_written_if_one_would_be_empty(tmp_path, monkeypatch, capfd):
    train = frames(tmp_path)
    val = write_list(tmp_path / "val.txt", {"gone": (9, 0)})
    flags = [train, val, "--root_path", tmp_path / "f", "--fix"]
    assert_refused(check(monkeypatch, capfd, *flags, tmp_path / "clean.txt"), "--fix", "val.txt")
    assert not list(tmp_path.glob("clean*"))
    done = check(monkeypatch, capfd, *flags, train / "clean.txt")  # before anything is checked
    assert_refused(done, "cannot write", "list.txt is not a directory")
    assert not done.out


def test_the_test_list_is_checked_too(tmp_path, monkeypatch, capfd):
    make_frames(tmp_path, {f"v{i}": (9, 0) for i in range(3)})
    for name, video in (("train", "v0"), ("val", "v1"), ("test", "v2")):
        write_list(tmp_path / f"{name}.txt", {video: (9, 0)})
    entry = "mine: {root: ., train_list: train.txt, val_list: val.txt, num_class: 1%s}\n"
    (tmp_path / "own.yaml").write_text(entry % ", test_list: test.txt")
    flags = ["mine", "--dataset_file", tmp_path / "own.yaml"]
    done = check(monkeypatch, capfd, *flags, "--ignore", "duplicate,leak")
    assert done.status == 0 and "test: " in done.out and done.out.splitlines()[-1] == "clean: 3 videos"
    shutil.rmtree(tmp_path / "v2")
    shutil.copytree(tmp_path / "v0", tmp_path / "v2")
    findings = found(monkeypatch, capfd, *flags)[1]
    assert findings["train:1", "leak"] == "has the same first and middle frame as test:1 v2"
    (tmp_path / "own.yaml").write_text(entry % "")
    assert check(monkeypatch, capfd, *flags).out.splitlines()[-1] == "clean: 2 videos"


def test_options_without_effect_give_warnings(tmp_path, monkeypatch, capfd):
    file = frames(tmp_path)
    (tmp_path / "names.txt").write_text("a\nb\n")
    flags = [file, "--root_path", tmp_path / "f"]
    assert "no effect" not in check(monkeypatch, capfd, *flags, "--num_class", 2).err
    done = check(monkeypatch, capfd, *flags, "--num_class", 3, "--categories", tmp_path / "names.txt",
                 "--modality", "Flow", "--root_dataset", tmp_path)
    assert done.status == 0 and [line for line in done.err.splitlines() if "no effect" in line] == [
        "warning: --modality has no effect: it applies to a data set's name, not to list files",
        "warning: --root_dataset has no effect: it applies to a data set's name, not to list files",
        "warning: --num_class has no effect: --categories determines it"]
    make_somethingv2(tmp_path, train=2, val=2, classes=2)
    done = check(monkeypatch, capfd, "somethingv2", "--root_dataset", tmp_path, "--num_class", 9,
                 "--template", "{:03d}.png")
    assert done.err.splitlines()[-2:] == ["warning: --template has no effect: a data set has its own",
                                          "warning: --num_class has no effect: a data set has its own"]


def test_flow_of_every_layout(tmp_path, monkeypatch, capfd):
    rng = np.random.default_rng(0)

    def save(file):
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 255, (40, 48), np.uint8)).save(file)

    base = tmp_path / "something" / "v1"
    for video in (7, 8):
        for i in range(1, 9):
            for axis in "xy":
                save(base / "20bn-something-something-v1-flow" / f"{video:06d}" / f"{video:06d}-{axis}_{i:05d}.jpg")
    for name in ("train", "val"):
        (base / f"{name}_videofolder_flow.txt").write_text("7 16 0\n" if name == "train" else "8 16 1\n")
    flags = ["something", "--modality", "Flow", "--root_dataset", tmp_path]
    assert found(monkeypatch, capfd, *flags) == (0, {})
    (base / "20bn-something-something-v1-flow" / "000008" / "000008-y_00004.jpg").unlink()
    assert found(monkeypatch, capfd, *flags)[1] == {
        ("val:1", "gap"): "000008-y_00004.jpg is missing, but the directory has 15 frames"}
    frame = tmp_path / "UCF101" / "jpg" / "v"
    for i in range(1, 10):
        for axis in "xy":
            save(frame / f"flow_{axis}_{i:05d}.jpg")
    template = resolve_dataset("ucf101", "Flow").template
    assert inspect_video(tmp_path / "UCF101/jpg", "v", template, num_frames=9).findings == {}


def test_a_long_report_fits_on_a_page(tmp_path, monkeypatch, capfd):
    (tmp_path / "l.txt").write_text("".join(f"gone{i} 9 0\n" for i in range(500)))
    done = check(monkeypatch, capfd, tmp_path / "l.txt")
    assert done.status == 2 and len(done.out.splitlines()) < 10 and "and 497 more" in done.out
    assert "500 findings in 500 of 500 lines" in done.out and "--root_path" in done.err
    assert_refused(check(monkeypatch, capfd, tmp_path / "l.txt", "--fix", tmp_path / "c.txt"), "--fix", "every video")
    assert not (tmp_path / "c.txt").exists()


@pytest.mark.parametrize("argv, words", [
    (["nothing"], "unknown data set 'nothing'"), (["/dev/null"], "is empty"),
    (["a.txt", "b.txt"], "cannot read the video list"),
    (["ucf101", "--ignore", "x"], "--ignore x"), (["ucf101", "--data_format", "x"], "--data_format"),
    (["ucf101", "--modality", "Sound"], "Sound"), (["ucf101", "--min_frames", "-1"], "--min_frames"),
    (["/dev/null", "--template", "x"], "--template"), (["/dev/null", "--categories", "/nowhere"], "--categories"),
    (["ucf101"], "ucf101_rgb_train_split_1.txt")])
def test_wrong_arguments_are_a_one_line_error(tmp_path, monkeypatch, capfd, argv, words):
    monkeypatch.chdir(tmp_path)
    assert_refused(check(monkeypatch, capfd, *argv), words)
