"""The record `copied.json` at the address of a run: which file was copied there, in which state."""
import io
import json
from dataclasses import asdict, dataclass
from typing import Any, Optional

from ops.remote.filesystems import Place

RECORD = "copied.json"


@dataclass(frozen=True)
class Copied:
    """A file's state when it was copied.

    saved: when it was written, in nanoseconds since 1970 on the clock of the machine that wrote it. size: bytes.
    position: how far the training was (epochs done, steps of the next one); () for files other than the last checkpoint.
    coming: the state that may be there already, because it was being copied when the record was written.
    """
    saved: int
    size: int
    position: tuple[int, ...] = ()
    coming: Optional["Copied"] = None

    def of_size(self, size: int) -> Optional["Copied"]:
        """This state or the coming one, whichever has that many bytes; None if neither has."""
        return next((state for state in (self, self.coming) if state and state.size == size), None)


NOTHING = Copied(-1, -1)  # of a file that was being copied for the first time


def read_record(place: Place) -> dict[str, Copied]:
    """File's name at the address -> its state; {} if there is no record. UserError if it is damaged."""
    record = place / RECORD
    if not record.exists():
        return {}
    try:
        found = json.loads(b"".join(record.blocks()))
        return {str(name): _state(entry) for name, entry in found.items()}
    except (ValueError, TypeError, AttributeError, KeyError, RecursionError):
        raise record.problem("it is damaged: delete it") from None


def _state(entry: Any) -> Copied:
    return Copied(int(entry["saved"]), int(entry["size"]), tuple(map(int, entry["position"])),
                  _state(entry["coming"]) if entry["coming"] else None)


def write_record(place: Place, files: dict[str, Copied]) -> None:
    """Write the record. UserError."""
    content = json.dumps({name: asdict(state) for name, state in files.items()}, indent=2)
    (place / RECORD).write(io.BytesIO(content.encode()))
