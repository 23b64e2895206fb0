"""Write an exported model: under a temporary name it is read, run and compared with PyTorch; then it gets its own name."""
import os
from dataclasses import replace
from pathlib import Path

from ops.common.files import temporary_directory, writing
from ops.runtimes.compare import Agreement, compare_with_torch
from ops.runtimes.exported_file import ExportedModel, describe, files_of, read_exported, write_exported
from ops.runtimes.graphs import Model
from ops.runtimes.registry import as_clip


def publish(exported: ExportedModel, output: Path, model: Model) -> tuple[ExportedModel, Agreement]:
    """Write the files of `output`, with how they compare with `model` in their metadata.

    UserError if the file cannot be written, or does not compute what PyTorch computes; then nothing is left behind.
    """
    with writing(output), temporary_directory(output) as directory:
        file = directory / output.name
        write_exported(exported, file)
        found = compare_with_torch(as_clip(read_exported(file)), model, exported.info)
        exported = describe(exported, replace(exported.info, measured={**exported.info.measured, **found.as_measured()}))
        write_exported(exported, file)
        read_exported(file)
        for written, target in reversed([*zip(files_of(file), files_of(output))]):  # the weights first
            os.replace(written, target)
    return exported, found
