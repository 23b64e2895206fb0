"""Parts of a list, the --part flag, and directories that one run or its parts hold."""
import os

import pytest

from ops.common.cli import Parser, add_part_flag
from ops.common.errors import UserError
from ops.common.locks import one_at_a_time, only_run, try_lock
from ops.common.part import WHOLE, Part, interleave


@pytest.mark.parametrize("count", [1, 2, 3, 8])
@pytest.mark.parametrize("length", [0, 1, 7, 16])
def test_parts_together_are_the_list(count, length):
    items = list(range(length))
    parts = [Part(number, count).take(items) for number in range(1, count + 1)]
    assert interleave(parts) == items and max(map(len, parts)) - min(map(len, parts)) <= 1


def test_the_flag():
    parser = Parser()
    add_part_flag(parser)
    assert parser.parse_args([]).part == WHOLE == parser.parse_args(["--part", "1/1"]).part
    assert parser.parse_args(["--part", "8/8"]).part == Part(8, 8) and str(Part(8, 8)) == "8/8"
    for text in ("0/8", "9/8", "3", "1/0", "-1/8", "1/2/3", "a/b", "1 / 2", "1.0/2", "٣/٨", ""):
        with pytest.raises(UserError, match=r"^--part .*: choose I/N with I from 1 to N, as in 2/8$"):
            parser.parse_args([f"--part={text}"])


# ---- locks ----------------------------------------------------------------------------------------------------

pytestmark = pytest.mark.skipif(os.name != "posix", reason="needs locks")


def test_a_second_run_is_refused_until_the_first_has_ended(tmp_path):
    with only_run(tmp_path), pytest.raises(UserError, match=f"another run is writing into {tmp_path}: wait for it"):
        with only_run(tmp_path):
            raise AssertionError
    with only_run(tmp_path), open(tmp_path / "file", "w") as one, open(tmp_path / "file") as two:
        assert try_lock(one) and not try_lock(two)
    with open(tmp_path / "file") as again:
        assert try_lock(again)


@pytest.mark.parametrize("other, words", [
    (WHOLE, "another run is writing into"), (Part(1, 2), "another process is working on part 1/2 in"),
    (Part(1, 3), "part 1/3: one of 2 parts is being written into .*, or divide the work into 2 parts")])
def test_parts_share_a_directory_but_nothing_else_does(tmp_path, other, words):
    with only_run(tmp_path, Part(1, 2)), only_run(tmp_path, Part(2, 2)):
        with pytest.raises(UserError, match=words):
            with only_run(tmp_path, other):
                raise AssertionError
    with only_run(tmp_path), pytest.raises(UserError, match="another run is writing into"):
        with only_run(tmp_path, Part(1, 2)):
            raise AssertionError
    assert not os.listdir(tmp_path)


@pytest.mark.parametrize("after", [WHOLE, Part(1, 2), Part(1, 3)])
def test_locks_of_killed_parts_are_removed(tmp_path, after):
    for name in (".part-1-of-2.lock", ".parts.lock"):
        (tmp_path / name).touch()
    with only_run(tmp_path, after), one_at_a_time(tmp_path, after):
        pass
    assert not os.listdir(tmp_path)


def test_parts_take_turns(tmp_path):
    """Each process reads, waits and writes a count, many times."""
    (tmp_path / "count").write_text("0")
    children = []
    for _ in range(4):
        child = os.fork()
        if not child:
            try:
                for _ in range(50):
                    with one_at_a_time(tmp_path, Part(1, 4)):
                        count = int((tmp_path / "count").read_text())
                        os.sched_yield()
                        (tmp_path / "count").write_text(str(count + 1))
                os._exit(0)
            finally:
                os._exit(1)
        children.append(child)
    assert [os.waitpid(child, 0)[1] for child in children] == [0] * 4
    assert os.listdir(tmp_path) == ["count"] and (tmp_path / "count").read_text() == "200"
