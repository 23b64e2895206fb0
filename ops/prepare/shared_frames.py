"""Clips cut from one recording, recognised by frames that they share: the last of one clip is nearly the first of another.

Frames are compared by a perceptual hash of 256 bits, which survives scaling and recompression. Measured on real videos:
neighbouring frames of a recording differ in 2 to 16 bits, frames of different scenes in 80 or more. A fixed camera is
harder, because clips that share no frame look alike too: its frames differ in 30 to 60 bits as long as something moves.
So a match counts as evidence only

  - within 16 bits, and less than half of what the clips themselves change (a clip in which nothing moves proves nothing);
  - between different positions, such as a last frame and a first one: many videos begin or end with the same title or the
    same pose. Copies of a clip match in all positions;
  - if few clips have this frame: a title, or a pose between two gestures, may be in hundreds.
"""
from collections import defaultdict
from typing import Iterable, Mapping, NamedTuple, Optional, Sequence

import numpy as np
from PIL import Image

RADIUS = 16  # bits
COMMON = 4  # clips: a frame that looks like those of more clips is no evidence
POSITIONS = ("first", "middle", "last")
_SIDE = 16  # of the hash: 16 * 16 bits
_BANDS = 16  # of 16 bits: two hashes that differ in 16 bits agree in one or more of them with a probability of 99.9%
_CROWD = 16  # matches of one frame in a band, after which it is not looked up any more
_CONTRAST = 24  # gray levels between the darkest and the brightest part, below which a frame shows nothing
_ONES = np.array([bin(word).count("1") for word in range(1 << 16)], np.uint8)
Look = Optional[bytes]  # 32 bytes; None for a frame that shows nothing, such as a black one


class Match(NamedTuple):
    """Two clips that share a frame. position, other_position: 0 first, 1 middle, 2 last frame."""
    clip: str
    other: str
    position: int
    other_position: int


def look_of(image: Image.Image) -> Look:
    """The perceptual hash of an RGB image; None if it is nearly of one color."""
    import imagehash  # not at the top: it imports scipy
    gray = image.convert("L")
    small = gray.reduce(max(1, min(gray.size) // 128))  # the hash shrinks by a slow filter, needlessly for large frames
    low, high = small.getextrema()
    if high - low < _CONTRAST:  # type: ignore[operator]
        return None
    return np.packbits(imagehash.phash(small, _SIDE).hash).tobytes()


def find_shared_frames(looks: Mapping[str, Sequence[Look]]) -> list[Match]:
    """The pairs of clips that share a frame, one match per pair, in the order of `looks`.

    looks: clip -> the hashes of its first, middle and last frame; other clips are skipped.
    """
    names = [name for name, hashes in looks.items() if len(hashes) == len(POSITIONS)]
    if len(names) < 2:
        return []
    hashes = [look for name in names for look in looks[name]]
    codes = np.frombuffer(b"".join(look or bytes(_SIDE * _SIDE // 8) for look in hashes), np.uint16)
    frames = _Frames(codes.reshape(len(hashes), -1), np.array([look is not None for look in hashes]))
    return [Match(names[a // len(POSITIONS)], names[b // len(POSITIONS)], a % len(POSITIONS), b % len(POSITIONS))
            for a, b in frames.evidence()]


class _Frames:
    """The frames of all clips, N = 3 per clip. codes: (N, 16) uint16 hashes. shown: (N,) whether a frame shows anything."""

    def __init__(self, codes: np.ndarray, shown: np.ndarray) -> None:
        self.codes = codes
        self.clip, self.position = np.divmod(np.arange(len(codes)), len(POSITIONS))
        # What changes within each clip, bits: the largest difference between two of its frames.
        starts = np.flatnonzero(self.position == 0)
        movement = np.zeros(len(starts), np.int64)
        for a, b in ((0, 1), (0, 2), (1, 2)):
            both = shown[starts + a] & shown[starts + b]
            movement = np.maximum(movement, self._distance(starts + a, starts + b) * both)
        self.movement = movement[self.clip]
        self.usable = shown & (self.movement > RADIUS)

    def _distance(self, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        return _ONES[self.codes[a] ^ self.codes[b]].sum(1, dtype=np.int64)

    def evidence(self) -> list[tuple[int, int]]:
        """One pair of frames, from the earlier clip and the later one, for each pair of clips that share frames."""
        first, second, crowded = self._similar_pairs()
        swap = self.clip[first] > self.clip[second]
        first, second = np.where(swap, second, first), np.where(swap, first, second)
        common = crowded | self._common(first, second)
        cross = (self.position[first] != self.position[second]) & ~common[first] & ~common[second]
        found: dict[tuple[int, int], tuple[int, int]] = {}
        same: dict[tuple[int, int], set[int]] = defaultdict(set)
        for a, b, strong in zip(first.tolist(), second.tolist(), cross.tolist()):
            key = int(self.clip[a]), int(self.clip[b])
            if strong:
                found.setdefault(key, (a, b))
            elif self.position[a] == self.position[b]:
                same[key].add(int(self.position[a]))
                if len(same[key]) == len(POSITIONS):
                    found[key] = a, b
        return [found[key] for key in sorted(found)]

    def _similar_pairs(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """(first, second, crowded): the pairs of frames of different clips within the allowed difference, and (N,) bool, the
        frames that have so many that some were not looked up.

        Frames are compared if they agree in all bits of a band, 16 bits drawn without replacement.
        """
        pairs: list[np.ndarray] = []
        crowded = np.zeros(len(self.codes), bool)
        columns = np.random.default_rng(0).permutation(_SIDE * _SIDE).reshape(_BANDS, -1)
        for band in columns:
            pairs.append(self._pairs_in_band(band, crowded))
        both = np.unique(np.concatenate(pairs), axis=0)
        return both[:, 0], both[:, 1], crowded

    def _pairs_in_band(self, band: np.ndarray, crowded: np.ndarray) -> np.ndarray:
        """(pairs, 2); marks frames with many matches in `crowded`, and skips those that are marked."""
        keys = np.zeros(len(self.codes), np.uint32)
        for bit in band:
            keys = keys << np.uint32(1) | (self.codes[:, bit // 16] >> np.uint16(bit % 16) & np.uint16(1))
        order = np.flatnonzero(self.usable & ~crowded)
        order = order[np.argsort(keys[order], kind="stable")]
        matches, found = np.zeros(len(self.codes), np.int64), [np.zeros((0, 2), np.int64)]
        for step in range(1, min(len(order), 2 * _CROWD)):  # in a larger bucket, each frame meets only its neighbors
            a, b = order[:-step], order[step:]
            alike = (keys[a] == keys[b]) & (matches[a] < _CROWD) & (matches[b] < _CROWD)
            if not alike.any():
                break
            a, b = a[alike], b[alike]
            close = self._close(a, b)
            found.append(np.stack([np.minimum(a, b), np.maximum(a, b)], 1)[close])
            for side in (a[close], b[close]):
                matches += np.bincount(side, minlength=len(matches))
        crowded |= matches >= _CROWD
        return np.concatenate(found)

    def _close(self, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        """Whether each pair of frames is from different clips and similar enough."""
        distance = self._distance(a, b)
        movement = np.minimum(self.movement[a], self.movement[b])
        return (self.clip[a] != self.clip[b]) & (distance <= RADIUS) & (2 * distance <= movement)

    def _common(self, first: np.ndarray, second: np.ndarray) -> np.ndarray:
        """(N,) whether frames of more than COMMON other clips match a frame."""
        seen_in = np.concatenate([np.stack([first, self.clip[second]], 1), np.stack([second, self.clip[first]], 1)])
        return np.bincount(np.unique(seen_in, axis=0)[:, 0], minlength=len(self.clip)) > COMMON


def join_groups(groups: Iterable[Sequence[str]], links: Iterable[tuple[str, str]]) -> list[list[str]]:
    """The groups of clips, joined where a link leads from one to another."""
    parent: dict[str, str] = {}

    def root(name: str) -> str:
        while parent.setdefault(name, name) != name:
            parent[name] = parent[parent[name]]
            name = parent[name]
        return name

    members = [list(group) for group in groups]
    for a, b in [*links, *((group[0], other) for group in members for other in group[1:])]:
        parent[root(b)] = root(a)
    joined: dict[str, list[str]] = defaultdict(list)
    for name in (name for group in members for name in group):
        joined[root(name)].append(name)
    return list(joined.values())
