"""Exported files: ONNX (.onnx), OpenVINO (.xml, and its weights in a .bin), torch.export (.pt2) and LiteRT (.tflite).

Each holds a `ModelInfo` as JSON under the name `tsm`: in ONNX as an entry of metadata_props, in OpenVINO of rt_info, in a
.pt2 as the file extra/tsm.json of the archive, in a .tflite as the file tsm.json of a zip archive behind the model, which is
where LiteRT's own tools put files. Reading one runs no code in it.
"""
import io
import json
import zipfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Callable, Iterator, Optional
from xml.etree import ElementTree

import torch

from ops.common.choices import EXPORT_FORMATS
from ops.common.errors import UserError, shown
from ops.common.extras import import_extra
from ops.common.files import atomic_write
from ops.runtimes.archive import checked_copy
from ops.runtimes.model_info import DAMAGED, METADATA_KEY, ModelInfo
from ops.weights import check_finite

AGAIN = "export it again with tools/export.py"
_EXTRA = f"extra/{METADATA_KEY}.json"


@dataclass(frozen=True)
class ExportedModel:
    """An exported model in memory. content: of its .onnx, .xml or .pt2 file. weights: of the .bin beside an .xml."""
    format: str
    content: bytes
    info: ModelInfo
    weights: bytes = b""

    @property
    def size(self) -> int:
        """Bytes of its files."""
        return len(self.content) + len(self.weights)


def format_of(path: Path) -> Optional[str]:
    """The format of EXPORT_FORMATS that a file's name stands for; None for other names."""
    return next((name for name, ending in EXPORT_FORMATS.items() if path.name.lower().endswith(ending)), None)


def files_of(path: Path) -> list[Path]:
    """The files of an exported model that is named by its main one."""
    return [path, path.with_suffix(".bin")] if format_of(path) == "openvino" else [path]


def exported_path(weights: Path, precision: str = "float32", *, kind: str = "online", format: str = "onnx") -> Path:
    """The default path of a model exported from a weight file: beside it, `NAME[.clip][.precision].onnx` and the like."""
    name = weights.name
    for ending in (".tar", ".pth", ".pt"):
        name = name.removesuffix(ending)
    short = {"float32": "", "float16": ".fp16", "bfloat16": ".bf16"}.get(precision, f".{precision}")
    return weights.with_name(f"{name}{'.clip' * (kind == 'clip')}{short}{EXPORT_FORMATS[format]}")


# ---- writing ----------------------------------------------------------------------------------------------------

def write_exported(model: ExportedModel, path: Path) -> None:
    """Write each file whole or not at all, the weights first. CannotWrite if that fails."""
    if model.weights:
        with atomic_write(path.with_suffix(".bin"), "wb") as file:
            file.write(model.weights)
    with atomic_write(path, "wb") as file:
        file.write(model.content)


def describe(model: ExportedModel, info: ModelInfo) -> ExportedModel:
    """The same model with other metadata."""
    return replace(model, content=_FORMATS[model.format].embed(model.content, info.to_json()), info=info)


def _embed_in_onnx(content: bytes, text: str) -> bytes:
    onnx = import_extra("onnx")
    proto = onnx.load_from_string(content)
    onnx.helper.set_model_props(proto, {METADATA_KEY: text})
    return proto.SerializeToString()


def _embed_in_xml(content: bytes, text: str) -> bytes:
    root = ElementTree.fromstring(content)
    notes = root.find("rt_info")
    notes = ElementTree.SubElement(root, "rt_info") if notes is None else notes
    for old in notes.findall(METADATA_KEY):
        notes.remove(old)
    ElementTree.SubElement(notes, METADATA_KEY, {"value": text})
    return ElementTree.tostring(root, encoding="utf-8", xml_declaration=True)


def _embed_in_archive(content: bytes, text: str) -> bytes:
    copy = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as source, zipfile.ZipFile(copy, "w", zipfile.ZIP_STORED) as target:
        root = source.namelist()[0].split("/")[0]
        for name in source.namelist():
            if name != f"{root}/{_EXTRA}":
                target.writestr(name, source.read(name))
        target.writestr(f"{root}/{_EXTRA}", text)
    return copy.getvalue()


def _embed_in_tflite(content: bytes, text: str) -> bytes:
    packed = io.BytesIO(_without_archive(content))
    packed.seek(0, io.SEEK_END)
    with zipfile.ZipFile(packed, "a", zipfile.ZIP_STORED) as archive:
        archive.writestr(zipfile.ZipInfo(f"{METADATA_KEY}.json"), text)  # without the date, which would differ
    return packed.getvalue()


def _without_archive(content: bytes) -> bytes:
    """A .tflite file's model alone."""
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            return content[:min(entry.header_offset for entry in archive.infolist())]
    except zipfile.BadZipFile:
        return content


# ---- reading ----------------------------------------------------------------------------------------------------

def read_exported(path: Path) -> ExportedModel:
    """Read an exported model. UserError unless the file is one that this version of this code wrote, and is safe to load."""
    format = format_of(path)
    if format is None:
        raise UserError(f"{path} is not an exported model: its name ends in {', '.join(EXPORT_FORMATS.values())}")
    weights = b""
    try:
        content = path.read_bytes()
        if format == "openvino":
            weights = path.with_suffix(".bin").read_bytes()
    except OSError as error:
        raise UserError(f"cannot read {error.filename or path}: {error.strerror or error}") from None
    info = _FORMATS[format].read(content, path)
    if format == "torch":
        content = _safe_archive(content, path)
    return ExportedModel(format, content, info, weights)


def _info(text: Optional[str], path: Path) -> ModelInfo:
    if text is None:
        raise UserError(f"{path} has no metadata {METADATA_KEY!r}: it was not written by tools/export.py, or by an older"
                        f" version: {AGAIN}")
    try:
        return ModelInfo.from_json(text)
    except DAMAGED as error:
        raise _damaged(path, error) from None


def _damaged(path: Path, error: Exception) -> UserError:
    reason = f"{error} is missing" if isinstance(error, KeyError) else error
    return UserError(f"{path} is damaged or was written by another version: its metadata {METADATA_KEY!r}:"
                     f" {shown(reason)[:200]}: {AGAIN}")


def _read_onnx(content: bytes, path: Path) -> ModelInfo:
    onnx, protobuf = import_extra("onnx"), import_extra("google.protobuf.message")
    try:
        model = onnx.load_from_string(content)
    except protobuf.DecodeError:
        raise UserError(f"{path} is not a readable ONNX file: {AGAIN}") from None
    info = _info({entry.key: entry.value for entry in model.metadata_props}.get(METADATA_KEY), path)
    graph = model.graph
    try:
        _check_graph(graph, info)
    except DAMAGED as error:
        raise _damaged(path, error) from None
    external = onnx.TensorProto.EXTERNAL
    for message in _messages(model):
        if isinstance(message, onnx.TensorProto) and (message.data_location == external or message.external_data):
            raise UserError(f"{path}: the values of {shown(message.name)} are in another file, which is not read: {AGAIN}")
    numpy_helper = import_extra("onnx.numpy_helper")
    check_finite({value.name: torch.from_numpy(numpy_helper.to_array(value).copy()) for value in graph.initializer},
                 str(path))
    return info


def _messages(message: Any) -> Iterator[Any]:
    """A protobuf message and all those inside it: graphs, nodes, their attributes, tensors."""
    yield message
    for field, value in message.ListFields():
        if field.message_type is not None:
            for part in [value] if hasattr(value, "ListFields") else value:
                yield from _messages(part)


def _check_graph(graph: Any, info: ModelInfo) -> None:
    """ValueError if the graph has other inputs and outputs than its metadata says."""
    entry = json.loads(info.to_json())
    for what, values in (("inputs", graph.input), ("outputs", graph.output)):
        found = {value.name: [dim.dim_param or dim.dim_value for dim in value.type.tensor_type.shape.dim]
                 for value in values}
        if found != entry[what]:
            raise ValueError(f"its {what} are not the graph's")


def _read_xml(content: bytes, path: Path) -> ModelInfo:
    try:
        if b"<!" in content:  # a document type, which could define entities
            raise ElementTree.ParseError("it has a document type")
        root = ElementTree.fromstring(content)
    except (ElementTree.ParseError, ValueError) as error:
        raise UserError(f"{path} is not a readable OpenVINO file ({shown(error)}): {AGAIN}") from None
    entry = root.find(f"rt_info/{METADATA_KEY}")
    return _info(None if entry is None else entry.get("value"), path)


def _read_archive(content: bytes, path: Path) -> ModelInfo:
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            names = [name for name in archive.namelist() if name.endswith(f"/{_EXTRA}")]
            text = archive.read(names[0]).decode() if names else None
    except Exception as error:  # zipfile raises many kinds for a damaged archive
        raise _unreadable_archive(path, error) from None
    return _info(text, path)


def _safe_archive(content: bytes, path: Path) -> bytes:
    """What of an archive was checked and may be loaded."""
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            return checked_copy(archive, _EXTRA)
    except UserError:
        raise
    except Exception as error:
        raise _unreadable_archive(path, error) from None


def _unreadable_archive(path: Path, error: Exception) -> UserError:
    return UserError(f"{path} is not a readable torch.export file ({shown(error)[:200]}): {AGAIN}")


def _read_tflite(content: bytes, path: Path) -> ModelInfo:
    if content[4:8] != b"TFL3":
        raise UserError(f"{path} is not a readable LiteRT file: {AGAIN}")
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            text = archive.read(f"{METADATA_KEY}.json").decode()
    except (zipfile.BadZipFile, KeyError):
        text = None
    except Exception as error:  # zipfile raises many kinds for a damaged archive
        raise _damaged(path, error) from None
    return _info(text, path)


@dataclass(frozen=True)
class _Format:
    """How metadata get into a file's content, and how they are read from it and checked against it."""
    embed: Callable[[bytes, str], bytes]
    read: Callable[[bytes, Path], ModelInfo]


_FORMATS = {"onnx": _Format(_embed_in_onnx, _read_onnx), "openvino": _Format(_embed_in_xml, _read_xml),
            "torch": _Format(_embed_in_archive, _read_archive),
            "litert": _Format(_embed_in_tflite, _read_tflite)}
