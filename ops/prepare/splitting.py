"""Training or validation: which video goes where, such that clips of one source never end on both sides.

Clips cut from one recording resemble each other; a network that has seen some of them knows the others, and its
validation accuracy says nothing. All choices hang on hashes of names and the seed, so they are the same on every
machine, and a video added later moves few others.
"""
import hashlib
import re
from collections import Counter, defaultdict
from typing import Iterable, Mapping, Optional, Sequence

from ops.common.errors import UserError
from ops.video.discovery import is_video_name

WAYS = ("source", "file", "random")

# File names (without extension) that tell which recording a clip is from.
SOURCE_PATTERNS = (
    r"(?P<source>.+_g\d+)_c\d+",  # UCF101: v_Archery_g01_c02
    r"(?P<source>.+)[-_. ](?:part|clip|seg|segment|scene|shot|chunk|cut)[-_. ]?\d+",  # name_part03, video_0001_clip3
    r"(?P<source>[\w-]{11})_\d{6}_\d{6}",  # Kinetics: a YouTube name, first and last second
)


def source_of(path: str, pattern: Optional[re.Pattern] = None) -> Optional[str]:
    """The recording that a clip is from, or None where its name does not tell.

    path: relative, with or without extension. pattern: is searched for in the path without extension; its group
    `source`, else its first group, else all that matches is the source. Default: SOURCE_PATTERNS, which must match
    the whole file name.
    """
    whole = path.rsplit(".", 1)[0] if is_video_name(path) else path
    if pattern is not None:
        match = pattern.search(whole)
        return match and (match[("source" if "source" in pattern.groupindex else 1) if pattern.groups else 0] or None)
    name = whole.rsplit("/", 1)[-1]
    matches = (re.fullmatch(known, name, re.IGNORECASE) for known in SOURCE_PATTERNS)
    return next((match["source"] for match in matches if match), None)


def compile_pattern(text: Optional[str]) -> Optional[re.Pattern]:
    """A user's --source-pattern. UserError when it is no regular expression."""
    try:
        return None if text is None else re.compile(text)
    except (re.error, RecursionError, OverflowError) as error:
        raise UserError(f"--source-pattern {text!r} is not a regular expression: {error}") from None


def validation_share(labels: Mapping[str, str], way: str, share: float, seed: int,
                     pattern: Optional[re.Pattern] = None) -> set[str]:
    """The paths that go to validation. labels: path -> class. share: above 0 and below 1.

    way: `source` keeps the clips of a source together (a path whose name tells no source is one by itself); `file`
    takes each file alone; both give every class its share, and leave it training videos. `random`: a coin toss a file.
    """
    if way == "random":
        return {path for path in labels if _draw(seed, path) < share}
    sources = group(labels, pattern) if way == "source" else {path: [path] for path in labels}
    classes = {source: [labels[path] for path in paths] for source, paths in sources.items()}
    return {path for source in choose_sources(classes, share, seed) for path in sources[source]}


def group(paths: Iterable[str], pattern: Optional[re.Pattern] = None) -> dict[str, list[str]]:
    """source -> its paths; a path that tells no source is its own."""
    sources = defaultdict(list)
    for path in paths:
        found = source_of(path, pattern)
        sources[f"file {path}" if found is None else f"source {found}"].append(path)
    return dict(sources)


def choose_sources(sources: Mapping[str, Sequence[str]], share: float, seed: int) -> set[str]:
    """The sources that go to validation. sources: source -> the class of each of its videos.

    Each class comes as near to its share as whole sources allow, the rare ones first. A class with two sources or more
    gets at least one video on either side, unless sources with several classes forbid it.
    """
    counts = {source: Counter(labels) for source, labels in sources.items()}
    total = Counter(label for labels in sources.values() for label in labels)
    members = defaultdict(list)
    for source in sorted(sources, key=lambda source: (_draw(seed, source), source)):
        for label in counts[source]:
            members[label].append(source)
    chosen: set[str] = set()
    taken: Counter = Counter()

    def take(source: str) -> None:
        chosen.add(source)
        taken.update(counts[source])

    def allowed(source: str) -> bool:
        return source not in chosen and all(taken[label] + n < total[label] for label, n in counts[source].items())

    for label in sorted(total, key=lambda label: (total[label], label)):
        goal = max(1, round(total[label] * share))
        for source in members[label]:
            gain = counts[source][label]
            if allowed(source) and abs(taken[label] + gain - goal) < abs(taken[label] - goal):
                take(source)
        if not taken[label]:
            rest = [source for source in members[label] if allowed(source)]
            if rest:
                take(min(rest, key=lambda source: counts[source][label]))
    return chosen


def _draw(seed: int, name: str) -> float:
    """A number from 0 to 1 that only `seed` and `name` decide."""
    digest = hashlib.sha256(f"{seed}\0{name}".encode("utf-8", "surrogateescape")).digest()
    return int.from_bytes(digest[:8], "big") / 2 ** 64
