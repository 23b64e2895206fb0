"""Read the scalars of TensorBoard's event files as TensorBoard shows them."""
import struct
from pathlib import Path

from tensorboardX.proto.event_pb2 import Event, SessionLog


def events(path: Path) -> list[Event]:
    """The events of a file; an incomplete last one is left out."""
    content, found, at = path.read_bytes(), [], 0
    while at + 12 <= len(content):
        length, = struct.unpack_from("<Q", content, at)  # then 4 bytes of checksum, the event, 4 bytes of checksum
        if at + 16 + length > len(content):
            break
        found.append(Event.FromString(content[at + 12:at + 12 + length]))
        at += 16 + length
    return found


def scalars(directory: Path) -> dict[str, list[tuple[int, float]]]:
    """{tag: (step, value) in order}, without the values that a later start of the run has purged."""
    shown: dict[str, list[tuple[int, float]]] = {}
    for path in sorted(directory.glob("events.out.tfevents.*")):
        for event in events(path):
            if event.session_log.status == SessionLog.START:
                shown = {tag: [row for row in rows if row[0] < event.step] for tag, rows in shown.items()}
            for value in event.summary.value:
                shown.setdefault(value.tag, []).append((event.step, value.simple_value))
    return shown
