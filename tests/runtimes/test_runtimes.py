"""The online step in other runtimes equals the online model's; the exported file says what it holds."""
import json
import sys
import threading
from dataclasses import replace

import onnx
import onnxruntime
import pytest
import torch

from ops.checkpoints.online_format import load_streamable, online_content
from ops.common.errors import UserError
from ops.runtimes import openvino as openvino_module
from ops.runtimes.export import describe_step, export_step
from ops.runtimes.openvino import count_parts
from ops.runtimes.quantize import quantize_step
from ops.runtimes.registry import BACKENDS, open_exported, open_runtime
from ops.runtimes.step_file import METADATA_KEY, VERSION, ExportedStep, exported_path, read_exported, write_exported
from ops.runtimes.torch import TorchRuntime, fold_norms
from ops.streaming.online import OnlineTSM
from ops.streaming.sources import VideoFile
from ops.streaming.stream import Stream, frame_transform
from ops.weights import save_checkpoint
from tests.helpers import programs
from tests.helpers.clips import real_video
from tests.helpers.golden_model import clip
from tests.streaming.test_online import stream, twin

SIZE, CLASSES = 64, 5
ARCHS = ("mobilenetv2", "resnet18")
OTHERS = ("onnxruntime", "openvino")
RELATIVE = 1e-4


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def onlines():
    return {arch: OnlineTSM(twin(arch, 4, input_size=SIZE)) for arch in ARCHS}


@pytest.fixture(scope="module")
def exports(onlines):
    return {arch: export_step(online) for arch, online in onlines.items()}


@pytest.fixture(scope="module")
def runtimes(onlines, exports):
    """(backend, arch) -> runtime"""
    made = {("torch", arch): open_runtime("torch", online, device="cpu") for arch, online in onlines.items()}
    return made | {(backend, arch): open_exported(backend, exported)
                   for arch, exported in exports.items() for backend in OTHERS}


def assert_close(got, wanted, tolerance=RELATIVE):
    assert got.shape == wanted.shape and got.dtype == torch.float32
    assert float((got - wanted).abs().max()) <= tolerance * float(wanted.abs().max())
    assert float(wanted.std(dim=1).min()) > 1e-3 * float(wanted.abs().max()), "the frames' answers differ"


# ---- equal logits -------------------------------------------------------------------------------------------

@pytest.mark.parametrize("streams", [1, 4])
@pytest.mark.parametrize("arch", ARCHS)
@pytest.mark.parametrize("backend", ["torch", *OTHERS])
def test_logits_equal_the_online_models(onlines, runtimes, backend, arch, streams):
    frames = clip(streams, 5, 3, SIZE)
    wanted = stream(onlines[arch], frames, 5)
    assert_close(stream(runtimes[backend, arch], frames, 5), wanted)
    again = stream(runtimes[backend, arch], frames, 5)
    assert_close(again, wanted)


@pytest.mark.parametrize("backend", ["torch", *OTHERS])
def test_states_equal_the_online_models(onlines, runtimes, backend):
    online, runtime = onlines["mobilenetv2"], runtimes[backend, "mobilenetv2"]
    frame = clip(2, 1, 3, SIZE)
    _, wanted = online.step(frame, online.initial_state(2))
    _, got = runtime.step(frame, runtime.initial_state(2))
    assert len(got) == len(wanted) == 10
    for one, other in zip(got, wanted):
        assert float((one - other).abs().max()) <= RELATIVE * float(other.abs().max())


@pytest.mark.parametrize("backend", ["torch", "openvino"])
def test_bfloat16_is_near_and_another_number(onlines, exports, backend):
    online, exported = onlines["resnet18"], exports["resnet18"]
    if backend == "openvino":
        try:
            runtime = open_exported(backend, exported, "bfloat16")
        except UserError as error:
            assert "this processor does not support bfloat16" in str(error)
            pytest.skip(str(error))
    else:
        runtime = open_runtime(backend, online, device="cpu", precision="bfloat16")
    frames = clip(2, 4, 3, SIZE)
    wanted, got = stream(online, frames, 4), stream(runtime, frames, 4)
    assert_close(got, wanted, 0.05)
    assert float((got - wanted).abs().max()) > 1e-5 * float(wanted.abs().max())


def test_folding_leaves_no_norm_behind(onlines):
    for arch, online in onlines.items():
        folded = TorchRuntime(online, torch.device("cpu")).model
        kinds = [type(module).__name__ for module in folded.modules()]
        assert "BatchNorm2d" not in kinds and "BatchNorm2d" in [type(module).__name__ for module in online.modules()]
    online = OnlineTSM(twin("BNInception", 3, "block", input_size=SIZE))  # its convolutions have biases
    frames = clip(2, 3, 3, SIZE)
    wanted = stream(online, frames, 3)
    fold_norms(online)
    assert_close(stream(online, frames, 3), wanted)


# ---- a state is a value -------------------------------------------------------------------------------------

@pytest.mark.parametrize("backend", ["torch", *OTHERS])
def test_a_state_that_was_kept_does_not_change(runtimes, backend):
    runtime = runtimes[backend, "resnet18"]
    frames = clip(1, 4, 3, SIZE).unflatten(1, (4, 3))
    _, kept = runtime.step(frames[:, 0], runtime.initial_state())
    copies = [tensor.clone() for tensor in kept]
    first, state = runtime.step(frames[:, 1], kept)
    first_copy = first.clone()
    for i in (2, 3):
        _, state = runtime.step(frames[:, i], state)
    assert all(torch.equal(tensor, copy) for tensor, copy in zip(kept, copies))
    assert torch.equal(first, first_copy)
    again, _ = runtime.step(frames[:, 1], kept)
    assert torch.equal(again, first)


@pytest.mark.parametrize("backend", OTHERS)
def test_threads_share_a_runtime(runtimes, backend):
    runtime = runtimes[backend, "resnet18"]
    clips = [clip(1, 6, 3, SIZE, seed=seed) for seed in range(3)]
    alone = [stream(runtime, frames, 6) for frames in clips]
    together = [None] * 3

    def work(i):
        together[i] = stream(runtime, clips[i], 6)
    threads = [threading.Thread(target=work, args=(i,)) for i in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for one, other in zip(together, alone):
        assert torch.equal(one, other)


@pytest.mark.parametrize("backend", OTHERS)
def test_memory_layout_and_type_of_the_frames_do_not_matter(runtimes, backend):
    runtime = runtimes[backend, "resnet18"]
    frames = clip(2, 1, 3, SIZE)
    wanted, _ = runtime.step(frames, runtime.initial_state(2))
    for same in (frames.to(memory_format=torch.channels_last), frames.double(), frames.mT.contiguous().mT):
        got, _ = runtime.step(same, runtime.initial_state(2))
        assert torch.equal(got, wanted)


@pytest.mark.parametrize("threads", [1, 2])
def test_the_number_of_streams_may_change_often(exports, monkeypatch, threads):
    """And whether they are computed in parts or not, each gets its own answer."""
    monkeypatch.setattr(openvino_module, "MAX_COMPILED", 2)
    monkeypatch.setattr(openvino_module, "cores", lambda: threads)
    runtime = open_exported("openvino", exports["resnet18"])
    clips = clip(4, 2, 3, SIZE)
    wanted = torch.cat([stream(runtime, clips[i:i + 1], 2) for i in range(4)])
    for streams in (2, 3, 4, 1):
        got = stream(runtime, clips[:streams], 2)
        assert float((got - wanted[:streams]).abs().max()) <= RELATIVE * float(wanted.abs().max())
    assert len(runtime._compiled) == 2, "what was compiled before is let go"


def test_parts_keep_every_thread_busy():
    assert [count_parts(streams, 2) for streams in (1, 2, 3, 4, 6, 8, 16, 24)] == [1, 2, 1, 2, 2, 2, 4, 6]
    assert [count_parts(streams, 1) for streams in (1, 4, 8, 16)] == [1, 1, 2, 4]
    assert [count_parts(streams, 16) for streams in (1, 4, 16, 32, 128)] == [1, 1, 16, 16, 32]
    for streams in range(1, 80):
        for threads in (1, 2, 3, 8):
            assert streams % count_parts(streams, threads) == 0


# ---- 8-bit integers -----------------------------------------------------------------------------------------

def video_frames(online, begin, end):
    """Frames of a real video, (1, 3, H, W) each, normalised."""
    transform = frame_transform(online.preprocessing)
    frames = list(VideoFile(real_video("bikes.mp4")).frames())[begin:end]
    return [online.prepare(transform(frame.read())) for frame in frames]


@pytest.fixture(scope="module")
def int8(onlines, exports):
    return quantize_step(exports["resnet18"], [video_frames(onlines["resnet18"], 0, 12)])


def logits_over(model, frames):
    state, rows = model.initial_state(), []
    for frame in frames:
        logits, state = model.step(frame, state)
        rows.append(logits[0].clone())
    return torch.stack(rows)


def test_int8_on_a_real_video(onlines, int8):
    """Frames after those that it was calibrated on. Random weights amplify rounding far more than trained ones."""
    frames = video_frames(onlines["resnet18"], 12, 36)
    wanted = logits_over(onlines["resnet18"], frames)
    onnx_, openvino = (logits_over(open_exported(backend, int8, "int8"), frames) for backend in OTHERS)
    for got in (onnx_, openvino):
        assert 0.01 < rms(got - wanted) / rms(wanted) < 0.3
        assert float(torch.cosine_similarity(got.flatten(), wanted.flatten(), dim=0)) > 0.95
        assert float((got.argmax(dim=1) == wanted.argmax(dim=1)).float().mean()) >= 0.75
    assert rms(onnx_ - openvino) < 0.1 * rms(wanted), "one file means one network"


def rms(values):
    return float(values.square().mean().sqrt())


def test_an_int8_step_says_so_and_is_small(exports, int8):
    small, large = int8, exports["resnet18"]
    assert small.info == replace(large.info, precision="int8")
    assert len(small.content) < 0.4 * len(large.content)
    model = onnx.load_from_string(small.content)
    assert json.loads({entry.key: entry.value for entry in model.metadata_props}[METADATA_KEY])["precision"] == "int8"
    with pytest.raises(UserError, match="already int8"):
        quantize_step(small, [])
    with pytest.raises(UserError, match="the given sources have none"):
        quantize_step(large, [[], []])
    for exported, precision in ((small, "float32"), (large, "int8")):
        with pytest.raises(UserError, match=f"precision {precision}: this exported step computes"):
            open_exported("onnxruntime", exported, precision)


def test_int8_from_the_tool_to_the_runtime(monkeypatch, capfd, exports, tmp_path):
    weights = save_online(tmp_path)
    online = OnlineTSM(weights)
    with pytest.raises(UserError, match="online.int8.onnx does not exist: calibrate one .* tools/export_onnx.py"):
        open_runtime("openvino", online, weights=weights, precision="int8")
    monkeypatch.setattr("tools.export_onnx.export_step", lambda *_: exports["resnet18"])
    done = programs.run(monkeypatch, capfd, "tools.export_onnx", weights, "--int8", real_video("bikes.mp4"),
                        "--int8_frames", 4)
    assert done.status == 0
    assumed, made = done.err.splitlines()
    assert "assuming 12 per second" in assumed and "resnet18, int8, 8 state tensors" in made
    runtime = open_runtime("openvino", online, weights=weights, precision="int8")
    frames = video_frames(online, 0, 4)
    wanted = logits_over(online, frames)
    assert float((logits_over(runtime, frames) - wanted).abs().max()) < 0.3 * float(wanted.abs().max())
    other = OnlineTSM(save_online(tmp_path, seed=1))
    with pytest.raises(UserError, match="is not the int8 step of"):
        open_runtime("openvino", other, weights=weights, precision="int8")


# ---- behind a stream ----------------------------------------------------------------------------------------

@pytest.mark.parametrize("backend", ["torch", *OTHERS])
def test_a_stream_decides_alike(onlines, runtimes, backend):
    images = torch.randint(0, 256, (6, 2, 3, SIZE, SIZE), dtype=torch.uint8, generator=torch.Generator().manual_seed(3))
    plain = Stream(onlines["mobilenetv2"], 2, smoothing="none")
    other = Stream(runtimes[backend, "mobilenetv2"], 2, smoothing="none")
    for i, frames in enumerate(images):
        if i == 3:
            plain.reset(1)
            other.reset(1)
        for one, two in zip(plain.push(frames), other.push(frames)):
            assert one.name == two.name and one.frame == two.frame
            assert abs(one.probability - two.probability) < 1e-4
    assert other.timing().frames == 6


@pytest.mark.parametrize("backend", OTHERS)
def test_frames_of_another_size_are_refused(runtimes, backend):
    runtime = runtimes[backend, "resnet18"]
    with pytest.raises(UserError, match="exported for 64x64"):
        runtime.initial_state(1, 96, 64)
    with pytest.raises(UserError, match=r"takes \(streams, 3, 64, 64\)"):
        runtime.step(torch.zeros(1, 3, 96, 64), runtime.initial_state(1))
    with pytest.raises(UserError, match="this state"):
        runtime.step(torch.zeros(2, 3, 64, 64), runtime.initial_state(1))
    with pytest.raises(UserError, match="this state"):
        runtime.step(torch.zeros(1, 3, 64, 64), runtime.initial_state(1)[1:])


# ---- the file -----------------------------------------------------------------------------------------------

def test_the_metadata_says_what_the_graph_is(exports, onlines):
    exported, online = exports["mobilenetv2"], onlines["mobilenetv2"]
    model = onnx.load_from_string(exported.content)
    told = json.loads({entry.key: entry.value for entry in model.metadata_props}[METADATA_KEY])

    def shapes(values):
        return {value.name: [dim.dim_param or dim.dim_value for dim in value.type.tensor_type.shape.dim]
                for value in values}
    assert told["inputs"] == shapes(model.graph.input) and told["outputs"] == shapes(model.graph.output)
    assert told["inputs"]["frames"] == ["batch", 3, SIZE, SIZE]
    assert told["outputs"]["logits"] == ["batch", CLASSES]
    assert list(told["inputs"])[1:] == [f"state_{i}" for i in range(10)]
    assert told["state_shapes"] == [list(tensor.shape[1:]) for tensor in online.initial_state()]
    assert told["preprocessing"] == online.preprocessing and told["spec"]["arch"] == "mobilenetv2"
    assert b"site-packages" not in exported.content and b"/ops/" not in exported.content, "no paths of this machine"


def test_the_file_runs_without_this_code(exports, onlines, tmp_path):
    """As a device would: ONNX Runtime and the metadata alone."""
    path = tmp_path / "step.onnx"
    write_exported(exports["resnet18"], path)
    assert [entry.name for entry in tmp_path.iterdir()] == ["step.onnx"], "the weights are inside"
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    told = json.loads(session.get_modelmeta().custom_metadata_map[METADATA_KEY])
    frames = clip(3, 4, 3, SIZE).unflatten(1, (4, 3))
    state = {name: torch.zeros(3, *shape[1:]).numpy() for name, shape in told["inputs"].items() if name != "frames"}
    rows = []
    for i in range(4):
        logits, *new_state = session.run(list(told["outputs"]), {"frames": frames[:, i].numpy(), **state})
        state = dict(zip(state, new_state))
        rows.append(torch.from_numpy(logits))
    assert_close(torch.stack(rows, dim=1), stream(onlines["resnet18"], frames.flatten(1, 2), 4))


def test_write_and_read(exports, tmp_path):
    path = tmp_path / "a" / "step.onnx"
    write_exported(exports["resnet18"], path)
    again = read_exported(path)
    assert again == exports["resnet18"]
    assert [entry.name for entry in path.parent.iterdir()] == ["step.onnx"]


def test_the_fingerprint_tells_models_and_sizes_apart(onlines):
    online = OnlineTSM(twin("resnet18", 4, input_size=SIZE))
    same = describe_step(online).fingerprint
    assert same == describe_step(onlines["resnet18"]).fingerprint
    assert describe_step(online, 96, 64).fingerprint != same
    online.new_fc.bias[0] += 1e-3
    assert describe_step(online).fingerprint != same


@pytest.mark.parametrize("content, words", [(None, "cannot read"), (b"not onnx at all", "not a readable ONNX file"),
                                            (b"", "no metadata")])
def test_a_wrong_file_is_refused(tmp_path, content, words):
    path = tmp_path / "step.onnx"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UserError, match=words):
        read_exported(path)


def with_metadata(exported, text):
    model = onnx.load_from_string(exported.content)
    onnx.helper.set_model_props(model, {METADATA_KEY: text})
    return model.SerializeToString()


@pytest.mark.parametrize("change", [
    lambda told: "{", lambda told: "[]", lambda told: "7", lambda told: json.dumps({**told, "version": VERSION - 1}),
    lambda told: json.dumps({key: value for key, value in told.items() if key != "version"}),
    lambda told: json.dumps({key: value for key, value in told.items() if key != "fingerprint"}),
    lambda told: json.dumps({key: value for key, value in told.items() if key != "spec"}),
    lambda told: json.dumps({**told, "spec": {**told["spec"], "unheard_of": 1}}),
    lambda told: json.dumps({**told, "spec": {"arch": "resnet18"}}),
    lambda told: json.dumps({**told, "state_shapes": 8}), lambda told: json.dumps({**told, "height": "tall"}),
    lambda told: json.dumps({**told, "state_shapes": told["state_shapes"][1:]}),
])
def test_other_metadata_is_one_line(exports, tmp_path, change):
    told = json.loads(exports["resnet18"].info.to_json())
    path = tmp_path / "step.onnx"
    path.write_bytes(with_metadata(exports["resnet18"], json.dumps(told)))
    assert read_exported(path).info == exports["resnet18"].info
    path.write_bytes(with_metadata(exports["resnet18"], change(told)))
    with pytest.raises(UserError, match="step.onnx is damaged .*: export it again with tools/export_onnx.py"):
        read_exported(path)


def test_a_step_exported_by_an_earlier_version_is_refused(exports, tmp_path):
    """Version 1 called the state's inputs before_i and the spec `settings`."""
    entry = json.loads(exports["resnet18"].info.to_json())
    shapes, spec = entry.pop("state_shapes"), entry.pop("spec")
    old = {**entry, "version": 1, "settings": spec, "memories": shapes,
           "inputs": {name.replace("state_", "before_"): shape for name, shape in entry["inputs"].items()},
           "outputs": {name.replace("new_state_", "after_"): shape for name, shape in entry["outputs"].items()}}
    path = tmp_path / "step.onnx"
    path.write_bytes(with_metadata(exports["resnet18"], json.dumps(old)))
    with pytest.raises(UserError, match="was written by another version: export it again with tools/export_onnx.py"):
        read_exported(path)


@pytest.mark.parametrize("backend", OTHERS)
def test_a_graph_that_no_runtime_takes_is_one_line(exports, backend):
    model = onnx.load_from_string(exports["resnet18"].content)
    next(node for node in model.graph.node if node.op_type == "Conv").op_type = "NoSuchOperation"
    for content in (model.SerializeToString(), b"\xff" * 99):
        with pytest.raises(UserError, match="cannot load the exported step: .*export it again with tools/export_onnx.py"):
            runtime = open_exported(backend, replace(exports["resnet18"], content=content))
            runtime.step(torch.zeros(1, 3, SIZE, SIZE), runtime.initial_state())


@pytest.mark.parametrize("name, wanted", [("a.pth.tar", "a.onnx"), ("a.b.pth", "a.b.onnx"), ("a", "a.onnx")])
def test_the_step_lies_beside_the_weights(tmp_path, name, wanted):
    assert exported_path(tmp_path / name) == tmp_path / wanted


# ---- opening ------------------------------------------------------------------------------------------------

def save_online(tmp_path, size=SIZE, seed=0):
    """An online file of a small ResNet-18."""
    torch.manual_seed(seed)
    clip_file = tmp_path / "clip.pth.tar"
    model = twin("resnet18", 4, input_size=size)
    if seed:
        torch.nn.init.normal_(model.new_fc.weight)
    settings = model.spec.to_dict()
    save_checkpoint({"state_dict": model.state_dict(), "settings": settings, "class_names": list("abcde")}, clip_file)
    path = tmp_path / "online.pth.tar"
    save_checkpoint(online_content(load_streamable(clip_file)), path)
    return path


def forbid_export(monkeypatch):
    def fail(*_, **__):
        raise AssertionError("exported although the file was there")
    monkeypatch.setattr("ops.runtimes.export.export_step", fail)


def test_the_tool_exports_and_the_runtime_finds_it(monkeypatch, capfd, tmp_path):
    weights = save_online(tmp_path, 32)
    done = programs.run(monkeypatch, capfd, "tools.export_onnx", weights)
    assert done.status == 0 and "8 state tensors, frames of 32x32" in done.err and len(done.err.splitlines()) == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["clip.pth.tar", "online.onnx", "online.pth.tar"]
    forbid_export(monkeypatch)
    online = OnlineTSM(weights)
    runtime = open_runtime("onnxruntime", online, weights=weights)
    assert runtime.class_names == list("abcde") and runtime.preprocessing == online.preprocessing
    assert runtime.spec == online.spec
    frames = clip(2, 3, 3, 32)
    assert_close(stream(runtime, frames, 3), stream(online, frames, 3))


def test_a_step_of_another_model_is_not_used(monkeypatch, exports, tmp_path, caplog):
    weights = save_online(tmp_path, SIZE, seed=1)
    write_exported(exports["resnet18"], exported_path(weights))
    monkeypatch.setattr("ops.runtimes.export.export_step", lambda online: ExportedStep(
        exports["resnet18"].content, describe_step(online)))
    runtime = open_runtime("onnxruntime", OnlineTSM(weights), weights=weights)
    assert runtime.info.fingerprint != exports["resnet18"].info.fingerprint
    assert "belongs to another model" in caplog.text


@pytest.mark.parametrize("precision", ["float32", "int8"])
def test_names_and_preprocessing_are_the_weights_own(exports, int8, tmp_path, precision):
    """The step beside the weights may have been exported before the classes got their names."""
    weights = save_online(tmp_path)
    old = exports["resnet18"] if precision == "float32" else int8
    stale = replace(old.info, class_names=list("vwxyz"), preprocessing={**old.info.preprocessing, "std": [9, 9, 9]})
    write_exported(replace(old, info=stale), exported_path(weights, precision))
    online = OnlineTSM(weights)
    runtime = open_runtime("onnxruntime", online, weights=weights, precision=precision)
    assert runtime.class_names == list("abcde") == runtime.info.class_names
    assert runtime.preprocessing == online.preprocessing
    assert runtime.info.fingerprint == old.info.fingerprint, "the file was used"


def test_the_device_is_torchs_alone(monkeypatch, exports, onlines, caplog):
    monkeypatch.setattr("ops.runtimes.export.export_step", lambda online: exports["resnet18"])
    for device in ("auto", "cpu", torch.device("cpu")):
        open_runtime("onnxruntime", onlines["resnet18"], device=device)
    assert not caplog.records
    open_runtime("openvino", onlines["resnet18"], device=torch.device("cuda", 0))
    assert "device cuda:0 has no effect" in caplog.text
    for device in ("GPU", "tpu"):  # names that torch does not know
        open_runtime("onnxruntime", onlines["resnet18"], device=device)
        assert f"device {device} has no effect: ONNX Runtime runs on the CPU" in caplog.text


def test_a_new_runtime_is_a_module_and_a_row(monkeypatch, onlines):
    monkeypatch.setitem(BACKENDS, "toy", "tests.runtimes.toy_runtime:ToyRuntime")
    runtime = open_runtime("toy", onlines["resnet18"])
    frames = torch.randint(0, 256, (4, 2, 3, SIZE, SIZE), dtype=torch.uint8, generator=torch.Generator().manual_seed(3))
    toy, plain = (Stream(model, 2, smoothing="none") for model in (runtime, onlines["resnet18"]))
    for pair in frames:
        for got, wanted in zip(toy.push(pair), plain.push(pair)):
            assert got.name == wanted.name
            assert_close(got.logits[None], wanted.logits[None])
    with pytest.raises(UserError, match="precision int8: the toy computes float32"):
        open_runtime("toy", onlines["resnet18"], precision="int8")


def test_wrong_names_are_refused(onlines):
    online = onlines["resnet18"]
    with pytest.raises(UserError, match="backend 'tensorrt': choose torch, onnxruntime, openvino"):
        open_runtime("tensorrt", online)
    with pytest.raises(UserError, match="precision 'int4': choose float32, bfloat16, int8"):
        open_runtime("torch", online, precision="int4")
    with pytest.raises(UserError, match="ONNX Runtime computes float32 and int8"):
        open_runtime("onnxruntime", online, precision="bfloat16")
    with pytest.raises(UserError, match="PyTorch computes float32 and bfloat16"):
        open_runtime("torch", online, precision="int8")


@pytest.mark.parametrize("backend, package", [("onnxruntime", "onnxruntime"), ("openvino", "openvino"),
                                              ("onnxruntime", "onnx"), ("openvino", "onnxscript")])
def test_a_missing_package_is_one_line(monkeypatch, onlines, backend, package):
    monkeypatch.setitem(sys.modules, package, None)  # how Python says that it cannot be imported
    with pytest.raises(UserError, match=f"needs the package {package}, .*requirements-runtimes.txt"):
        open_runtime(backend, onlines["resnet18"])


@pytest.mark.parametrize("argv, words", [
    (["none.pth.tar"], ["no such checkpoint"]),
    (["{weights}", "--height", "8"], ["--height 8", "32 pixels or more"]),
    (["{weights}", "-o", "{weights}"], ["is the checkpoint itself"]),
    (["{weights}", "-o", "{directory}"], ["cannot write"]),
    (["{weights}", "--int8", "webcam"], ["--int8 webcam", "no such video file or directory"]),
    (["{weights}", "--int8", "{directory}"], ["no frames in this directory"]),
    (["{weights}", "--int8", "{weights}"], ["online.pth.tar: cannot be read as a video"]),
    (["{weights}", "--int8", "{weights}", "--int8_frames", "0"], ["--int8_frames 0"]),
    (["{weights}", "--int8", "{weights}", "--height", "64"], ["--int8 with --height"]),
    (["{weights}", "--int8", "{weights}", "--folder_rate", "nan"], ["--folder_rate nan"]),
])
def test_the_tool_refuses(monkeypatch, capfd, exports, tmp_path, argv, words):
    weights = save_online(tmp_path, 32)
    monkeypatch.setattr("tools.export_onnx.export_step", lambda *_: exports["resnet18"])
    argv = [word.format(weights=weights, directory=tmp_path) for word in argv]
    programs.assert_refused(programs.run(monkeypatch, capfd, "tools.export_onnx", *argv), *words)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["clip.pth.tar", "online.pth.tar"]
