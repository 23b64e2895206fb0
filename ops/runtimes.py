"""The online model in other runtimes: PyTorch made ready for speed, ONNX Runtime, OpenVINO; all step alike.

    model = open_runtime("openvino", OnlineTSM("online.pth.tar"))
    stream = Stream(model)

onnxruntime and openvino run the exported step (`ops.export_onnx`) on the CPU; they are extras, imported when asked for.
"""
import copy
import logging
import threading
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any, Callable, Optional, Sequence, TypeVar, Union

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from ops.errors import UserError
from ops.export_onnx import Exported, StepInfo, describe_step, export_step, exported_path, import_extra, read_exported
from ops.online import OnlineTSM
from ops.pool import cores
from ops.runtime import pick_device
from ops.transforms import normalize_clips

log = logging.getLogger(__name__)

BACKENDS = ("torch", "onnxruntime", "openvino")
PRECISIONS = ("float32", "bfloat16", "int8")
MAX_COMPILED = 8  # batch sizes that OpenVINO keeps ready at a time
PART = 4  # streams that OpenVINO computes in one batch, where there are enough for every core
State = tuple[Tensor, ...]
Loaded = TypeVar("Loaded")


class Runtime:
    """What `ops.stream.Stream` drives: an `OnlineTSM` computed by something else (`ops.stream.StepModel`).

    settings, class_names, preprocessing: the model's. Tensors in and out are torch's; a state belongs to the runtime
    that gave it, is never written to again, and may be stepped from twice. Several threads may share one runtime.
    """

    def __init__(self, like: Union[OnlineTSM, StepInfo]) -> None:
        self.settings = like.settings
        self.class_names = like.class_names
        self.preprocessing = like.preprocessing

    @staticmethod
    def check(precision: str) -> None:
        """UserError when the package is missing or this precision cannot be had here."""
        raise AssertionError("a runtime says what it needs")

    def initial_state(self, batch: int = 1, height: Optional[int] = None, width: Optional[int] = None) -> State:
        """The memories before the first frame of `batch` streams; height, width: of the frames, pixels."""
        raise AssertionError("a runtime says what its state is")

    def step(self, frames: Tensor, state: Sequence[Tensor]) -> tuple[Tensor, State]:
        """The next frame of each stream, (B, 3, H, W), normalised, and the last state -> (logits (B, num_class)
        float32, new state). UserError for a state that does not belong to such frames.
        """
        raise AssertionError("a runtime says how it steps")

    def prepare(self, frames: Tensor) -> Tensor:
        """uint8 (B, 3, H, W) in the model's colour order, scaled and cropped -> what `step` takes."""
        p = self.preprocessing
        return normalize_clips(frames, p["mean"], p["std"], div=p["range"] == 1)


def open_runtime(backend: str, online: OnlineTSM, device: Union[str, torch.device] = "auto",
                 weights: Optional[Path] = None, precision: str = "float32") -> Runtime:
    """An online model ready to step in `backend`; `online` itself stays as it is.

    backend: one of BACKENDS. device: where torch runs; the others run on the CPU and say so when asked for another.
    weights: the file that `online` was read from; a step exported beside it by tools/export_onnx.py is used when it is
    this model's, which saves exporting it again (seconds). precision: of the inside, one of PRECISIONS; frames and
    logits are float32 either way. bfloat16 is faster on processors that have it, and rounds to three digits. int8 is
    faster still; it needs the file that `tools/export_onnx.py --int8` calibrates (`ops.quantize` makes one in memory).
    UserError for an unknown name, a missing package or file, or a precision that the backend or processor lacks.
    """
    for option, value, allowed in (("--backend", backend, BACKENDS), ("--precision", precision, PRECISIONS)):
        if value not in allowed:
            raise UserError(f"{option} {value!r}: choose {', '.join(allowed)}")
    check(backend, precision)  # before seconds of exporting
    if backend == "torch":
        return TorchRuntime(online, pick_device(str(device)), precision)
    # No torch.device: OpenVINO's own names (GPU) are none of its.
    if str(device).partition(":")[0].lower() not in ("auto", "cpu"):
        log.warning("warning: --backend %s runs on the CPU: --device %s does nothing", backend, device)
    exported = _calibrated(online, weights) if precision == "int8" else _exported(online, weights)
    # The file beside the weights may be older than their class names, which are not in its fingerprint.
    info = replace(exported.info, class_names=online.class_names, preprocessing=online.preprocessing)
    return open_exported(backend, replace(exported, info=info), precision)


def check(backend: str, precision: str) -> None:
    """UserError when the backend's package is missing, or it has not this precision here."""
    (TorchRuntime if backend == "torch" else EXPORTED[backend]).check(precision)


def open_exported(backend: str, exported: Exported, precision: str = "float32") -> "ExportedRuntime":
    """An exported step ready in onnxruntime or openvino; else as `open_runtime`. An int8 step runs as int8 alone."""
    check(backend, precision)
    if (exported.info.precision == "int8") != (precision == "int8"):
        raise UserError(f"--precision {precision}: this exported step computes {exported.info.precision}")
    return EXPORTED[backend](exported, precision)


def _exported(online: OnlineTSM, weights: Optional[Path]) -> Exported:
    """The step of `online`: from the file beside its weights if that is this model's, else exported now."""
    path = exported_path(weights) if weights else None
    if path and path.exists():
        exported = read_exported(path)
        if (exported.info.precision, exported.info.fingerprint) == ("float32", describe_step(online).fingerprint):
            return exported
        log.warning("warning: %s is another model's step, or another size's: not used; write it anew with python"
                    " tools/export_onnx.py %s", path, weights)
    elif path:
        log.info("exporting the step (some seconds); python tools/export_onnx.py %s does it once for all", weights)
    return export_step(online)


def _calibrated(online: OnlineTSM, weights: Optional[Path]) -> Exported:
    """The int8 step beside the weights of `online`; UserError with the way to make it where there is none of them."""
    path = exported_path(weights, "int8") if weights else None
    way = f"make it with python tools/export_onnx.py {weights or 'WEIGHTS'} --int8 VIDEO"
    if path is None or not path.exists():
        raise UserError(f"--precision int8 needs a step that was calibrated on frames like those it will see"
                        f"{f', and {path} is not there' if path else ''}: {way}")
    exported = read_exported(path)
    if (exported.info.precision, exported.info.fingerprint) != ("int8", describe_step(online).fingerprint):
        raise UserError(f"{path} is not the int8 step of {weights} at this size: {way}")
    return exported


# ---- PyTorch ------------------------------------------------------------------------------------------------

class TorchRuntime(Runtime):
    """Eager PyTorch on any device: norms folded into convolutions, channels last in memory."""

    def __init__(self, online: OnlineTSM, device: torch.device, precision: str = "float32") -> None:
        super().__init__(online)
        self.model = copy.deepcopy(online).cpu()
        fold_norms(self.model)
        dtype = {"float32": torch.float32, "bfloat16": torch.bfloat16}[precision]
        self.model.to(device, dtype).to(memory_format=torch.channels_last)

    @staticmethod
    def check(precision: str) -> None:
        if precision == "int8":
            raise UserError("--precision int8 --backend torch: PyTorch computes float32 and bfloat16 here: choose one of"
                            " them, or another backend")

    def initial_state(self, batch: int = 1, height: Optional[int] = None, width: Optional[int] = None) -> State:
        return self.model.initial_state(batch, height, width)

    @torch.no_grad()
    def step(self, frames: Tensor, state: Sequence[Tensor]) -> tuple[Tensor, State]:
        like = next(self.model.parameters())
        frames = frames.to(like.device, like.dtype, memory_format=torch.channels_last)
        logits, after = self.model.step(frames, state)
        return logits.float(), after


def fold_norms(online: OnlineTSM) -> None:
    """Fold each BatchNorm2d into the convolution in front of it, in place: the same answers up to rounding."""
    for conv_name, norm_name in _find_norms(online).items():
        conv, norm = online.get_submodule(conv_name), online.get_submodule(norm_name)
        assert isinstance(conv, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d)
        _replace(online, conv_name, fuse_conv_bn_eval(conv, norm).requires_grad_(False))
        _replace(online, norm_name, nn.Identity())


def _find_norms(online: OnlineTSM) -> dict[str, str]:
    """convolution -> the norm that takes its output, by name; found by sending a frame through."""
    outputs: dict[str, Tensor] = {}
    found: dict[str, str] = {}

    def keep(name: str) -> Callable:
        return lambda module, args, output: outputs.__setitem__(name, output)

    def match(name: str) -> Callable:
        return lambda module, args: found.update({conv: name for conv, output in outputs.items() if output is args[0]})

    state = online.initial_state()
    hooks = []
    for name, module in online.named_modules():
        if isinstance(module, nn.Conv2d):
            hooks.append(module.register_forward_hook(keep(name)))
        elif isinstance(module, nn.BatchNorm2d):
            hooks.append(module.register_forward_pre_hook(match(name)))
    size = online.settings.input_size
    online(state[0].new_zeros(1, 3, size, size) if state else torch.zeros(1, 3, size, size), *state)
    for hook in hooks:
        hook.remove()
    return found


def _replace(model: nn.Module, name: str, module: nn.Module) -> None:
    holder, _, attribute = name.rpartition(".")
    setattr(model.get_submodule(holder), attribute, module)


# ---- runtimes of the exported step --------------------------------------------------------------------------

class ExportedRuntime(Runtime):
    """A runtime of an exported step, on the CPU, float32 outside.

    Every step writes into memory of its own, which the next one reads where it lies: nothing is copied, and a state
    that someone kept stays what it was.
    """

    def __init__(self, exported: Exported, precision: str = "float32") -> None:
        super().__init__(exported.info)
        self.info = exported.info
        self._lock = threading.Lock()

    def initial_state(self, batch: int = 1, height: Optional[int] = None, width: Optional[int] = None) -> State:
        info = self.info
        asked = (height or info.height, width or info.width)
        if asked != (info.height, info.width):
            raise UserError(f"frames of {asked[0]}x{asked[1]} pixels: this step was exported for {info.height}x"
                            f"{info.width} alone: export another with tools/export_onnx.py --height --width")
        return tuple(torch.zeros(batch, *shape) for shape in info.memories)

    def step(self, frames: Tensor, state: Sequence[Tensor]) -> tuple[Tensor, State]:
        batch, info = len(frames), self.info
        shapes = [(batch, 3, info.height, info.width), *((batch, *shape) for shape in info.memories)]
        given = [frames, *state]
        if [tuple(tensor.shape) for tensor in given] != shapes:
            raise UserError(f"frames of shape {tuple(frames.shape)} with this state: this step takes"
                            f" (streams, 3, {info.height}, {info.width}) and the state of so many streams: begin with"
                            " initial_state(batch)")
        given = [tensor.to("cpu", torch.float32).contiguous() for tensor in given]  # no copy where it is so already
        made = [torch.empty(batch, self.settings.num_class), *(torch.empty(shape) for shape in shapes[1:])]
        with self._lock:
            self._compute(given, made)
        return made[0], tuple(made[1:])

    def _compute(self, given: list[Tensor], made: list[Tensor]) -> None:
        """Read `given` and write `made`, in the order of the exported inputs and outputs."""
        raise AssertionError("a runtime says how it computes")


class OnnxRuntime(ExportedRuntime):
    """ONNX Runtime. It knows no bfloat16 on CPUs."""

    def __init__(self, exported: Exported, precision: str = "float32") -> None:
        super().__init__(exported, precision)
        ort = import_extra("onnxruntime")
        options = ort.SessionOptions()
        options.intra_op_num_threads = cores()
        self._session = _load("ONNX Runtime", lambda: ort.InferenceSession(
            exported.content, options, providers=["CPUExecutionProvider"]))
        self._binding = self._session.io_binding()

    @staticmethod
    def check(precision: str) -> None:
        import_extra("onnxruntime")
        if precision == "bfloat16":
            raise UserError("--precision bfloat16 --backend onnxruntime: ONNX Runtime computes float32 and int8 on CPUs:"
                            " choose one of them, or another backend")

    def _compute(self, given: list[Tensor], made: list[Tensor]) -> None:
        float32 = import_extra("numpy").float32
        for name, tensor in zip(self.info.input_names, given):
            self._binding.bind_input(name, "cpu", 0, float32, tuple(tensor.shape), tensor.data_ptr())
        for name, tensor in zip(self.info.output_names, made):
            self._binding.bind_output(name, "cpu", 0, float32, tuple(tensor.shape), tensor.data_ptr())
        self._session.run_with_iobinding(self._binding)


class OpenVinoRuntime(ExportedRuntime):
    """OpenVINO's CPU plugin, compiled for each number of streams when it first comes: fixed shapes run faster.

    Many streams are computed as several smaller batches side by side, which never wait for each other between two
    layers and stay within the processor's caches: a third less work for 16 streams than one batch over all cores.
    """

    def __init__(self, exported: Exported, precision: str = "float32") -> None:
        super().__init__(exported, precision)
        openvino = import_extra("openvino")
        self._tensor = openvino.Tensor
        self._content = exported.content
        # its own default is bfloat16 wherever the processor has it
        self._options = {"INFERENCE_NUM_THREADS": cores(),
                         "INFERENCE_PRECISION_HINT": "bf16" if precision == "bfloat16" else "f32"}
        self._compiled: dict[int, list[Any]] = {}

    @staticmethod
    def check(precision: str) -> None:
        import_extra("openvino")
        if precision == "bfloat16" and "BF16" not in _core().get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
            raise UserError("--precision bfloat16 --backend openvino: this processor does not compute bfloat16: choose"
                            " float32")

    def _compute(self, given: list[Tensor], made: list[Tensor]) -> None:
        requests = self._requests(len(given[0]))
        parts = [[tensor.chunk(len(requests)) for tensor in tensors] for tensors in (given, made)]
        for number, request in enumerate(requests):
            for i, tensors in enumerate(parts[0]):
                request.set_input_tensor(i, self._tensor(tensors[number].numpy(), shared_memory=True))
            for i, tensors in enumerate(parts[1]):
                request.set_output_tensor(i, self._tensor(tensors[number].numpy(), shared_memory=True))
            request.start_async()
        for request in requests:
            request.wait()

    def _requests(self, batch: int) -> list[Any]:
        """One for each part of a batch of so many streams."""
        if batch not in self._compiled:
            if len(self._compiled) == MAX_COMPILED:
                del self._compiled[next(iter(self._compiled))]
            core = _core()
            self._compiled[batch] = _load("OpenVINO", lambda: self._compile(core, batch, count_parts(batch, cores())))
        return self._compiled[batch]

    def _compile(self, core: Any, batch: int, parts: int) -> list[Any]:
        options = {"PERFORMANCE_HINT": "LATENCY"} if parts == 1 else {
            "PERFORMANCE_HINT": "THROUGHPUT", "NUM_STREAMS": min(parts, cores())}
        model, info = core.read_model(self._content), self.info
        shapes = [[batch // parts, *shape] for shape in ([3, info.height, info.width], *info.memories)]
        model.reshape(dict(zip(info.input_names, shapes)))
        compiled = core.compile_model(model, "CPU", {**self._options, **options})
        return [compiled.create_infer_request() for _ in range(parts)]


def _load(backend: str, load: Callable[[], Loaded]) -> Loaded:
    """What `load()` makes of an exported step. UserError where the runtime cannot take it."""
    try:
        return load()
    except Exception as error:  # the runtimes' own errors have no other class in common
        reason = " ".join(str(error).split())[:200]
        raise UserError(f"{backend} cannot load the exported step: it is damaged or of another version: write it anew"
                        f" with tools/export_onnx.py ({reason})") from None


@lru_cache(maxsize=1)
def _core() -> Any:
    """OpenVINO's, one for the process: with the last one its plugins would be unloaded, while threads that ran them
    and what they told the C library to call at a fork live on."""
    return import_extra("openvino").Core()


def count_parts(batch: int, threads: int) -> int:
    """Into how many equal parts a batch is split: as many as keep every thread busy, with up to PART streams each.

    1 where equal parts would leave threads idle.
    """
    even = [parts for parts in range(1, batch + 1) if batch % parts == 0 and parts % threads == 0]
    return next((parts for parts in even if batch // parts <= PART), 1)


EXPORTED: dict[str, type[ExportedRuntime]] = {"onnxruntime": OnnxRuntime, "openvino": OpenVinoRuntime}
