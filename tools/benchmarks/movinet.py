"""A step of an online TSM and of MoViNet-A0-Stream on one core; see `tools.benchmarks.flags.add_movinet_flags`."""
import argparse
import importlib.util
import logging
import os
import time
from dataclasses import dataclass, field
from typing import Any, Callable, Iterator, Optional, Sequence

import numpy as np
import torch

from ops.common.extras import import_extra
from ops.common.progress import progress
from ops.runtimes.export import ExportOptions, export_model
from ops.runtimes.registry import check_backend, open_exported
from ops.streaming.step_runtime import StepRuntime
from tools.benchmarks.machine import describe_load
from tools.benchmarks.online import CLASSES, COMPARED_FRAMES, EAGER, random_model

# TensorFlow's models ask for all that any of them needs, and tf2onnx for an older protobuf than TensorFlow's.
INSTALL = ("tensorflow tf-keras ai-edge-litert gin-config immutabledict pycocotools tensorflow-datasets"
           " && pip install --no-deps tf-models-official tf2onnx")
TSM_SIZE, MOVINET_SIZES = 224, (172, 224)  # pixels; the published models' own sizes, and TSM's for both
RUNTIMES = (("LiteRT", "litert", "litert"), ("ONNX Runtime", "onnxruntime", "onnx"))  # of the exported TSM
SLICE = 0.25  # seconds of steps in a row's turn

Call = Callable[..., Sequence[Any]]  # (frame, *state) -> (logits, *new state)


@dataclass
class Row:
    """A model in a runtime. state: zeros of a stream, in the type that `call` takes. error: percent, as `run` explains."""
    model: str
    size: int
    runtime: str
    call: Call
    frames: Sequence[Any]
    state: Sequence[Any]
    expected: Optional[np.ndarray] = None
    seconds: list[float] = field(default_factory=list)
    processor: list[float] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.state_bytes = sum(np.asarray(tensor).nbytes for tensor in self.state)
        logits = []
        for frame in self.frames:
            output, *self.state = self.call(frame, *self.state)
            logits.append(np.asarray(output).copy())
        self.logits = np.stack(logits)
        expected = self.logits if self.expected is None else self.expected
        self.error = 100 * float(abs(self.logits - expected).max() / abs(expected).max())

    def sample(self) -> None:
        """Time steps for a slice of time. The first is not counted, because another row filled the caches."""
        end = None
        while end is None or time.perf_counter() < end:
            begin, busy = time.perf_counter(), time.process_time()
            _, *self.state = self.call(self.frames[0], *self.state)
            if end is None:
                end = time.perf_counter() + SLICE
                continue
            self.seconds.append(time.perf_counter() - begin)
            self.processor.append(time.process_time() - busy)

    def __str__(self) -> str:
        wall, busy = (1000 * float(np.median(times)) for times in (self.seconds, self.processor))
        tensors = 1 + len(self.state)
        return (f"| {self.model} | {self.size} | {self.runtime} | {len(self.seconds)} | {wall:.2f} | {busy:.2f}"
                f" | {self.state_bytes:,} | {tensors} / {tensors} | {self.error:.2g} |")


def run(args: argparse.Namespace) -> Optional[int]:
    use_one_core()
    prepare_tensorflow()
    check_backend("onnxruntime", "float32")
    print(f"float32, one stream, one thread on one core, {CLASSES} classes, random weights; medians of {args.rounds}"
          " interleaved rounds; error: largest difference of a logit from the model's first row, in percent of the"
          f" largest logit\n{describe_load()}", flush=True)
    rows = [row for arch in args.arch for row in tsm_rows(arch, TSM_SIZE)]
    rows += [row for size in MOVINET_SIZES for row in movinet_rows(size)]
    for _ in progress(range(args.rounds), desc="measuring", unit="round", leave=False):
        for row in rows:
            row.sample()
    print(f"{describe_load()}\n\n| model | pixels | runtime | steps | ms | processor ms | state bytes | tensors in / out"
          " | error % |\n|---|---|---|---|---|---|---|---|---|")
    print(*rows, sep="\n")
    return None


def use_one_core() -> None:
    """Before any runtime starts its threads. Systems that cannot pin a process leave the core to their scheduler."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    torch.set_num_threads(1)


def tsm_rows(arch: str, size: int) -> Iterator[Row]:
    """The online TSM, eagerly and exported; for LiteRT only if the converter (requirements-litert.txt) is installed."""
    online = random_model(arch, size)
    models: dict[str, StepRuntime] = {EAGER: online}
    for name, backend, format in RUNTIMES:
        if backend != "litert" or importlib.util.find_spec("litert_torch"):
            models[name] = open_exported(backend, export_model(online, format, ExportOptions(size, size)))
    frames = torch.randn(COMPARED_FRAMES, 1, 3, size, size, generator=torch.Generator().manual_seed(1))
    expected = None
    for name, model in models.items():
        def call(frame: torch.Tensor, *state: torch.Tensor, model: StepRuntime = model) -> Sequence[torch.Tensor]:
            logits, new_state = model.step(frame, state)
            return (logits, *new_state)
        row = Row(f"TSM {arch}", size, name, call, frames, model.initial_state(1, size, size), expected)
        expected = row.logits
        yield row


# ---- MoViNet-A0-Stream -------------------------------------------------------------------------------------------

def prepare_tensorflow() -> None:
    """One thread, no GPU, few messages. UserError with the commands that install the packages if one is missing."""
    tf = import_extra("tensorflow", INSTALL)
    tf.get_logger().setLevel("ERROR")
    tf.config.set_visible_devices([], "GPU")
    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    for name in ("ai_edge_litert.interpreter", "tf2onnx", "official.projects.movinet.modeling.movinet_model"):
        import_extra(name, INSTALL)
    logging.getLogger("tf2onnx").setLevel("CRITICAL")  # it reports every rewriting of the graph that it gave up


def movinet_rows(size: int) -> Iterator[Row]:
    """MoViNet-A0-Stream in the runtime of its authors, in the one that they export it for, and in ours."""
    import tensorflow as tf
    graph, state = frozen_movinet(size)
    frames = np.random.default_rng(1).random((COMPARED_FRAMES, 1, 1, size, size, 3), np.float32)
    first = Row("MoViNet-A0-Stream", size, "TensorFlow", graph, list(map(tf.constant, frames)),
                list(map(tf.constant, state)))
    yield first
    for name, call in (("LiteRT", litert_call(graph)), ("ONNX Runtime", onnx_call(graph))):
        yield Row("MoViNet-A0-Stream", size, name, call, frames, state, first.logits)


def frozen_movinet(size: int) -> tuple[Any, list[np.ndarray]]:
    """(a TensorFlow function of the frame and the state with the weights as constants, the initial state).

    The options are those with which the authors export the model for phones.
    """
    import tensorflow as tf
    import tf_keras
    from official.projects.movinet.modeling.movinet import Movinet
    from official.projects.movinet.modeling.movinet_model import MovinetClassifier
    from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2
    tf_keras.utils.set_random_seed(0)
    shape = (1, 1, size, size, 3)
    spec = tf_keras.layers.InputSpec(shape=shape)
    backbone = Movinet(model_id="a0", causal=True, conv_type="2plus1d", se_type="2plus3d", activation="hard_swish",
                       gating_activation="hard_sigmoid", use_positional_encoding=False, use_external_states=True,
                       use_sync_bn=False, input_specs=spec)
    model = MovinetClassifier(backbone, num_classes=CLASSES, output_states=True, input_specs={"image": spec})
    model.build(shape)
    state = model.init_states(shape)

    def step(image: Any, *tensors: Any) -> Sequence[Any]:
        logits, new_state = model({**dict(zip(state, tensors)), "image": image})
        return (logits, *(new_state[name] for name in state))

    specs = [tf.TensorSpec(shape, tf.float32, "image"), *(tf.TensorSpec(t.shape, t.dtype, n) for n, t in state.items())]
    graph = convert_variables_to_constants_v2(tf.function(step).get_concrete_function(*specs))
    return graph, [tensor.numpy() for tensor in state.values()]


def litert_call(graph: Any) -> Call:
    import tensorflow as tf
    from ai_edge_litert.interpreter import Interpreter
    interpreter = Interpreter(model_content=tf.lite.TFLiteConverter.from_concrete_functions([graph]).convert(),
                              num_threads=1)
    interpreter.allocate_tensors()
    found = {details["name"].partition(":")[0]: details["index"] for details in interpreter.get_input_details()}
    inputs = [found[tensor.name.partition(":")[0]] for tensor in graph.inputs]
    outputs = [details["index"] for details in interpreter.get_output_details()]

    def call(*tensors: np.ndarray) -> Sequence[np.ndarray]:
        for index, tensor in zip(inputs, tensors):
            interpreter.set_tensor(index, tensor)
        interpreter.invoke()
        return [interpreter.get_tensor(index) for index in outputs]
    return call


def onnx_call(graph: Any) -> Call:
    import onnxruntime
    import tf2onnx
    inputs, outputs = ([tensor.name for tensor in tensors] for tensors in (graph.inputs, graph.outputs))
    model, _ = tf2onnx.convert.from_graph_def(graph.graph.as_graph_def(), input_names=inputs, output_names=outputs,
                                              opset=17)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return lambda *tensors: session.run(outputs, dict(zip(inputs, tensors)))
