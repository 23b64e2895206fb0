"""What trackers have stored on this machine, without a network."""
import json
import sqlite3
import struct
from pathlib import Path
from typing import Any, Iterator, NamedTuple


class Tracked(NamedTuple):
    """A tracked run. rows: (epoch, scalars) in order. settings: as text. ends: how it was closed, each time."""
    name: str
    settings: dict[str, str]
    rows: list[tuple[int, dict[str, float]]]
    ends: list[Any]


def environment(root: Path) -> dict[str, str]:
    """The variables with which every tracker stores below `root` and uses no network."""
    return {"WANDB_MODE": "offline", "TRACKIO_DIR": str(root / "trackio"),
            "MLFLOW_TRACKING_URI": f"sqlite:///{root / 'mlflow.db'}"}


def tracked(kind: str, root: Path, log: Path) -> list[Tracked]:
    """The runs that a tracker has stored. root: of `environment`; log: the run's log directory."""
    return {"wandb": lambda: _wandb(log), "trackio": lambda: _trackio(root), "mlflow": lambda: _mlflow(root)}[kind]()


def _wandb(log: Path) -> list[Tracked]:
    """Each start of a run is a file of its own; those of one id are one run."""
    runs: dict[str, Tracked] = {}
    for path in sorted(log.rglob("*.wandb"), key=lambda path: path.stat().st_mtime_ns):
        for record in _records(path):
            if record.HasField("run"):
                run = runs.setdefault(record.run.run_id, Tracked(record.run.display_name, {}, [], []))
                for entry in record.run.config.update:
                    run.settings.setdefault(entry.key, str(json.loads(entry.value_json)))
            elif record.HasField("history"):
                values = {item.key or ".".join(item.nested_key): json.loads(item.value_json) for item in record.history.item}
                run.rows.append((int(values["_step"]), _scalars(values)))
            elif record.HasField("exit"):
                run.ends.append(bool(record.exit.exit_code))
    return list(runs.values())


def _records(path: Path) -> Iterator[Any]:
    """The records of a .wandb file: LevelDB's log format, in blocks of 32 KiB, after 7 bytes of its own."""
    from wandb.proto import wandb_internal_pb2
    data, at, record = path.read_bytes(), 7, b""
    while at + 7 <= len(data):
        left = 32768 - at % 32768
        if left < 7:
            at += left
            continue
        _, length, kind = struct.unpack_from("<IHB", data, at)
        record += data[at + 7:at + 7 + length]
        at += 7 + length
        if kind in (1, 4):  # a whole record, or the end of one
            yield wandb_internal_pb2.Record.FromString(record)
            record = b""


def _trackio(root: Path) -> list[Tracked]:
    with sqlite3.connect(root / "trackio" / "tsm.db") as store:
        rows = store.execute("SELECT run_name, step, metrics FROM metrics ORDER BY id").fetchall()
        settings = dict(store.execute("SELECT run_name, config FROM configs").fetchall())
    return [Tracked(name, {key: str(value) for key, value in json.loads(settings[name]).items()},
                    [(step, _scalars(json.loads(values))) for run, step, values in rows if run == name], [])
            for name in dict.fromkeys(row[0] for row in rows)]


def _mlflow(root: Path) -> list[Tracked]:
    found = []
    with sqlite3.connect(root / "mlflow.db") as store:
        for run, name, status in store.execute("SELECT run_uuid, name, status FROM runs").fetchall():
            rows: dict[int, dict[str, float]] = {}
            for key, value, step in store.execute("SELECT key, value, step FROM metrics WHERE run_uuid = ?", [run]):
                assert key not in rows.setdefault(step, {}), "once per epoch"
                rows[step][key] = value
            settings = dict(store.execute("SELECT key, value FROM params WHERE run_uuid = ?", [run]).fetchall())
            found.append(Tracked(name, settings, sorted(rows.items()), [status == "FAILED"]))
    return found


def _scalars(values: dict[str, Any]) -> dict[str, float]:
    return {key: value for key, value in values.items() if not key.startswith("_")}
