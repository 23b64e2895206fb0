"""Damage to real files' bytes, and texts that nobody would write."""
from typing import Callable

import numpy as np

Random = np.random.Generator
CHUNK = 100


def damaged(content: bytes, rng: Random, most: int = 4) -> bytes:
    """`content` damaged one to `most` times."""
    for _ in range(int(rng.integers(1, most + 1))):
        content = WAYS[rng.integers(len(WAYS))](content, rng)
    return content


def _place(content: bytes, rng: Random) -> int:
    """Anywhere; half of the time among the first 1000 bytes, where the headers are."""
    reach = min(len(content), 1000) if rng.random() < 0.5 else len(content)
    return int(rng.integers(max(1, reach)))


def flip_bits(content: bytes, rng: Random) -> bytes:
    changed = bytearray(content)
    for _ in range(int(rng.integers(1, 9)) if content else 0):
        changed[_place(content, rng)] ^= 1 << int(rng.integers(8))
    return bytes(changed)


def replace_bytes(content: bytes, rng: Random) -> bytes:
    place, length = _place(content, rng), int(rng.integers(1, 17))
    value = [bytes(length), b"\xff" * length, rng.bytes(length)][rng.integers(3)]
    return content[:place] + value[:len(content) - place] + content[place + length:]


def cut_end(content: bytes, rng: Random) -> bytes:
    return content[:_place(content, rng)] if rng.random() < 0.5 else content[:-int(rng.integers(1, 65))]


def cut_out(content: bytes, rng: Random) -> bytes:
    place = _place(content, rng)
    return content[:place] + content[place + int(rng.integers(1, 257)):]


def double(content: bytes, rng: Random) -> bytes:
    place, length = _place(content, rng), int(rng.integers(1, 257))
    return content[:place + length] + content[place:]


WAYS: tuple[Callable[[bytes, Random], bytes], ...] = (flip_bits, replace_bytes, cut_end, cut_out, double)


class Texts:
    """Text i of a seed, by hypothesis: lines of `words`, numbers and any characters."""

    def __init__(self, seed: int, words: list[str]) -> None:
        self.seed, self.words = seed, words
        self.chunk, self.found = -1, [""]

    def __getitem__(self, number: int) -> str:
        if number // CHUNK != self.chunk:
            self.chunk = number // CHUNK
            self.found = _texts(CHUNK, self.seed * 10 ** 6 + self.chunk, self.words)
        return self.found[number % CHUNK % len(self.found)]


def _texts(count: int, seed: int, words: list[str]) -> list[str]:
    """At most `count` texts; each depends on the seed and on `count`."""
    from hypothesis import HealthCheck, Phase, given
    from hypothesis import seed as with_seed
    from hypothesis import settings
    from hypothesis import strategies as st

    part = st.one_of(st.sampled_from(words), st.integers(-10 ** 10, 10 ** 10).map(str), st.text(max_size=8))
    line = st.lists(part, max_size=5).flatmap(
        lambda parts: st.sampled_from([" ", ",", ";", ": ", "/", "\t", ""]).map(lambda sign: sign.join(parts)))
    found: list[str] = []

    @with_seed(seed)
    @settings(max_examples=count, database=None, deadline=None, phases=[Phase.generate],
              suppress_health_check=list(HealthCheck))
    @given(st.lists(line, max_size=6).map("\n".join))
    def collect(text: str) -> None:
        found.append(text)

    collect()
    return found
