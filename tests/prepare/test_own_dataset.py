"""The order of a user's classes."""
from ops.prepare.own_dataset import class_order


def test_classes_are_numbered_in_order():
    assert class_order(["b", "a", "B", "a"]) == ["B", "a", "b"]
    assert class_order(["10", "9", "0"]) == ["0", "9", "10"]
    assert class_order(["10", "9", "x"]) == ["10", "9", "x"]
