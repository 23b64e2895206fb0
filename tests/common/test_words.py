"""Numbers in messages."""
import pytest

from ops.common.words import counted


@pytest.mark.parametrize("number, noun, words", [
    (0, "video", "0 videos"), (1, "video", "1 video"), (2, "video", "2 videos"), (1, "class", "1 class"),
    (12, "class", "12 classes"), (3, "epoch", "3 epochs"), (2, "pair", "2 pairs")])
def test_counted(number, noun, words):
    assert counted(number, noun) == words
