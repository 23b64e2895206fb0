"""Splitting into training and validation videos, so that clips of one source are never on both sides.

Clips cut from one recording look alike: a network that was trained on some of them recognizes the others, and its
validation accuracy means nothing. All choices depend only on hashes of names and the seed, so they are the same on every
machine, and a video that is added later moves few others.
"""
import hashlib
import re
from collections import Counter, defaultdict
from typing import Iterable, Mapping, Optional, Sequence
from unicodedata import normalize

from ops.common.errors import UserError
from ops.prepare.labeled_videos import LabeledVideo
from ops.prepare.shared_frames import join_groups
from ops.video.discovery import without_extension

SPLITS = ("train", "val", "test")
WAYS = ("source", "content", "file", "random")

# File names (without extension) that name the recording a clip is from.
SOURCE_PATTERNS = (
    r"(?P<source>.+_g\d+)_c\d+",  # UCF101: v_Archery_g01_c02
    r"(?P<source>.+)[-_. ](?:part|clip|seg|segment|scene|shot|chunk|cut)[-_. ]?\d+",  # name_part03, video_0001_clip3
    r"(?P<source>[\w-]{11})_\d{6}_\d{6}",  # Kinetics: a YouTube id, first and last second
)


# ---- sources ------------------------------------------------------------------------------------------------

def source_of(path: str, pattern: Optional[re.Pattern] = None) -> Optional[str]:
    """The recording that a clip is from; None where its name does not tell.

    path: relative, with or without extension. pattern: is searched for in the path without extension; the source is its
    group `source`, else its first group, else the whole match. Default: SOURCE_PATTERNS, which must match the whole file
    name.
    """
    stem = normalize("NFC", without_extension(path))  # accents may be spelled in two ways
    if pattern is not None:
        match = pattern.search(stem)
        return match and (match[("source" if "source" in pattern.groupindex else 1) if pattern.groups else 0] or None)
    name = stem.rsplit("/", 1)[-1]
    matches = (re.fullmatch(known, name, re.IGNORECASE) for known in SOURCE_PATTERNS)
    return next((match["source"] for match in matches if match), None)


def group_by_source(paths: Iterable[str], pattern: Optional[re.Pattern] = None) -> dict[str, list[str]]:
    """`source <name>` -> its paths; a path without a known source is a group by itself, `file <path>`."""
    groups = defaultdict(list)
    for path in paths:
        found = source_of(path, pattern)
        groups[f"file {path}" if found is None else f"source {found}"].append(path)
    return dict(groups)


def shared_sources(splits: Mapping[str, Sequence[LabeledVideo]], pattern: Optional[re.Pattern] = None) -> list[str]:
    """The sources with clips in more than one split."""
    split_of = {video.path: split for split, videos in splits.items() for video in videos}
    return [source.removeprefix("source ") for source, paths in group_by_source(split_of, pattern).items()
            if len({split_of[path] for path in paths}) > 1]


# ---- splitting ----------------------------------------------------------------------------------------------

def split_videos(videos: Sequence[LabeledVideo], way: str, *, share: float, seed: int, pattern: Optional[re.Pattern] = None,
                 links: Sequence[tuple[str, str]] = ()) -> dict[str, list[LabeledVideo]]:
    """split -> its videos, sorted by path.

    Videos with a split keep it. If none is assigned to val, `validation_share` chooses among the others and those of
    train. UserError when train or val would be empty, or when the pattern matches no path.
    """
    if pattern is not None and videos and all(source_of(video.path, pattern) is None for video in videos):
        raise UserError(f"source_pattern {pattern.pattern!r} matches none of the {len(videos)} paths; the first is"
                        f" {videos[0].path!r} (matched without its extension)", "source_pattern")
    # Videos without a class are split as if that were one.
    free = {video.path: video.classes or ("",) for video in videos if video.split in ("", "train")}
    chosen = (set() if any(video.split == "val" for video in videos) else
              validation_share(free, way, share=share, seed=seed, pattern=pattern, links=links))
    splits: dict[str, list[LabeledVideo]] = {split: [] for split in SPLITS}
    for video in sorted(videos):
        split = "val" if video.path in chosen else video.split or "train"
        splits[split].append(video._replace(split=split))
    for split, words in (("train", "training"), ("val", "validation")):
        if not splits[split]:
            raise UserError(f"no video is left for {words}: all {len(videos)} videos are on the other side, or each class"
                            " has only one source: add videos, or change val, split_by or source_pattern",
                            "val", "split_by", "source_pattern")
    return splits


def validation_share(labels: Mapping[str, Sequence[str]], way: str, *, share: float, seed: int,
                     pattern: Optional[re.Pattern] = None, links: Sequence[tuple[str, str]] = ()) -> set[str]:
    """Choose the paths of the validation videos. labels: path -> classes. share: above 0 and below 1.

    way: `source` keeps the clips of a source together (a path without a known source is one by itself); `content` also
    those that `links` join, pairs of paths of clips that share frames; `file` decides for each file alone. All three give
    every class its share, and leave it training videos. `random`: each file with
    probability `share`, whatever its class.
    """
    if way == "random":
        return {path for path in labels if _draw(seed, path) < share}
    groups = {path: [path] for path in labels} if way == "file" else group_by_source(labels, pattern)
    if way == "content":
        known = [link for link in links if link[0] in labels and link[1] in labels]
        groups = {min(group): group for group in join_groups(groups.values(), known)}
    classes = {source: [label for path in paths for label in labels[path]] for source, paths in groups.items()}
    return {path for source in choose_sources(classes, share, seed) for path in groups[source]}


def choose_sources(sources: Mapping[str, Sequence[str]], share: float, seed: int) -> set[str]:
    """Choose the sources of the validation videos. sources: source -> the classes of all its videos, with repetitions.

    Each class comes as close to its share as whole sources allow, rare classes first. A class with two or more sources
    gets at least one video on either side, unless sources with several classes make that impossible.
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
    """A number from 0 to 1 that depends only on `seed` and `name`."""
    digest = hashlib.sha256(f"{seed}\0{name}".encode("utf-8", "surrogateescape")).digest()
    return int.from_bytes(digest[:8], "big") / 2 ** 64
