"""A clip network in every runtime, in the three forms that are compared."""
import copy
from functools import lru_cache
from typing import Callable

import torch
from torch import Tensor, nn

from ops.fused_shift import fuse_temporal_shift
from ops.models import TSN
from ops.runtimes.export import OPSET, describe_model, export_model, quiet_exporter, to_openvino
from ops.runtimes.exported_file import ExportedModel, describe
from ops.runtimes.quantize import quantize_clips
from ops.runtimes.registry import open_engine

FREE, PLAIN, WITHOUT = "TSM", "plain", "TSN"  # TSM as `fuse_temporal_shift` makes it, TSM as it is, no shift
COMPILE = "torch.compile"
Run = Callable[[], Tensor]


class ClipRuntimes:
    """Opens the networks `tsm` and `tsn` for `clips`, uint8 (N, T*3, H, W). Exports each of them once, when it is needed."""

    def __init__(self, tsm: TSN, tsn: TSN, clips: Tensor) -> None:
        self.models = {FREE: tsm, PLAIN: tsm, WITHOUT: tsn}
        self.clips, self.inputs = clips, tsm.preprocessing.apply(clips)
        self._export = lru_cache(maxsize=None)(self._export_anew)

    def open(self, backend: str, precision: str) -> dict[str, Run]:
        """Form -> a function that computes the logits."""
        if backend in ("torch", COMPILE):
            forms = {form: fuse_temporal_shift(self.models[form]) for form in (FREE, WITHOUT)}
            return {form: self._run_eagerly(network, precision, backend == COMPILE)
                    for form, network in (*forms.items(), (PLAIN, self.models[PLAIN]))}
        # Only what tools/export.py writes is quantized.
        forms = (FREE, WITHOUT) if precision == "int8" else (FREE, WITHOUT, PLAIN)
        return {form: self._run_exported(form, backend, precision) for form in forms}

    def _run_eagerly(self, network: nn.Module, precision: str, compiled: bool) -> Run:
        dtype = getattr(torch, precision)
        network = copy.deepcopy(network).to(dtype).to(memory_format=torch.channels_last)
        clips = self.inputs.to(dtype)
        forward = torch.compile(network, options={"freezing": True}) if compiled else network

        @torch.no_grad()
        def run() -> Tensor:
            return forward(clips).float()
        return run

    def _run_exported(self, form: str, backend: str, precision: str) -> Run:
        engine = open_engine(self._export(form, backend, precision), backend, precision)
        return lambda: engine.run([self.inputs])[0]

    def _export_anew(self, form: str, backend: str, precision: str) -> ExportedModel:
        if backend == "openvino":
            source = self._export(form, "onnxruntime", "int8" if precision == "int8" else "float32")
            return to_openvino(source, precision)
        if precision == "int8":
            return quantize_clips(self._export(form, backend, "float32"), self.clips[:1])
        return export_model(self.models[form]) if form != PLAIN else export_plain(self.models[form])


class _Plain(nn.Module):
    """A TSN as it is; the exporter names its input after the argument."""

    def __init__(self, network: TSN) -> None:
        super().__init__()
        self.network = network

    def forward(self, clips: Tensor) -> Tensor:
        return self.network(clips)


def export_plain(model: TSN) -> ExportedModel:
    """A network exported as it is, without `fuse_temporal_shift`."""
    info = describe_model(model)
    clips = torch.zeros(2, *info.inputs["clips"])
    with quiet_exporter():
        program = torch.onnx.export(
            _Plain(model), (clips,), dynamo=True, verbose=False, opset_version=OPSET, input_names=list(info.inputs),
            output_names=list(info.outputs), dynamic_shapes={"clips": {0: torch.export.Dim("clips", min=1, max=1024)}})
    assert program is not None
    return describe(ExportedModel("onnx", program.model_proto.SerializeToString(), info), info)
