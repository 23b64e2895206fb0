"""Streaming equals the clip model; what comes later, or beside, changes nothing."""
import copy
import threading

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from archs import mobilenet_v2
from online_demo.mobilenet_v2_tsm import MobileNetV2
from ops.checkpoints.store_name import store_name
from ops.common.errors import UserError
from ops.evaluation.evaluate import make_preprocessor
from ops.models import TSN, make_mobilenet_shift
from ops.streaming.online import OnlineTSM
from ops.temporal_shift import TemporalShift
from ops.training.loop import train_step
from ops.training.state import TrainState
from tests.helpers.golden_model import clip, fill


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    """Small tensors gain nothing from more, and on a busy machine wait for them."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def twin(arch, t, place="blockres", div=8, **options):
    """A clip model, the same at every call, through whose layers signals and differences pass undamped."""
    torch.manual_seed(0)
    model = TSN(5, t, "RGB", base_model=arch, pretrain="none", is_shift=True, shift_div=div, shift_place=place,
                print_spec=False, partial_bn=False, **{"shift_direction": "unidirectional", **options})
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.running_mean, 0, 0.1)
            nn.init.uniform_(module.running_var, 0.5, 1.5)
            nn.init.uniform_(module.weight, 0.5, 1.5)
        elif isinstance(module, (nn.Conv2d, nn.Linear)):
            nn.init.kaiming_normal_(module.weight)
    return model.eval()


@torch.no_grad()
def clip_logits(model, clips):
    return model(clips)


def stream(online, clips, t):
    """Logits of every frame, (N, T, num_class), from a zero state."""
    frames = clips.unflatten(1, (t, 3))
    state = online.initial_state(len(clips), *clips.shape[-2:])
    rows = []
    for i in range(t):
        logits, state = online.step(frames[:, i], state)
        rows.append(logits)
    return torch.stack(rows, dim=1)


def assert_equal_logits(got, wanted, relative=1e-5):
    assert float((got - wanted).abs().max()) <= relative * float(wanted.abs().max())
    assert float(wanted.std()) > 0


# ---- the mean over a clip's frames is the clip model's answer -------------------------------------------------

CASES = [
    ("resnet18", "block", 8, 64, 4, {}),
    ("resnet18", "blockres", 4, 49, 3, {"dropout": 0}),
    ("resnet50", "blockres", 8, 32, 5, {}),
    ("resnet101", "blockres", 8, 32, 2, {}),
    ("mobilenetv2", "blockres", 8, 96, 8, {}),
    ("mobilenetv2", "block", 3, 64, 3, {}),
    ("BNInception", "block", 3, 64, 3, {}),
    ("BNInception", "010101010101", 8, 71, 2, {}),
]
SHIFTS = {("resnet18", "block"): 8, ("resnet18", "blockres"): 8, ("resnet50", "blockres"): 16,
          ("resnet101", "blockres"): 18, ("mobilenetv2", "blockres"): 10, ("mobilenetv2", "block"): 10,
          ("BNInception", "block"): 11, ("BNInception", "010101010101"): 6}


@pytest.mark.parametrize("arch, place, div, size, t, options", CASES)
def test_the_mean_over_a_clip_is_the_clip_models(arch, place, div, size, t, options):
    model = twin(arch, t, place, div, **options)
    online = OnlineTSM(model)
    clips = clip(2, t, 3, size)
    assert len(online.shift_names) == SHIFTS[arch, place] == len(online.initial_state(1, size, size))
    each = stream(online, clips, t)
    assert_equal_logits(each.mean(dim=1), clip_logits(model, clips))
    assert float((each[:, 0] - each[:, -1]).abs().max()) > 1e-3 * float(each.abs().max())


@settings(max_examples=8, deadline=None)
@given(div=st.integers(1, 24), height=st.integers(32, 60), width=st.integers(32, 60), t=st.integers(1, 4),
       place=st.sampled_from(["block", "blockres"]), seed=st.integers(0, 99))
def test_the_mean_for_any_div_size_and_length(div, height, width, t, place, seed):
    model = twin("mobilenetv2", t, place, div)
    clips = torch.randn(2, 3 * t, height, width, generator=torch.Generator().manual_seed(seed))
    assert_equal_logits(stream(OnlineTSM(model), clips, t).mean(dim=1), clip_logits(model, clips))


def test_identity_consensus_gives_the_same_answer_for_every_frame():
    model = twin("resnet18", 4, consensus_type="identity")
    clips = clip(2, 4, 3, 48)
    assert_equal_logits(stream(OnlineTSM(model), clips, 4), clip_logits(model, clips))


def test_a_model_without_shift_needs_no_state():
    model = TSN(5, 3, "RGB", base_model="resnet18", pretrain="none", print_spec=False).eval()
    online, clips = OnlineTSM(model), clip(1, 3, 3, 48)
    assert online.initial_state() == ()
    assert_equal_logits(stream(online, clips, 3).mean(dim=1), clip_logits(model, clips))


@pytest.mark.parametrize("arch", ["resnet18", "mobilenetv2"])
def test_the_mean_after_training(arch):
    torch.manual_seed(0)
    model = twin(arch, 3, inplace=True)
    before = copy.deepcopy(model.state_dict())
    state = TrainState(model, torch.optim.SGD(model.get_optim_policies(), lr=0.01, momentum=0.9))
    model.train()
    for step in range(3):
        train_step(state, clip(4, 3, 3, 64, seed=step), torch.tensor([0, 1, 2, 3]), clip_gradient=5.0)
    model.eval()
    changed = [not torch.equal(before[key], value) for key, value in model.state_dict().items()]
    assert sum(changed) >= 0.99 * len(changed), "training changes weights, running statistics and counters"
    clips = clip(2, 3, 3, 64, seed=9)
    assert_equal_logits(stream(OnlineTSM(model), clips, 3).mean(dim=1), clip_logits(model, clips))


def test_double_precision_agrees_further():
    model = twin("resnet18", 3).double()
    clips = clip(1, 3, 3, 48).double()
    got = stream(OnlineTSM(model), clips, 3).mean(dim=1)
    assert float((got - clip_logits(model, clips)).abs().max()) < 1e-13


# ---- nothing but the past of the same stream ------------------------------------------------------------------

@pytest.mark.parametrize("arch, place", [("resnet18", "block"), ("resnet50", "blockres"), ("mobilenetv2", "blockres"),
                                         ("mobilenetv2", "block"), ("BNInception", "011111111111")])
def test_the_one_way_clip_model_never_looks_ahead(arch, place):
    """Answers up to a frame are bitwise the same whatever follows it, and the next ones are not."""
    t, cut = 5, 3
    model = twin(arch, t, place, consensus_type="identity")
    one = clip(1, t, 3, 64)
    other = one.clone()
    other[:, 3 * cut:] = clip(1, t - cut, 3, 64, seed=1)
    first, second = clip_logits(model, one), clip_logits(model, other)
    assert torch.equal(first[:, :cut], second[:, :cut])
    assert not torch.equal(first[:, cut], second[:, cut])
    # Only the frame before reaches a shift, but through several of them frame 0 reaches the last.
    other = one.clone()
    other[:, :3] += 0.1
    assert not torch.equal(first[:, -1], clip_logits(model, other)[:, -1])


@pytest.mark.parametrize("arch, place, size", [("resnet18", "block", 48), ("resnet18", "blockres", 48),
                                               ("mobilenetv2", "blockres", 64), ("mobilenetv2", "block", 64),
                                               ("BNInception", "block", 64)])
def test_one_way_in_place_learns_the_same(arch, place, size):
    plain, inplace = twin(arch, 3, place), twin(arch, 3, place, inplace=True)
    assert all(m.inplace for m in inplace.modules() if isinstance(m, TemporalShift))
    clips = clip(2, 3, 3, size)
    for model in (plain, inplace):
        model(clips).square().sum().backward()
    assert torch.equal(clip_logits(plain, clips), clip_logits(inplace, clips))
    for (name, a), b in zip(plain.named_parameters(), inplace.parameters()):
        assert torch.allclose(a.grad, b.grad, rtol=1e-4, atol=1e-6 * float(a.grad.abs().max())), name


def test_one_way_is_in_the_name_and_the_settings():
    found = twin("mobilenetv2", 8).spec
    assert store_name(found, "jester", 50) == "TSM_jester_RGB_mobilenetv2_shift8_blockres_uni_avg_segment8_e50"
    assert TSN.from_spec(found).spec == found
    directions = {m.direction for m in TSN.from_spec(found).modules() if isinstance(m, TemporalShift)}
    assert directions == {"unidirectional"}


@pytest.fixture(scope="module")
def small():
    return OnlineTSM(twin("mobilenetv2", 4))


def test_later_frames_change_neither_an_answer_nor_the_state_it_left(small):
    frames = clip(1, 4, 3, 64).unflatten(1, (4, 3))
    logits, state = small.step(frames[:, 0], small.initial_state(1, 64, 64))
    kept, copy_of_state = logits.clone(), [tensor.clone() for tensor in state]
    ways = [small.step(frames[:, 1], state)[0], small.step(frames[:, 2], state)[0], small.step(frames[:, 1], state)[0]]
    assert torch.equal(ways[0], ways[2]) and not torch.equal(ways[0], ways[1])
    assert torch.equal(logits, kept) and all(map(torch.equal, state, copy_of_state))


def test_streams_in_one_batch_do_not_mix(small):
    clips = clip(3, 4, 3, 64)
    other = clips.clone()
    other[1] = clip(1, 4, 3, 64, seed=5)[0]
    one, two = stream(small, clips, 4), stream(small, other, 4)
    assert torch.equal(one[0], two[0]) and torch.equal(one[2], two[2]) and not torch.equal(one[1], two[1])
    for i in range(3):
        # A batch of another size may sum in another order, which random weights amplify.
        assert_equal_logits(stream(small, clips[i:i + 1], 4)[0], one[i], relative=1e-4)


def test_beginning_again_equals_a_new_model(small):
    clips = clip(1, 4, 3, 64)
    first = stream(small, clips, 4)
    stream(small, clip(2, 4, 3, 96, seed=3), 4)  # another size and batch in between
    assert torch.equal(stream(small, clips, 4), first)
    assert torch.equal(stream(OnlineTSM(twin("mobilenetv2", 4)), clips, 4), first)


def test_two_threads_at_once(small):
    clips = [clip(1, 4, 3, 64, seed=seed) for seed in range(2)]
    alone = [stream(small, each, 4) for each in clips]
    wrong = []

    def work(i):
        for _ in range(5):
            if not torch.equal(stream(small, clips[i], 4), alone[i]):
                wrong.append(i)
    threads = [threading.Thread(target=work, args=(i,)) for i in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_a_failing_step_leaves_nothing_behind(small):
    frames, state = clip(1, 1, 3, 64), small.initial_state(1, 64, 64)
    wanted = small.step(frames, state)[0]
    with pytest.raises(RuntimeError):
        small(frames, *state[:-1], torch.zeros(1, 1, 1, 1))
    assert torch.equal(small.step(frames, state)[0], wanted)


def test_a_state_owns_its_storage_and_no_graph(small):
    logits, state = small.step(clip(2, 1, 3, 64), small.initial_state(2, 64, 64))
    assert not logits.requires_grad
    for tensor in state:
        assert tensor.untyped_storage().nbytes() == tensor.numel() * 4 and tensor.grad_fn is None


def test_always_in_evaluation_mode(small):
    frames, state = clip(2, 1, 3, 64), small.initial_state(2, 64, 64)
    wanted = small.step(frames, state)[0]
    assert not small.train().training
    assert torch.equal(small.step(frames, state)[0], wanted)


def test_the_clip_model_stays_as_it_is():
    model = twin("resnet18", 3)
    keys, before = list(model.state_dict()), clip_logits(model, clip(1, 3, 3, 48))
    online = OnlineTSM(model.train())
    assert list(model.state_dict()) == keys and model.training
    assert all(parameter.requires_grad for parameter in model.parameters())
    assert torch.equal(clip_logits(model.eval(), clip(1, 3, 3, 48)), before)
    with torch.no_grad():
        model.new_fc.weight.zero_()
    assert float(online.new_fc.weight.abs().max()) > 0


# ---- it exports -----------------------------------------------------------------------------------------------

def test_exports_with_a_free_batch():
    online = OnlineTSM(twin("resnet18", 3))
    batch = torch.export.Dim("batch")
    state = online.initial_state(2, 64, 64)
    program = torch.export.export(online, (clip(2, 1, 3, 64), *state), strict=False, dynamic_shapes=(
        {0: batch}, tuple({0: batch} for _ in state)))
    exported, state = program.module(), online.initial_state(3, 64, 64)
    for seed in range(2):
        frames = clip(3, 1, 3, 64, seed)
        wanted, got = online(frames, *state), exported(frames, *state)
        assert all(torch.allclose(a, b, rtol=1e-5, atol=1e-6) for a, b in zip(wanted, got))
        state = wanted[1:]


def test_compiles_into_one_graph():
    online = OnlineTSM(twin("resnet18", 3))
    compiled = torch.compile(online, backend="eager", fullgraph=True)
    state = online.initial_state(1, 48, 48)
    for seed in range(2):
        wanted = online(clip(1, 1, 3, 48, seed), *state)
        assert all(map(torch.equal, compiled(clip(1, 1, 3, 48, seed), *state), wanted))
        state = wanted[1:]


# ---- the published online MobileNetV2 -------------------------------------------------------------------------

@pytest.fixture(scope="module")
def published():
    model = MobileNetV2(27).eval()
    model.load_state_dict(fill(model.state_dict()))
    return model.requires_grad_(False)


def test_published_keys_shapes_and_logits(published, golden):
    rows = [[key, list(value.shape)] for key, value in published.state_dict().items()]
    assert rows == golden("state_dict_keys")["online_mobilenetv2"]
    wanted = golden("online_mobilenetv2")
    buffers = published.initial_buffers()
    assert [list(buffer.shape) for buffer in buffers] == wanted["buffer_shapes"]
    for t, row in enumerate(np.asarray(wanted["logits"], np.float32).reshape(-1, 27)):
        frame = np.random.default_rng(100 + t).normal(0, 1, (1, 3, 224, 224)).astype(np.float32)
        logits, *buffers = published(torch.from_numpy(frame), *buffers)
        assert np.abs(logits.numpy()[0] - row).max() <= 1e-4 * np.abs(row).max()
    assert t == 3


def test_any_backbone_streams_as_the_published_class_does(published, golden, tmp_path):
    torch.save(published.state_dict(), tmp_path / "mobilenetv2_jester_online.pth.tar")
    online = OnlineTSM(tmp_path / "mobilenetv2_jester_online.pth.tar")
    assert [list(tensor.shape) for tensor in online.initial_state()] == golden("online_mobilenetv2")["buffer_shapes"]
    assert len(online.class_names) == 27 and online.class_names[2] == "No gesture"
    frame, buffers, state = clip(1, 1, 3, 224), published.initial_buffers(), online.initial_state()
    for _ in range(3):
        logits, *buffers = published(frame, *buffers)
        got, state = online.step(frame, state)
        assert torch.equal(got, logits) and all(map(torch.equal, state, buffers))


@pytest.mark.parametrize("width, div, size", [(0.5, 8, 64), (1.4, 4, 97), (0.35, 2, 33), (1.0, 5, 160)])
def test_other_widths_divs_and_sizes(width, div, size):
    """The buffers follow, and the mean of a clip is that of the clip network of the same width."""
    online = MobileNetV2(6, size, width, shift_div=div).eval().requires_grad_(False)
    online.load_state_dict(fill(online.state_dict()))
    offline = mobilenet_v2.MobileNetV2(6, size, width).eval().requires_grad_(False)
    offline.load_state_dict(online.state_dict())
    make_mobilenet_shift(offline, 3, "blockres", n_div=div, direction="unidirectional")
    clips, buffers, total = clip(2, 3, 3, size), online.initial_buffers(batch=2), 0
    for t in range(3):
        logits, *after = online(clips[:, 3 * t:3 * t + 3], *buffers)
        assert [a.shape for a in after] == [b.shape for b in buffers]
        total, buffers = total + logits, after
    wanted = offline(clips.reshape(6, 3, size, size)).unflatten(0, (2, 3)).mean(dim=1)
    assert_equal_logits(total / 3, wanted)


def test_published_class_refuses_missing_buffers(published):
    with pytest.raises(ValueError, match="0 buffers: this network has 10"):
        published(torch.zeros(1, 3, 64, 64))


# ---- what goes in, and what is refused ------------------------------------------------------------------------

@pytest.mark.parametrize("arch", ["resnet18", "BNInception"])
def test_prepare_is_the_clip_models(arch):
    model = twin(arch, 2, place=None)
    online = OnlineTSM(model)
    pixels = torch.arange(2 * 3 * 64 * 64).reshape(2, 3, 64, 64).remainder(256).to(torch.uint8)
    prepare = make_preprocessor(*model.normalization, arch == "BNInception", torch.device("cpu"))
    assert torch.equal(online.prepare(pixels), prepare(pixels))
    assert online.preprocessing["color"] == ("BGR" if arch == "BNInception" else "RGB")
    assert pixels.dtype == torch.uint8 and pixels.max() == 255


@pytest.mark.parametrize("options, words", [
    ({"shift_direction": "bidirectional"}, ["two-way shift", "next frame", "shift_direction unidirectional"]),
    ({"temporal_pool": True}, ["temporal pooling"]),
    ({"non_local": True}, ["non-local"]),
    ({"before_softmax": False}, ["before_softmax=False"]),
])
def test_models_that_cannot_stream(options, words):
    with pytest.raises(UserError) as error:
        OnlineTSM(twin("resnet50" if "non_local" in options else "resnet18", 4, **options))
    assert all(word in str(error.value) for word in words) and "\n" not in str(error.value)


@pytest.mark.parametrize("modality", ["Flow", "RGBDiff"])
def test_other_modalities_cannot_stream(modality):
    with pytest.raises(UserError, match=f"only RGB models can stream, this is a {modality} model"):
        OnlineTSM(TSN(5, 2, modality, base_model="resnet18", pretrain="none", print_spec=False))


def test_force_streams_a_two_way_model_as_if_it_were_one_way(caplog):
    two_way = twin("resnet18", 3, shift_direction="bidirectional")
    one_way = twin("resnet18", 3)
    one_way.load_state_dict(two_way.state_dict())
    clips = clip(1, 3, 3, 48)
    online = OnlineTSM(two_way, force=True)
    assert "not what was trained" in caplog.text
    assert online.spec.shift_direction == "unidirectional"
    assert_equal_logits(stream(online, clips, 3).mean(dim=1), clip_logits(one_way, clips))
    assert not torch.allclose(clip_logits(one_way, clips), clip_logits(two_way, clips), rtol=1e-3)


def test_a_state_of_another_model_size_or_batch_is_refused(small):
    frames, state = clip(1, 1, 3, 64), small.initial_state(1, 64, 64)
    for wrong in (state[:3], small.initial_state(2, 64, 64), small.initial_state(1, 96, 64), ()):
        with pytest.raises(UserError, match="does not belong to 1 frames of 64x64"):
            small.step(frames, wrong)
