"""Check a data set before training: inspect everything that its lists name, and write lists without the bad videos."""
import os
import re
import statistics
from collections import Counter, defaultdict
from dataclasses import asdict, dataclass, field
from multiprocessing.pool import ThreadPool
from pathlib import Path
from typing import Any, Iterable, Mapping, Optional, Sequence
from unicodedata import normalize

from ops.common.errors import UserError
from ops.common.files import write_together
from ops.common.progress import progress
from ops.data.list_files import LINE_FORM, classes_of, format_label, format_line, parse_line, read_lines, repeated_class
from ops.prepare.findings import KINDS
from ops.prepare.inspect_video import VideoReport, inspect_video
from ops.prepare.shared_frames import POSITIONS, Match, find_shared_frames
from ops.video.discovery import frame_names

# A clean list keeps videos with these findings (for `count`, with the right number). `recording`: the split is wrong, not
# the videos.
HARMLESS = ("count", "color", "recording")


@dataclass(frozen=True)
class Entry:
    """A line of a list. num_frames: None where the line has none, as for video files. labels: 0-based, ascending."""
    list: str
    line: int
    path: str
    num_frames: Optional[int]
    labels: tuple[int, ...]

    @property
    def label(self) -> str:
        """The labels as the line has them, but in ascending order."""
        return format_label(self.labels)


@dataclass(frozen=True)
class Finding:
    """Something wrong with a line of a list. line: from 1. kind: one of KINDS."""
    list: str
    line: int
    path: str
    kind: str
    detail: str


@dataclass(frozen=True)
class Rules:
    """What the videos are checked against. num_class, class_names: None if unknown; labels are then not checked.

    multi_label: a video may have any number of labels, not just one.
    """
    root: Path
    template: str
    num_class: Optional[int] = None
    class_names: Optional[Sequence[str]] = None
    min_frames: int = 8
    full: bool = False
    data_format: str = "auto"
    multi_label: bool = False

    @property
    def files_per_frame(self) -> int:
        """published behaviour: the lists of one flow layout count x and y files."""
        return 2 if self.template.count("{") == 3 else 1


@dataclass
class DatasetReport:
    """What was found out about a data set. files: list name -> file. videos: (path, num_frames) -> report."""
    rules: Rules
    files: dict[str, Path]
    entries: list[Entry] = field(default_factory=list)
    videos: dict[tuple[str, Optional[int]], VideoReport] = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)

    def add_finding(self, entry: Entry, kind: str, detail: str) -> None:
        self.findings.append(Finding(entry.list, entry.line, entry.path, kind, detail))

    def add_video_findings(self) -> None:
        """Add what was found in the videos themselves."""
        for entry in self.entries:
            for kind, detail in self.video(entry).findings.items():
                self.add_finding(entry, kind, detail)

    def wanted(self) -> list[tuple[str, Optional[int]]]:
        """The keys of `videos`, in the order of the lists."""
        return list(dict.fromkeys((entry.path, entry.num_frames) for entry in self.entries))

    def video(self, entry: Entry) -> VideoReport:
        return self.videos[entry.path, entry.num_frames]


# ---- reading lists ------------------------------------------------------------------------------------------

def read_entries(name: str, file: Path, report: DatasetReport) -> None:
    """Add the entries of a list to the report, and findings for malformed lines. UserError if it cannot be read."""
    for number, text in read_lines(file):
        line = parse_line(text)
        if line is None:
            report.findings.append(Finding(name, number, text[:80], "line", f"not: {LINE_FORM}"))
        else:
            report.entries.append(Entry(name, number, line.path, line.num_frames, classes_of(line.label)))


def guess_template(root: Path, lists: Iterable[Path], default: str) -> str:
    """The template of the frames in the first frame directory that a list names; `default` if there is none."""
    for file in lists:
        report = DatasetReport(Rules(root, default), {})
        read_entries("", file, report)
        for entry in report.entries:
            if os.path.isdir(root / entry.path):
                try:
                    return frame_names(root / entry.path).template
                except UserError:
                    continue
    return default


# ---- checking -----------------------------------------------------------------------------------------------

def check_lists(files: Mapping[str, Path], rules: Rules, workers: int) -> DatasetReport:
    """Inspect every video of the lists, `workers` at a time. UserError for a list that is unreadable or empty."""
    report = read_lists(files, rules)
    report.videos = inspect_videos(rules, report.wanted(), workers)
    return finish_report(report)


def read_lists(files: Mapping[str, Path], rules: Rules) -> DatasetReport:
    """A report with the entries of the lists, before any video is inspected. UserError as for `check_lists`."""
    report = DatasetReport(rules, dict(files))
    for name, file in files.items():
        before = len(report.entries) + len(report.findings)
        read_entries(name, file, report)
        if len(report.entries) + len(report.findings) == before:
            raise UserError(f"the list {file} is empty: it needs lines of the form: path num_frames label")
    return report


def finish_report(report: DatasetReport) -> DatasetReport:
    """Add all findings to a report whose videos have been inspected."""
    report.add_video_findings()
    _check_labels(report)
    _check_spellings(report)
    _check_copies(report)
    _check_recordings(report)
    order = {(kind, name): (i, j) for i, kind in enumerate(KINDS) for j, name in enumerate(report.files)}
    report.findings.sort(key=lambda finding: (*order[finding.kind, finding.list], finding.line))
    return report


def inspect_videos(rules: Rules, wanted: Sequence[tuple[str, Optional[int]]],
                   workers: int) -> dict[tuple[str, Optional[int]], VideoReport]:
    """Inspect videos, given as (path, num_frames), `workers` at a time."""
    videos = {}
    with ThreadPool(workers) as pool, progress(total=len(wanted), desc="checking", unit="video") as bar:
        for key, video in zip(wanted, pool.imap(lambda key: _inspect(rules, *key), wanted)):
            videos[key] = video
            bar.update()
    return videos


def _inspect(rules: Rules, path: str, num_frames: Optional[int]) -> VideoReport:
    count = None if num_frames is None else num_frames // rules.files_per_frame
    return inspect_video(rules.root, path, rules.template, num_frames=count, min_frames=rules.min_frames,
                         full=rules.full, data_format=rules.data_format)


def _check_labels(report: DatasetReport) -> None:
    """Labels outside the classes; labels that disagree with the name of a directory in the path."""
    names, num_class = report.rules.class_names, report.rules.num_class
    labels = [label for entry in report.entries for label in entry.labels]
    from_one = num_class is not None and labels and min(labels) == 1 and max(labels) == num_class
    by_name: dict[str, set[int]] = defaultdict(set)
    for number, name in enumerate(names or ()):
        by_name[_letters_and_digits(name)].add(number)
    for entry in report.entries:
        outside = [label for label in entry.labels if label < 0 or num_class is not None and label >= num_class]
        if outside:
            report.add_finding(entry, "label", f"label {outside[0]} is outside the classes 0 to {(num_class or 1) - 1}"
                               + (": the list numbers classes from 1, it must number them from 0" if from_one else ""))
        elif len(entry.labels) != 1 and not report.rules.multi_label:
            report.add_finding(entry, "label", f"{len(entry.labels) or 'no'} labels ({entry.label}), but each video of a"
                               " data set that is not multi-label has one")
        elif repeated := repeated_class(entry.labels):
            report.add_finding(entry, "label", f"label {repeated[0]} twice")
        elif names:
            directories = {number for part in entry.path.split("/")[:-1]
                           for number in by_name.get(_letters_and_digits(part), ())}
            if directories and not directories & set(entry.labels):
                words = " and ".join(repr(names[label]) for label in entry.labels) or "no class"
                report.add_finding(entry, "label", f"label {entry.label} is {words}, but the directory is"
                                   f" {names[min(directories)]!r} ({min(directories)})")


def _letters_and_digits(name: str) -> str:
    """A name without case, spaces and punctuation, which often differ between a class and its directory."""
    return re.sub(r"[\W_]", "", normalize("NFC", name)).lower()


def _check_spellings(report: DatasetReport) -> None:
    """Directories whose names look the same, because Unicode spells accents in two ways, but whose labels differ."""
    seen: dict[str, Entry] = {}
    for entry in report.entries:
        directory = entry.path.rpartition("/")[0]
        first = seen.setdefault(normalize("NFC", directory), entry)
        if first.label != entry.label and first.path.rpartition("/")[0] != directory:
            report.add_finding(entry, "label", f"label {entry.label}, but {first.list}:{first.line} has label {first.label}"
                               " in a directory of the same name, with accents spelled in another way (Unicode NFC and NFD)")


def _check_copies(report: DatasetReport) -> None:
    """The same path, or the same first and middle frame under several paths, in one list or two."""
    by_path: dict[str, list[Entry]] = defaultdict(list)
    by_digest: dict[str, list[Entry]] = defaultdict(list)
    for entry in report.entries:
        if not by_path[entry.path] and (digest := report.video(entry).digest):
            by_digest[digest].append(entry)
        by_path[entry.path].append(entry)
    for copies in by_path.values():
        _add_copies(report, copies, "is also in")
    for copies in by_digest.values():
        _add_copies(report, copies, "has the same first and middle frame as")


def _add_copies(report: DatasetReport, copies: Sequence[Entry], relation: str) -> None:
    """Findings for entries that are one video: within a list all but the first, across lists all but the last list's."""
    first: dict[str, Entry] = {}
    for entry in copies:
        before = first.setdefault(entry.list, entry)
        if before is not entry:
            report.add_finding(entry, "duplicate", f"{relation} {_position(before, entry)}")
        if any(other.label != entry.label for other in copies):
            other = next(other for other in copies if other.label != entry.label)
            report.add_finding(entry, "label", f"label {entry.label}, but {_position(other, entry)} has label {other.label}")
    entries = list(first.values())
    for entry in entries[:-1]:
        report.add_finding(entry, "leak", f"{relation} {_position(entries[-1], entry)}")


def _check_recordings(report: DatasetReport) -> None:
    """Clips that share frames with clips of another list. Copies are reported as leaks already."""
    entries = {(entry.list, entry.path): entry for entry in report.entries}
    looks = {entry.path: report.video(entry).looks for entry in entries.values()}
    lists: dict[str, list[Entry]] = defaultdict(list)
    for entry in entries.values():
        lists[entry.path].append(entry)
    leaks = {(finding.list, finding.line) for finding in report.findings if finding.kind == "leak"}
    partners: dict[Entry, list[tuple[Entry, Match]]] = defaultdict(list)
    for match in find_shared_frames(looks):
        for a in lists[match.clip]:
            for b in lists[match.other]:
                if a.list != b.list and not {(a.list, a.line), (b.list, b.line)} & leaks:
                    partners[a].append((b, match))
    for entry, found in partners.items():
        other, match = found[0]
        more = f" (and {len(found) - 1} more)" if len(found) > 1 else ""
        report.add_finding(entry, "recording", f"its {POSITIONS[match.position]} frame is nearly the"
                           f" {POSITIONS[match.other_position]} frame of {_position(other, entry)}{more}")


def _position(entry: Entry, other: Entry) -> str:
    """List and line of an entry, with its path where that differs from the other's."""
    return f"{entry.list}:{entry.line}" + (f" {entry.path}" if entry.path != other.path else "")


# ---- results ------------------------------------------------------------------------------------------------

def write_clean(report: DatasetReport, out: Path) -> dict[str, tuple[Path, int]]:
    """Write lists without the videos that have findings, with the right numbers of frames: list -> (file, videos).

    One list is written to `out`, several to files that end in _<list>. A video of two lists stays in the last one; of
    copies the first line stays. Harmless findings (color, count) stay. UserError, and no file, if a list would be empty.
    """
    bad = {(finding.list, finding.line) for finding in report.findings if finding.kind not in HARMLESS}
    kept = {name: [entry for entry in report.entries if entry.list == name and (name, entry.line) not in bad]
            for name in report.files}
    for name, file in report.files.items():  # all lists, before any is written
        if not kept[name]:
            raise UserError(f"fix: every video of {file} has a finding: correct the list or the videos first", "fix")
    targets = {name: clean_list(out, name, len(kept)) for name in kept}
    files_per_frame = report.rules.files_per_frame
    write_together({targets[name]: [format_line(entry.path, report.video(entry).count * files_per_frame, entry.labels)
                                    for entry in entries] for name, entries in kept.items()})
    return {name: (targets[name], len(entries)) for name, entries in kept.items()}


def clean_list(out: Path, name: str, lists: int) -> Path:
    """The file that `write_clean` writes for the list `name`, one of `lists` lists."""
    return out if lists == 1 else out.with_name(f"{out.stem}_{name.replace('/', '_')}{out.suffix}")


def summary(report: DatasetReport, name: str) -> dict[str, Any]:
    """A list in numbers: videos, classes, videos per class, frames per video, frame sizes."""
    entries = [entry for entry in report.entries if entry.list == name]
    videos = [report.video(entry) for entry in entries]
    counts = [video.count for video in videos if video.count]
    labels = Counter(label for entry in entries for label in entry.labels)
    sizes = Counter(f"{width}x{height}" for video in videos for width, height in video.sizes)
    return {"file": str(report.files[name]), "videos": len(entries), "classes": len(labels),
            "classes_known": report.rules.num_class,
            "videos_per_class": [min(labels.values()), max(labels.values())] if labels else [],
            "frames": [min(counts), round(statistics.median(counts)), max(counts)] if counts else [],
            "sizes": dict(sizes.most_common())}


def to_dict(report: DatasetReport) -> dict[str, Any]:
    return {"clean": not report.findings, "lists": {name: summary(report, name) for name in report.files},
            "counts": dict(Counter(finding.kind for finding in report.findings)),
            "findings": [asdict(finding) for finding in report.findings]}
