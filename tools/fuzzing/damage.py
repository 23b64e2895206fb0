"""Damage to the bytes of real files, and texts that nobody would write."""
from typing import Callable

import numpy as np

Random = np.random.Generator
CHUNK = 100


def damage(content: bytes, rng: Random, most: int = 4) -> bytes:
    """`content` with one to `most` kinds of damage."""
    for _ in range(int(rng.integers(1, most + 1))):
        content = DAMAGES[rng.integers(len(DAMAGES))](content, rng)
    return content


def _random_position(content: bytes, rng: Random) -> int:
    """Half of the time among the first 1000 bytes, where the headers are."""
    reach = min(len(content), 1000) if rng.random() < 0.5 else len(content)
    return int(rng.integers(max(1, reach)))


def flip_bits(content: bytes, rng: Random) -> bytes:
    changed = bytearray(content)
    for _ in range(int(rng.integers(1, 9)) if content else 0):
        changed[_random_position(content, rng)] ^= 1 << int(rng.integers(8))
    return bytes(changed)


def replace_bytes(content: bytes, rng: Random) -> bytes:
    start, length = _random_position(content, rng), int(rng.integers(1, 17))
    value = [bytes(length), b"\xff" * length, rng.bytes(length)][rng.integers(3)]
    return content[:start] + value[:len(content) - start] + content[start + length:]


def cut_end(content: bytes, rng: Random) -> bytes:
    return content[:_random_position(content, rng)] if rng.random() < 0.5 else content[:-int(rng.integers(1, 65))]


def remove_bytes(content: bytes, rng: Random) -> bytes:
    start = _random_position(content, rng)
    return content[:start] + content[start + int(rng.integers(1, 257)):]


def repeat_bytes(content: bytes, rng: Random) -> bytes:
    start, length = _random_position(content, rng), int(rng.integers(1, 257))
    return content[:start + length] + content[start:]


DAMAGES: tuple[Callable[[bytes, Random], bytes], ...] = (flip_bits, replace_bytes, cut_end, remove_bytes, repeat_bytes)


class Texts:
    """Texts by hypothesis: lines of `words`, numbers and arbitrary characters. texts[i] depends on the seed and i alone."""

    def __init__(self, seed: int, words: list[str]) -> None:
        self.seed, self.words = seed, words
        self.chunk, self.texts = -1, [""]

    def __getitem__(self, number: int) -> str:
        if number // CHUNK != self.chunk:
            self.chunk = number // CHUNK
            self.texts = _texts(CHUNK, self.seed * 10 ** 6 + self.chunk, self.words)
        return self.texts[number % CHUNK % len(self.texts)]


def _texts(count: int, seed: int, words: list[str]) -> list[str]:
    """At most `count` texts, which depend on the seed and on `count`."""
    from hypothesis import HealthCheck, Phase, given
    from hypothesis import seed as with_seed
    from hypothesis import settings
    from hypothesis import strategies as st

    part = st.one_of(st.sampled_from(words), st.integers(-10 ** 10, 10 ** 10).map(str), st.text(max_size=8))
    line = st.lists(part, max_size=5).flatmap(
        lambda parts: st.sampled_from([" ", ",", ";", ": ", "/", "\t", ""]).map(lambda separator: separator.join(parts)))
    found: list[str] = []

    @with_seed(seed)
    @settings(max_examples=count, database=None, deadline=None, phases=[Phase.generate],
              suppress_health_check=list(HealthCheck))
    @given(st.lists(line, max_size=6).map("\n".join))
    def collect(text: str) -> None:
        found.append(text)

    collect()
    return found
