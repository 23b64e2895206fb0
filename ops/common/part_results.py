"""The results of the parts of a job array, each in a file of its own, until the last part joins them.

A directory of results belongs to one division of one piece of work; a part that is run again replaces its own result.
"""
import json
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Iterator, Mapping, Optional

from ops.common.errors import UserError
from ops.common.files import agree_on_settings, atomic_write, remove_leftovers_of, writing
from ops.common.locks import one_at_a_time, only_run
from ops.common.part import Part

SETTINGS = "parts.json"


@dataclass(frozen=True)
class PartResults:
    """The results of all parts, in `directory`; this process does `part`."""
    directory: Path
    part: Part

    def store(self, result: Any) -> Optional[list[Any]]:
        """Store this part's result, plain values; returns those of all parts, in order, or None while some are missing.

        Of parts that end at the same time, one gets all results. UserError for a damaged file of another part.
        """
        files = [self._file(number) for number in range(1, self.part.count + 1)]
        with writing(self.directory), one_at_a_time(self.directory, self.part):
            with atomic_write(self._file(self.part.number)) as f:
                json.dump(result, f)
            return [_read(file) for file in files] if all(file.exists() for file in files) else None

    def missing(self) -> list[Part]:
        """The parts without a result."""
        return [Part(number, self.part.count) for number in range(1, self.part.count + 1)
                if not self._file(number).exists()]

    def _file(self, number: int) -> Path:
        return self.directory / f"part-{number}-of-{self.part.count}.json"


@contextmanager
def part_results(directory: Path, part: Part, settings: Mapping[str, Any]) -> Iterator[PartResults]:
    """Hold a part's place in a directory of results while it works.

    settings: what decides the results, so that all parts do the same work.
    UserError when another process does this part, or the directory has results of other settings; CannotWrite. Errors of the
    work are not changed.
    """
    results = PartResults(directory, part)
    with ExitStack() as held:
        with writing(directory):
            directory.mkdir(parents=True, exist_ok=True)
            held.enter_context(only_run(directory, part))
            with one_at_a_time(directory, part):
                remove_leftovers_of([directory / SETTINGS, results._file(part.number)])
                agree_on_settings(directory / SETTINGS, {"parts": part.count, **settings}, content="results")
        yield results


def _read(file: Path) -> Any:
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise UserError(f"{file} is damaged ({error}): delete it and run that part again") from None
