"""OnlineTSM: streaming equals the clip model, and neither later frames nor other streams change a prediction."""
import copy
import threading

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ops.checkpoints.store_name import store_name
from ops.common.errors import UserError
from ops.data.tsn_dataset import Batch
from ops.models import TSN
from ops.streaming.online import OnlineTSM
from ops.temporal_shift import TemporalShift
from ops.training.state import TrainState
from ops.training.step import StepOptions, train_step
from tests.helpers.golden_model import clip
from tests.helpers.online import assert_equal_logits, make_model, stream_logits

pytestmark = pytest.mark.usefixtures("one_thread")


@torch.no_grad()
def clip_logits(model, clips):
    return model(clips)


# ---- the mean over a clip's frames equals the clip model's logits ----------------------------------------------

CASES = [
    ("resnet18", "block", 8, 64, 4, {}),
    ("resnet18", "blockres", 4, 49, 3, {"dropout": 0}),
    ("resnet50", "blockres", 8, 32, 5, {}),
    ("resnet101", "blockres", 8, 32, 2, {}),
    ("mobilenetv2", "blockres", 8, 96, 8, {}),
    ("mobilenetv2", "block", 3, 64, 3, {}),
    ("BNInception", "block", 3, 64, 3, {}),
    ("regnety400mf", "blockres", 8, 64, 3, {}),
    ("regnety400mf", "block", 4, 50, 2, {}),
    ("BNInception", "010101010101", 8, 71, 2, {}),
]
SHIFTS = {("resnet18", "block"): 8, ("resnet18", "blockres"): 8, ("resnet50", "blockres"): 16,
          ("resnet101", "blockres"): 18, ("mobilenetv2", "blockres"): 10, ("mobilenetv2", "block"): 10,
          ("regnety400mf", "blockres"): 16, ("regnety400mf", "block"): 16,
          ("BNInception", "block"): 11, ("BNInception", "010101010101"): 6}


@pytest.mark.parametrize("arch, place, div, size, t, options", CASES)
def test_the_mean_over_a_clip_equals_the_clip_model(arch, place, div, size, t, options):
    model = make_model(arch, t, place, div, **options)
    online = OnlineTSM(model)
    clips = clip(2, t, 3, size)
    assert len(online.shift_names) == SHIFTS[arch, place] == len(online.initial_state(1, size, size))
    each = stream_logits(online, clips, t)
    assert_equal_logits(each.mean(dim=1), clip_logits(model, clips))
    assert float((each[:, 0] - each[:, -1]).abs().max()) > 1e-3 * float(each.abs().max())


@settings(max_examples=8, deadline=None)
@given(div=st.integers(1, 24), height=st.integers(32, 60), width=st.integers(32, 60), t=st.integers(1, 4),
       place=st.sampled_from(["block", "blockres"]), seed=st.integers(0, 99))
def test_the_mean_for_any_div_size_and_length(div, height, width, t, place, seed):
    model = make_model("mobilenetv2", t, place, div)
    clips = torch.randn(2, 3 * t, height, width, generator=torch.Generator().manual_seed(seed))
    assert_equal_logits(stream_logits(OnlineTSM(model), clips, t).mean(dim=1), clip_logits(model, clips))


def test_with_identity_consensus_every_frame_equals_the_clip_model():
    model = make_model("resnet18", 4, consensus_type="identity")
    clips = clip(2, 4, 3, 48)
    assert_equal_logits(stream_logits(OnlineTSM(model), clips, 4), clip_logits(model, clips))


def test_a_model_without_shift_needs_no_state():
    model = TSN(5, 3, "RGB", base_model="resnet18", pretrain="none", print_spec=False).eval()
    online, clips = OnlineTSM(model), clip(1, 3, 3, 48)
    assert online.initial_state() == ()
    assert_equal_logits(stream_logits(online, clips, 3).mean(dim=1), clip_logits(model, clips))


@pytest.mark.parametrize("arch", ["resnet18", "mobilenetv2"])
def test_the_mean_after_training(arch):
    torch.manual_seed(0)
    model = make_model(arch, 3, inplace=True)
    initial = copy.deepcopy(model.state_dict())
    state = TrainState(model, torch.optim.SGD(model.get_optim_policies(), lr=0.01, momentum=0.9))
    model.train()
    for step in range(3):
        batch = Batch(clip(4, 3, 3, 64, seed=step), torch.tensor([0, 1, 2, 3]), [])
        train_step(state, [batch], StepOptions(prepare=lambda clips: clips, clip_gradient=5.0))
    model.eval()
    changed = [not torch.equal(initial[key], value) for key, value in model.state_dict().items()]
    assert sum(changed) >= 0.99 * len(changed), "training changes weights, running statistics and counters"
    clips = clip(2, 3, 3, 64, seed=9)
    assert_equal_logits(stream_logits(OnlineTSM(model), clips, 3).mean(dim=1), clip_logits(model, clips))


def test_double_precision_agrees_to_more_digits():
    model = make_model("resnet18", 3).double()
    clips = clip(1, 3, 3, 48).double()
    got = stream_logits(OnlineTSM(model), clips, 3).mean(dim=1)
    assert float((got - clip_logits(model, clips)).abs().max()) < 1e-13


# ---- only the past of the same stream matters -----------------------------------------------------------------

@pytest.mark.parametrize("arch, place", [("resnet18", "block"), ("resnet50", "blockres"), ("mobilenetv2", "blockres"),
                                         ("mobilenetv2", "block"), ("BNInception", "011111111111")])
def test_the_one_way_clip_model_never_looks_ahead(arch, place):
    """Logits up to a frame are bitwise independent of later frames; those after it are not."""
    t, cut = 5, 3
    model = make_model(arch, t, place, consensus_type="identity")
    one = clip(1, t, 3, 64)
    other = one.clone()
    other[:, 3 * cut:] = clip(1, t - cut, 3, 64, seed=1)
    first, second = clip_logits(model, one), clip_logits(model, other)
    assert torch.equal(first[:, :cut], second[:, :cut])
    assert not torch.equal(first[:, cut], second[:, cut])
    # A shift takes channels from the previous frame only, but through several shifts frame 0 reaches the last frame.
    other = one.clone()
    other[:, :3] += 0.1
    assert not torch.equal(first[:, -1], clip_logits(model, other)[:, -1])


@pytest.mark.parametrize("arch, place, size", [("resnet18", "block", 48), ("resnet18", "blockres", 48),
                                               ("mobilenetv2", "blockres", 64), ("mobilenetv2", "block", 64),
                                               ("BNInception", "block", 64)])
def test_in_place_one_way_shift_has_the_same_gradients(arch, place, size):
    plain, inplace = make_model(arch, 3, place), make_model(arch, 3, place, inplace=True)
    assert all(m.inplace for m in inplace.modules() if isinstance(m, TemporalShift))
    clips = clip(2, 3, 3, size)
    for model in (plain, inplace):
        model(clips).square().sum().backward()
    assert torch.equal(clip_logits(plain, clips), clip_logits(inplace, clips))
    for (name, a), b in zip(plain.named_parameters(), inplace.parameters()):
        assert torch.allclose(a.grad, b.grad, rtol=1e-4, atol=1e-6 * float(a.grad.abs().max())), name


def test_one_way_is_in_the_store_name_and_the_spec():
    spec = make_model("mobilenetv2", 8).spec
    assert store_name(spec, "jester", 50) == "TSM_jester_RGB_mobilenetv2_shift8_blockres_uni_avg_segment8_e50"
    assert TSN.from_spec(spec).spec == spec
    directions = {m.direction for m in TSN.from_spec(spec).modules() if isinstance(m, TemporalShift)}
    assert directions == {"unidirectional"}


@pytest.fixture(scope="module")
def small():
    return OnlineTSM(make_model("mobilenetv2", 4))


def test_later_steps_change_neither_logits_nor_state_of_earlier_ones(small):
    frames = clip(1, 4, 3, 64).unflatten(1, (4, 3))
    logits, state = small.step(frames[:, 0], small.initial_state(1, 64, 64))
    kept, copy_of_state = logits.clone(), [tensor.clone() for tensor in state]
    branches = [small.step(frames[:, 1], state)[0], small.step(frames[:, 2], state)[0], small.step(frames[:, 1], state)[0]]
    assert torch.equal(branches[0], branches[2]) and not torch.equal(branches[0], branches[1])
    assert torch.equal(logits, kept) and all(map(torch.equal, state, copy_of_state))


def test_streams_in_one_batch_do_not_mix(small):
    clips = clip(3, 4, 3, 64)
    other = clips.clone()
    other[1] = clip(1, 4, 3, 64, seed=5)[0]
    one, two = stream_logits(small, clips, 4), stream_logits(small, other, 4)
    assert torch.equal(one[0], two[0]) and torch.equal(one[2], two[2]) and not torch.equal(one[1], two[1])
    for i in range(3):
        # A batch of another size may sum in another order, which random weights amplify.
        assert_equal_logits(stream_logits(small, clips[i:i + 1], 4)[0], one[i], relative=1e-4)


def test_restarting_equals_a_new_model(small):
    clips = clip(1, 4, 3, 64)
    first = stream_logits(small, clips, 4)
    stream_logits(small, clip(2, 4, 3, 96, seed=3), 4)  # another size and batch in between
    assert torch.equal(stream_logits(small, clips, 4), first)
    assert torch.equal(stream_logits(OnlineTSM(make_model("mobilenetv2", 4)), clips, 4), first)


def test_two_threads_at_once(small):
    clips = [clip(1, 4, 3, 64, seed=seed) for seed in range(2)]
    alone = [stream_logits(small, each, 4) for each in clips]
    wrong = []

    def work(i):
        for _ in range(5):
            if not torch.equal(stream_logits(small, clips[i], 4), alone[i]):
                wrong.append(i)
    threads = [threading.Thread(target=work, args=(i,)) for i in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_a_failed_step_changes_nothing(small):
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


def test_the_clip_model_is_left_unchanged():
    model = make_model("resnet18", 3)
    keys, logits = list(model.state_dict()), clip_logits(model, clip(1, 3, 3, 48))
    online = OnlineTSM(model.train())
    assert list(model.state_dict()) == keys and model.training
    assert all(parameter.requires_grad for parameter in model.parameters())
    assert torch.equal(clip_logits(model.eval(), clip(1, 3, 3, 48)), logits)
    with torch.no_grad():
        model.new_fc.weight.zero_()
    assert float(online.new_fc.weight.abs().max()) > 0


# ---- tracing --------------------------------------------------------------------------------------------------

def test_exports_with_a_free_batch():
    online = OnlineTSM(make_model("resnet18", 3))
    batch = torch.export.Dim("batch", max=1024)
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
    online = OnlineTSM(make_model("resnet18", 3))
    compiled = torch.compile(online, backend="eager", fullgraph=True)
    state = online.initial_state(1, 48, 48)
    for seed in range(2):
        wanted = online(clip(1, 1, 3, 48, seed), *state)
        assert all(map(torch.equal, compiled(clip(1, 1, 3, 48, seed), *state), wanted))
        state = wanted[1:]


# ---- inputs, and what is refused ------------------------------------------------------------------------------

@pytest.mark.parametrize("arch", ["resnet18", "BNInception"])
def test_prepare_normalizes_as_for_the_clip_model(arch):
    model = make_model(arch, 2, place=None)
    online = OnlineTSM(model)
    pixels = torch.arange(2 * 3 * 64 * 64).reshape(2, 3, 64, 64).remainder(256).to(torch.uint8)
    assert torch.equal(online.prepare(pixels), model.preprocessing.apply(pixels))
    assert online.preprocessing.color == ("BGR" if arch == "BNInception" else "RGB")
    assert pixels.dtype == torch.uint8 and pixels.max() == 255


@pytest.mark.parametrize("options, words", [
    ({"shift_direction": "bidirectional"}, ["two-way shift", "next frame", "shift_direction unidirectional"]),
    ({"temporal_pool": True}, ["temporal pooling"]),
    ({"non_local": True}, ["non-local"]),
    ({"before_softmax": False}, ["before_softmax=False"]),
])
def test_models_that_cannot_stream(options, words):
    with pytest.raises(UserError) as error:
        OnlineTSM(make_model("resnet50" if "non_local" in options else "resnet18", 4, **options))
    assert all(word in str(error.value) for word in words) and "\n" not in str(error.value)


@pytest.mark.parametrize("modality", ["Flow", "RGBDiff"])
def test_other_modalities_cannot_stream(modality):
    with pytest.raises(UserError, match=f"only RGB models can stream, this is a {modality} model"):
        OnlineTSM(TSN(5, 2, modality, base_model="resnet18", pretrain="none", print_spec=False))


def test_force_streams_a_two_way_model_as_one_way(caplog):
    two_way = make_model("resnet18", 3, shift_direction="bidirectional")
    one_way = make_model("resnet18", 3)
    one_way.load_state_dict(two_way.state_dict())
    clips = clip(1, 3, 3, 48)
    online = OnlineTSM(two_way, force=True)
    assert "not what was trained" in caplog.text
    assert online.spec.shift_direction == "unidirectional"
    assert_equal_logits(stream_logits(online, clips, 3).mean(dim=1), clip_logits(one_way, clips))
    assert not torch.allclose(clip_logits(one_way, clips), clip_logits(two_way, clips), rtol=1e-3)


def test_a_state_of_another_model_size_or_batch_is_refused(small):
    frames, state = clip(1, 1, 3, 64), small.initial_state(1, 64, 64)
    for wrong in (state[:3], small.initial_state(2, 64, 64), small.initial_state(1, 96, 64), ()):
        with pytest.raises(UserError, match="does not belong to 1 frame of 64x64"):
            small.step(frames, wrong)
