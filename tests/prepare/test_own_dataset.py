"""A user's labeled videos: found, numbered, read from a csv file."""
import os

from ops.prepare.own_dataset import Item, class_order, read_csv


def test_classes_are_numbered_in_order():
    assert class_order(["b", "a", "B", "a"]) == ["B", "a", "b"]
    assert class_order(["10", "9", "0"]) == ["0", "9", "10"]
    assert class_order(["10", "9", "x"]) == ["10", "9", "x"]


def test_csv_paths_may_be_written_in_several_ways(tmp_path):
    (tmp_path / "t.csv").write_text(f"\ufeffFILE,LABEL\n ./a/../b.mp4 ,x\n\n{os.path.abspath(tmp_path)}/c.mp4,y\n")
    assert read_csv(tmp_path / "t.csv", tmp_path) == [Item("b.mp4", "x", ""), Item("c.mp4", "y", "")]
