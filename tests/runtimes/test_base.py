"""Every runtime computes the online model's step, and a state never changes once it is returned."""
import threading
from dataclasses import replace

import onnx
import pytest
import torch

from ops.common.errors import UserError
from ops.runtimes.registry import open_exported, open_runtime
from ops.streaming.stream import Stream
from tests.helpers.golden_model import clip
from tests.helpers.online import SIZE, assert_close, stream_logits
from tests.runtimes.conftest import ARCHS

OTHERS = ("onnxruntime", "openvino")


# ---- equal to the online model ------------------------------------------------------------------------------

@pytest.mark.parametrize("streams", [1, 4])
@pytest.mark.parametrize("arch", ARCHS)
@pytest.mark.parametrize("backend", ["torch", *OTHERS])
def test_logits_equal_the_online_models(onlines, runtimes, backend, arch, streams):
    frames = clip(streams, 5, 3, SIZE)
    wanted = stream_logits(onlines[arch], frames, 5)
    assert_close(stream_logits(runtimes[backend, arch], frames, 5), wanted)
    again = stream_logits(runtimes[backend, arch], frames, 5)
    assert_close(again, wanted)


@pytest.mark.parametrize("backend", ["torch", *OTHERS])
def test_states_equal_the_online_models(onlines, runtimes, backend):
    online, runtime = onlines["mobilenetv2"], runtimes[backend, "mobilenetv2"]
    frame = clip(2, 1, 3, SIZE)
    _, wanted = online.step(frame, online.initial_state(2))
    _, got = runtime.step(frame, runtime.initial_state(2))
    assert len(got) == len(wanted) == 10
    for one, other in zip(got, wanted):
        assert float((one - other).abs().max()) <= 1e-4 * float(other.abs().max())


@pytest.mark.parametrize("backend", ["torch", "openvino"])
def test_bfloat16_is_close_but_not_equal(onlines, exports, backend):
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
    wanted, got = stream_logits(online, frames, 4), stream_logits(runtime, frames, 4)
    assert_close(got, wanted, 0.05)
    assert float((got - wanted).abs().max()) > 1e-5 * float(wanted.abs().max())


@pytest.mark.parametrize("backend", ["torch", *OTHERS])
def test_a_stream_makes_the_same_decisions(onlines, runtimes, backend):
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


# ---- states -------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("backend", ["torch", *OTHERS])
def test_a_kept_state_does_not_change(runtimes, backend):
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
    alone = [stream_logits(runtime, frames, 6) for frames in clips]
    together = [None] * 3

    def work(i):
        together[i] = stream_logits(runtime, clips[i], 6)
    threads = [threading.Thread(target=work, args=(i,)) for i in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for one, other in zip(together, alone):
        assert torch.equal(one, other)


# ---- inputs -------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("backend", OTHERS)
def test_memory_layout_and_dtype_of_the_frames_do_not_matter(runtimes, backend):
    runtime = runtimes[backend, "resnet18"]
    frames = clip(2, 1, 3, SIZE)
    wanted, _ = runtime.step(frames, runtime.initial_state(2))
    for same in (frames.to(memory_format=torch.channels_last), frames.double(), frames.mT.contiguous().mT):
        got, _ = runtime.step(same, runtime.initial_state(2))
        assert torch.equal(got, wanted)


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


@pytest.mark.parametrize("backend", OTHERS)
def test_a_graph_that_cannot_be_loaded_is_one_line(exports, backend):
    model = onnx.load_from_string(exports["resnet18"].content)
    next(node for node in model.graph.node if node.op_type == "Conv").op_type = "NoSuchOperation"
    for content in (model.SerializeToString(), b"\xff" * 99):
        with pytest.raises(UserError, match="cannot load the exported model: .*export it again with tools/export.py"):
            runtime = open_exported(backend, replace(exports["resnet18"], content=content))
            runtime.step(torch.zeros(1, 3, SIZE, SIZE), runtime.initial_state())
