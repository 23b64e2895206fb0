"""Everything that a loader would read of a data set's lists, looked at beforehand: findings, and lists without them."""
import re
import statistics
from collections import Counter, defaultdict
from dataclasses import asdict, dataclass, field
from multiprocessing.pool import ThreadPool
from pathlib import Path
from typing import Any, Iterable, Mapping, Optional, Sequence

from ops.common.cli import progress
from ops.common.errors import UserError
from ops.common.files import atomic_write
from ops.prepare import inspect_video as video_look
from ops.prepare.inspect_video import VideoReport, inspect_video
from ops.video.discovery import frame_names, is_video_name

# What can be wrong, in the order of the report, with its meaning.
KINDS = {
    "line": "not of the form: path num_frames label",
    "label": "a label outside the classes, or of another class than the video's directory or other line",
    **video_look.KINDS,
    "duplicate": "the same video twice in a list",
    "leak": "the same video in two lists",
}
# Findings after which a clean list holds the video nevertheless (`count` with the right number).
HARMLESS = ("count", "color")


@dataclass(frozen=True)
class Entry:
    """A line of a list. num_frames: None where the line leaves it to the video file. label: 0-based."""
    list: str
    line: int
    path: str
    num_frames: Optional[int]
    label: int


@dataclass(frozen=True)
class Finding:
    """list, line: where (line from 1). kind: of KINDS."""
    list: str
    line: int
    path: str
    kind: str
    detail: str


@dataclass(frozen=True)
class Rules:
    """What the videos are held against. Classes that are None are unknown, and not judged."""
    root: Path
    template: str
    num_class: Optional[int] = None
    class_names: Optional[Sequence[str]] = None
    min_frames: int = 8
    full: bool = False
    data_format: str = "auto"

    @property
    def files_per_frame(self) -> int:
        """published behaviour: the lists of one flow layout count x and y files."""
        return 2 if self.template.count("{") == 3 else 1


@dataclass
class Report:
    """files: list name -> file. looks: what was seen, by path. clean: entries of each list without findings."""
    rules: Rules
    files: dict[str, Path]
    entries: list[Entry] = field(default_factory=list)
    looks: dict[tuple[str, Optional[int]], VideoReport] = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)

    def blame(self, entry: Entry, kind: str, detail: str) -> None:
        self.findings.append(Finding(entry.list, entry.line, entry.path, kind, detail))

    def look(self, entry: Entry) -> VideoReport:
        return self.looks[entry.path, entry.num_frames]


# ---- reading lists ------------------------------------------------------------------------------------------

_LINE = re.compile(r"(?P<path>.*\S)\s+(?P<frames>-?[0-9]{1,9})\s+(?P<label>-?[0-9]{1,9})")
_UNCOUNTED = re.compile(r"(?P<path>.*\S)\s+(?P<label>-?[0-9]{1,9})")


def read_entries(name: str, file: Path, report: Report) -> None:
    """Add the entries of a list to the report, and findings for the lines that are none. UserError: no such list."""
    try:
        lines = file.read_text(encoding="utf-8-sig").split("\n")
    except (OSError, ValueError) as error:
        raise UserError(f"cannot read the list {file}: {getattr(error, 'strerror', None) or error}") from None
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        entry = _entry(name, number, line.strip())
        if entry is None:
            report.findings.append(Finding(name, number, line.strip()[:80], "line", "not: path num_frames label"))
        else:
            report.entries.append(entry)


def _entry(name: str, number: int, line: str) -> Optional[Entry]:
    if match := _LINE.fullmatch(line):
        return Entry(name, number, match["path"], int(match["frames"]), int(match["label"]))
    if (match := _UNCOUNTED.fullmatch(line)) and is_video_name(match["path"]):
        return Entry(name, number, match["path"], None, int(match["label"]))
    return None


def guess_template(root: Path, lists: Iterable[Path], default: str) -> str:
    """How frames are called in the first frame directory that a list names."""
    for file in lists:
        report = Report(Rules(root, default), {})
        read_entries("", file, report)
        for entry in report.entries:
            if (root / entry.path).is_dir():
                try:
                    return frame_names(root / entry.path).template
                except UserError:
                    continue
    return default


# ---- looking ------------------------------------------------------------------------------------------------

def check_lists(files: Mapping[str, Path], rules: Rules, workers: int) -> Report:
    """Look at every video of the lists, `workers` at a time. UserError when a list cannot be read or is empty."""
    report = Report(rules, dict(files))
    for name, file in files.items():
        before = len(report.entries) + len(report.findings)
        read_entries(name, file, report)
        if len(report.entries) + len(report.findings) == before:
            raise UserError(f"the list {file} is empty: it needs lines of the form: path num_frames label")
    wanted = list(dict.fromkeys((entry.path, entry.num_frames) for entry in report.entries))
    with ThreadPool(workers) as pool, progress(total=len(wanted), desc="checking", unit="video") as bar:
        for key, look in zip(wanted, pool.imap(lambda key: _look(rules, *key), wanted)):
            report.looks[key] = look
            bar.update()
    for entry in report.entries:
        for kind, detail in report.look(entry).faults.items():
            report.blame(entry, kind, detail)
    _judge_labels(report)
    _judge_copies(report)
    order = {(kind, name): (i, j) for i, kind in enumerate(KINDS) for j, name in enumerate(files)}
    report.findings.sort(key=lambda finding: (*order[finding.kind, finding.list], finding.line))
    return report


def _look(rules: Rules, path: str, num_frames: Optional[int]) -> VideoReport:
    count = None if num_frames is None else num_frames // rules.files_per_frame
    return inspect_video(rules.root, path, rules.template, count, rules.min_frames, rules.full, rules.data_format)


def _judge_labels(report: Report) -> None:
    names, num_class = report.rules.class_names, report.rules.num_class
    labels = [entry.label for entry in report.entries]
    shifted = num_class is not None and labels and min(labels) == 1 and max(labels) == num_class
    by_name: dict[str, set[int]] = defaultdict(set)
    for number, name in enumerate(names or ()):
        by_name[_plain(name)].add(number)
    for entry in report.entries:
        if entry.label < 0 or num_class is not None and entry.label >= num_class:
            report.blame(entry, "label", f"label {entry.label} is outside the classes 0 to {(num_class or 1) - 1}"
                         + (": the list counts from 1, it must count from 0" if shifted else ""))
        elif names:
            directories = {number for part in entry.path.split("/")[:-1] for number in by_name.get(_plain(part), ())}
            if directories and entry.label not in directories:
                report.blame(entry, "label", f"label {entry.label} is {names[entry.label]!r}, the directory says"
                             f" {names[min(directories)]!r} ({min(directories)})")


def _plain(name: str) -> str:
    """A class or directory name without what data sets change between the two: case, spaces, signs."""
    return re.sub(r"[\W_]", "", name).lower()


def _judge_copies(report: Report) -> None:
    """The same path, or the same first and middle image under several paths, in one list or two."""
    by_path: dict[str, list[Entry]] = defaultdict(list)
    by_digest: dict[str, list[Entry]] = defaultdict(list)
    for entry in report.entries:
        if not by_path[entry.path] and (digest := report.look(entry).digest):
            by_digest[digest].append(entry)
        by_path[entry.path].append(entry)
    for copies in by_path.values():
        _judge_copy(report, copies, "stands in")
    for copies in by_digest.values():
        _judge_copy(report, copies, "shows the first and middle image of")


def _judge_copy(report: Report, copies: Sequence[Entry], words: str) -> None:
    """The first of each list counts; what comes after it is a copy, and what another list has too, a leak."""
    first: dict[str, Entry] = {}
    for entry in copies:
        before = first.setdefault(entry.list, entry)
        if before is not entry:
            report.blame(entry, "duplicate", f"{words} {_place(before, entry)} too")
        if any(other.label != entry.label for other in copies):
            other = next(other for other in copies if other.label != entry.label)
            report.blame(entry, "label", f"label {entry.label}, but {_place(other, entry)} has label {other.label}")
    entries = list(first.values())
    for entry in entries[:-1]:
        report.blame(entry, "leak", f"{words} {_place(entries[-1], entry)} too")


def _place(entry: Entry, other: Entry) -> str:
    return f"{entry.list}:{entry.line}" + (f" {entry.path}" if entry.path != other.path else "")


# ---- what comes of it ---------------------------------------------------------------------------------------

def write_clean(report: Report, out: Path) -> dict[str, tuple[Path, int]]:
    """Lists without the videos that have findings, with the right numbers of frames: list -> (file, videos).

    One list goes to `out`; several to names that end in _<list>. A video of two lists stays in the last one, a copy's
    first line stays. Harmless findings (color, count) are kept. UserError, and no file, when nothing would be left of
    a list.
    """
    bad = {(finding.list, finding.line) for finding in report.findings if finding.kind not in HARMLESS}
    kept = {name: [entry for entry in report.entries if entry.list == name and (name, entry.line) not in bad]
            for name in report.files}
    for name, file in report.files.items():  # of all lists before any is written
        if not kept[name]:
            raise UserError(f"--fix: every video of {file} has a finding: correct what is wrong first")
    targets = {name: clean_list(out, name, len(kept)) for name in kept}
    for name, entries in kept.items():
        counts = [report.look(entry).count * report.rules.files_per_frame for entry in entries]
        with atomic_write(targets[name]) as f:
            f.writelines(f"{entry.path} {count} {entry.label}\n" for entry, count in zip(entries, counts))
    return {name: (targets[name], len(entries)) for name, entries in kept.items()}


def clean_list(out: Path, name: str, lists: int) -> Path:
    """The file that --fix OUT writes for one of `lists` lists."""
    return out if lists == 1 else out.with_name(f"{out.stem}_{name}{out.suffix}")


def summary(report: Report, name: str) -> dict[str, Any]:
    """A list in numbers: videos, classes, videos per class, frames per video, sizes of frames."""
    entries = [entry for entry in report.entries if entry.list == name]
    looks = [report.look(entry) for entry in entries]
    counts = [look.count for look in looks if look.count]
    labels = Counter(entry.label for entry in entries)
    sizes = Counter(f"{width}x{height}" for look in looks for width, height in look.sizes)
    return {"file": str(report.files[name]), "videos": len(entries), "classes": len(labels),
            "classes_known": report.rules.num_class,
            "videos_per_class": [min(labels.values()), max(labels.values())] if labels else [],
            "frames": [min(counts), round(statistics.median(counts)), max(counts)] if counts else [],
            "sizes": dict(sizes.most_common())}


def to_dict(report: Report) -> dict[str, Any]:
    return {"clean": not report.findings, "lists": {name: summary(report, name) for name in report.files},
            "counts": dict(Counter(finding.kind for finding in report.findings)),
            "findings": [asdict(finding) for finding in report.findings]}


def page(report: Report, examples: int = 3) -> list[str]:
    """The report in lines, few enough for one page: each list, then each kind of finding with its first examples."""
    lines = [_summary_line(name, summary(report, name)) for name in report.files]
    for kind, meaning in KINDS.items():
        found = [finding for finding in report.findings if finding.kind == kind]
        if not found:
            continue
        lines.append(f"{kind} ({len(found)}): {meaning}")
        lines += [f"    {f.list}:{f.line} {f.path}: {f.detail}" for f in found[:examples]]
        lines += [f"    ... and {len(found) - examples} more (all of them: --json)"] if len(found) > examples else []
    total = len({(finding.list, finding.line) for finding in report.findings})
    return [*lines, f"{len(report.findings)} findings in {total} of {len(report.entries)} lines" if total else
            f"clean: {len(report.entries)} videos"]


def _summary_line(name: str, numbers: dict[str, Any]) -> str:
    known = f" of {numbers['classes_known']}" if numbers["classes_known"] is not None else ""
    parts = [f"{numbers['videos']} videos", f"{numbers['classes']}{known} classes"]
    if numbers["videos_per_class"]:
        parts[-1] += " of {} to {} videos".format(*numbers["videos_per_class"])
    if numbers["frames"]:
        parts.append("{0} to {2} frames, median {1}".format(*numbers["frames"]))
    if numbers["sizes"]:
        parts.append("pixels: " + ", ".join(f"{size} ({n})" for size, n in list(numbers["sizes"].items())[:3])
                     + ", ..." * (len(numbers["sizes"]) > 3))
    return f"{name}: {numbers['file']}: " + "; ".join(parts)
