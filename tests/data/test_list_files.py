"""List files: lines that are read, lines that are refused, and lines that are written."""
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ops.common.errors import UserError
from ops.common.files import write_lines
from ops.data.list_files import ListLine, VideoRecord, can_be_listed, format_line, parse_line, read_lines, read_list
from tests.helpers.datasets import refused


def rows(records):
    return [(record.path, record.num_frames, record.label) for record in records]


def test_list_of_paths_with_spaces(tmp_path):
    (tmp_path / "list.txt").write_text("plain/v_1 30 0\n\na b  c 12 3\n  indented name 5   1\t\r\nvideo 12 40 7\n")
    records = read_list(tmp_path / "list.txt", num_class=8)
    assert rows(records) == [("plain/v_1", 30, 0), ("a b  c", 12, 3), ("indented name", 5, 1), ("video 12", 40, 7)]
    assert all(isinstance(record, VideoRecord) for record in records)


def test_list_in_other_letters(tmp_path):
    (tmp_path / "list.txt").write_text("手势/видео é 3 0\n", encoding="utf-8")
    assert rows(read_list(tmp_path / "list.txt")) == [("手势/видео é", 3, 0)]


def test_list_as_windows_editors_save_it(tmp_path):
    (tmp_path / "list.txt").write_bytes("first 3 0\r\nsecond 4 1\r\n".encode("utf-8-sig"))
    assert rows(read_list(tmp_path / "list.txt")) == [("first", 3, 0), ("second", 4, 1)]


@pytest.mark.parametrize("line, words", [
    ("video 10", "is not of the form: path num_frames label"),
    ("10 3", "is not of the form"),
    ("video", "is not of the form"),
    ("video ten 3", "'video ten 3' is not of the form"),
    ("video 10 3.5", "is not of the form"),
    ("video,10,3", "is not of the form"),
    ("my video 0 3", "'my video' has 0 frames"),
    ("my video -4 3", "has -4 frames"),
    ("video 10 8", "label 8 is outside the classes 0 to 7"),
    ("video 10 -1", "label -1 is outside the classes 0 to 7"),
])
def test_wrong_lines_are_refused_with_their_place(line, words, tmp_path):
    path = tmp_path / "my list.txt"
    path.write_text(f"good one 10 7\n\n{line}\n")
    with refused(f"{path}:3: ", words):
        read_list(path, num_class=8)


def test_negative_label_without_a_class_count(tmp_path):
    (tmp_path / "list.txt").write_text("video 10 -1\n")
    with pytest.raises(UserError, match="list.txt:1: .*label -1") as info:
        read_list(tmp_path / "list.txt")
    assert "0 to 0" not in str(info.value)  # the number of classes is unknown


def test_labels_are_free_without_a_class_count(tmp_path):
    (tmp_path / "list.txt").write_text("video 10 5000\n")
    assert read_list(tmp_path / "list.txt")[0].label == 5000


def test_lists_that_cannot_be_read(tmp_path):
    (tmp_path / "empty.txt").write_text(" \n\n")
    with refused("empty.txt is empty", "path num_frames label"):
        read_list(tmp_path / "empty.txt")
    with refused("missing.txt", "No such file"):
        read_list(tmp_path / "missing.txt")
    with refused(tmp_path, "directory"):
        read_list(tmp_path)
    (tmp_path / "binary.txt").write_bytes(b"\xff\xfe\x00video\n")
    with refused("binary.txt"):
        read_list(tmp_path / "binary.txt")


@pytest.mark.parametrize("line", ["a clip 3", "b.webm", "b.webm x", "b.webm 1.5", "b.webm 99999999999 1", ".mp4x 3"])
def test_lines_without_a_number_of_frames_must_name_a_video_file(line, tmp_path):
    (tmp_path / "list.txt").write_text(line)
    with refused("list.txt:1: ", "is not of the form: path num_frames label"):
        read_list(tmp_path / "list.txt")


# ---- lines ----------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("text, line", [
    ("a b  c 12 3", ListLine("a b  c", 12, 3)), ("  v\t-4   -1 ", ListLine("v", -4, -1)),
    ("a b.MP4 12 3", ListLine("a b.MP4", 12, 3)), ("a b.MP4 3", ListLine("a b.MP4", None, 3)),
    ("v 12 3 4", ListLine("v 12", 3, 4)), ("a b 3", None), ("", None), ("v 1.5 3", None), ("v 1234567890 3", None)])
def test_a_line_is_parsed_from_its_end(text, line):
    assert parse_line(text) == line


PATHS = st.text(st.characters(codec="utf-8"), min_size=1).filter(can_be_listed)


@given(st.lists(st.tuples(PATHS, st.integers(1, 999), st.integers(0, 999)), min_size=1))
@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_what_is_written_is_read_back(tmp_path, rows_written):
    write_lines(tmp_path / "list.txt", [format_line(*row) for row in rows_written])
    assert rows(read_list(tmp_path / "list.txt")) == rows_written


@pytest.mark.parametrize("path, listed", [
    ("a b", True), ("手", True), ("", False), (" a", False), ("a\t", False), ("a\nb", False), ("a\u2028b", False),
    ("\udcff", False)])
def test_paths_that_a_list_can_hold(path, listed):
    assert can_be_listed(path) == listed


def test_blank_lines_keep_the_numbers_of_the_others(tmp_path):
    (tmp_path / "list.txt").write_text("\nfirst\n \n  third \n")
    assert read_lines(tmp_path / "list.txt") == [(2, "first"), (4, "third")]
