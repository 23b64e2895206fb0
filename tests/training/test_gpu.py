"""Training on a GPU: every option trains like float32, fp16 survives an overflow, a resumed run is the same to the bit.

Most tests run on the CPU too, so that they are known to work where nobody has a GPU.
"""
import copy
import math
import socket
from functools import partial
from pathlib import Path

import pytest
import torch
from torch import distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from ops.common import distributed
from ops.common.device import peak_memory
from ops.data.augment import make_mix
from ops.data.loader import make_loader
from ops.data.tsn_dataset import Batch
from ops.evaluation.clip_runtime import TorchClip
from ops.models import TSN
from ops.spec import ModelSpec
from ops.training.distillation import Distillation, Teacher
from ops.training.execution import Execution, choose_execution
from ops.training.loop import LoopOptions, fit
from ops.training.precision import Precision, choose_precision
from ops.training.state import LAST, TrainState
from ops.training.step import StepOptions, train_step
from tests.helpers.devices import DEVICES, on_both, on_gpu
from tests.helpers.golden_model import clip
from tests.training.parallel_run import Noise

pytestmark = pytest.mark.usefixtures("one_thread", "tf32")
SPEC = ModelSpec(4, 2, arch="resnet18", shift=True, dropout=0, input_size=32)
BATCHES = [Batch(clip(4, 2, 3, 32, seed=i), torch.tensor([0, 1, 2, 3]), []) for i in range(4)]
SCALE = 2.0 ** 10  # of the loss in fp16, with which the gradients of these networks do not overflow


def precision_of(amp, device):
    """As `choose_precision`, which refuses fp16 on a CPU because it is slow there."""
    return Precision(device, torch.float16) if amp == "fp16" else choose_precision(amp, device)


def new_state(device, amp="off", *, spec=SPEC, execution=None, partial_bn=True, ema=0.0, scale=SCALE, **options):
    """(state, options of a step) of a network with the same first weights each time.

    scale: the first one of fp16; None: PyTorch's. options: of `choose_execution`.
    """
    device = torch.device(device)
    precision = precision_of(amp, device)
    execution = execution or choose_execution(device, precision, **options)
    torch.manual_seed(0)
    model = TSN.from_spec(spec, partial_bn=partial_bn, fc_lr5=True)
    execution.prepare(model)
    model.to(device)
    optimizer = execution.sgd(model.get_optim_policies(), 0.01, momentum=0.9, weight_decay=5e-4)
    scaler = precision.scaler()
    if scaler is not None and scale is not None:
        scaler = torch.amp.GradScaler(device.type, init_scale=scale)
    state = TrainState(model, optimizer, seed=3, scaler=scaler, ema=ema)
    return state, StepOptions(partial(torch.Tensor.to, device=device), precision=precision)


def losses_of(state, options, batches=BATCHES):
    state.model.train()
    return [train_step(state, [batch], options).loss for batch in batches]


def plain(device):
    """The reference: float32, NCHW, one kernel per operation of the optimizer, no TF32."""
    return new_state(device, execution=Execution(tf32=False))


def same_weights(state, other):
    pairs = zip(state.network.state_dict().values(), other.network.state_dict().values(), strict=True)
    return all(torch.equal(*pair) for pair in pairs)


# ---- options --------------------------------------------------------------------------------------------------

@on_gpu
def test_a_gpu_trains_and_scores_like_the_cpu():
    (cpu, cpu_options), (gpu, gpu_options) = plain("cpu"), plain("cuda")
    assert losses_of(gpu, gpu_options) == pytest.approx(losses_of(cpu, cpu_options), rel=2e-3)
    clips = torch.stack([Noise(4)[i][0] for i in range(4)])
    scores = [TorchClip(state.network)(clips).cpu() for state in (cpu, gpu)]
    assert torch.allclose(*scores, atol=1e-2) and scores[0].abs().max() > 0.1


@pytest.mark.parametrize("device, amp, channels_last, tolerance", on_both(
    ("off", False, 1e-3), ("off", True, 1e-3), ("bf16", False, 0.05), ("bf16", True, 0.05), ("fp16", False, 0.01),
    ("fp16", True, 0.01), cpu=[("bf16", True, 0.05), ("fp16", True, 0.01)]))
def test_losses_are_near_those_of_float32(device, amp, channels_last, tolerance):
    """Also: activations have the format that was asked for, and the optimizer is fused."""
    formats = set()
    state, options = new_state(device, amp, channels_last=channels_last, tf32=False if device == "cuda" else None)
    state.network.base_model.layer2.register_forward_hook(lambda module, inputs, output: formats.add(
        (output.dtype, output.is_contiguous(memory_format=torch.channels_last))))
    losses = losses_of(state, options)
    assert losses == pytest.approx(losses_of(*plain(device)), abs=tolerance)
    dtype = {"off": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}[amp]
    assert formats == {(dtype, channels_last)}
    assert all(parameter.dtype == torch.float32 for parameter in state.network.parameters())
    assert state.optimizer.defaults["fused"]


@on_gpu
@pytest.mark.parametrize("tf32", [True, None])
def test_losses_with_tf32_are_near_those_of_float32(tf32):
    """None: PyTorch's default, in convolutions only."""
    assert losses_of(*new_state("cuda", tf32=tf32)) == pytest.approx(losses_of(*plain("cuda")), abs=0.01)


@on_gpu
def test_tf32_rounds_products_where_it_is_asked_for():
    """10 bits of mantissa instead of 23: about a thousandth of the result, not a millionth."""
    torch.manual_seed(0)
    image, kernel = torch.randn(8, 256, 28, 28, device="cuda"), torch.randn(256, 256, 3, 3, device="cuda")
    errors = {}
    for tf32 in (True, False):
        choose_execution(image.device, Precision(image.device), tf32=tf32).prepare(nn.Linear(1, 1))
        rows = image.flatten(0, 1).flatten(1)[:, :512]
        for name, multiply in (("linear", lambda a, b: a[:512] @ a[:512].T), ("convolution", nn.functional.conv2d)):
            operands = (rows, rows) if name == "linear" else (image, kernel)
            exact = multiply(*(operand.double() for operand in operands))
            errors[name, tf32] = float((multiply(*operands) - exact).norm() / exact.norm())
    assert errors["linear", True] > 1e-4 > 1e-5 > errors["linear", False], errors
    assert errors["convolution", True] > 1e-4 > 1e-5 > errors["convolution", False], errors


@on_gpu
def test_a_compiled_run_trains_like_an_eager_one():
    """Through Triton, in the mode that a GPU chooses, also for a batch of another size."""
    batches = [*BATCHES[:2], Batch(clip(3, 2, 3, 32, seed=7), torch.tensor([0, 1, 2]), []), BATCHES[3]]
    (compiled, options), (eager, _) = (new_state("cuda", "bf16", compile=compile, ema=0.5) for compile in (True, False))
    assert losses_of(compiled, options, batches) == pytest.approx(losses_of(eager, options, batches), abs=0.05)
    validated = [state.validated.eval()(BATCHES[0].clips.cuda()) for state in (compiled, eager)]
    assert torch.allclose(*validated, atol=0.1)


@on_gpu
def test_bf16_takes_less_memory_than_float32(record_property):
    """ResNet-18 on 8 clips of 8 frames of 112 pixels, whose activations are most of the memory."""
    spec, peaks = SPEC.with_(num_segments=8, input_size=112), {}
    batch = Batch(clip(8, 8, 3, 112), torch.tensor([0, 1, 2, 3] * 2), [])
    for amp in ("off", "bf16"):
        state, options = new_state("cuda", amp, spec=spec)
        torch.cuda.reset_peak_memory_stats()
        losses_of(state, options, [batch] * 2)
        peaks[amp] = peak_memory(torch.device("cuda")) / 1e6
        del state, options
    record_property("peak_mb", peaks)
    print(f"peak memory, 10^6 bytes: {peaks}")
    weights = 3 * 4 * 11.2  # 11.2 million weights with their gradients and momentum
    assert weights < peaks["bf16"] < 0.9 * peaks["off"]


# ---- fp16 -----------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("device", DEVICES)
def test_a_step_that_overflows_is_left_out_and_lowers_the_scale(device):
    """The first one: fused SGD would keep uninitialized memory as its momentum."""
    (state, options), (other, _) = (new_state(device, "fp16") for _ in range(2))
    state.scaler = torch.amp.GradScaler(device, init_scale=2.0 ** 40, backoff_factor=SCALE / 2.0 ** 40)
    state.model.train()
    result = train_step(state, BATCHES[:1], options)
    assert math.isfinite(result.loss) and not math.isfinite(result.grad_norm)
    assert state.scaler.get_scale() == SCALE and not state.optimizer.state
    for tolerance in (0, 1e-5):  # before and after a step that is not left out
        for one, same in zip(state.network.parameters(), other.network.parameters()):
            assert torch.allclose(one, same, rtol=0, atol=tolerance)
        losses_of(state, options, BATCHES[1:2])
        losses_of(other, options, BATCHES[1:2])
    assert state.optimizer.state


@pytest.mark.parametrize("device", DEVICES)
def test_the_scale_is_resumed(device):
    (stopped, options), (resumed, _) = new_state(device, "fp16"), new_state(device, "fp16", scale=None)
    losses_of(stopped, options, BATCHES[:1])
    assert resumed.scaler.get_scale() != SCALE
    resumed.load_state_dict(copy.deepcopy(stopped.state_dict()), Path("x.pth"))
    assert resumed.scaler.get_scale() == SCALE and resumed.scaler.state_dict() == stopped.scaler.state_dict()
    assert resumed.scaler.state_dict()["_growth_tracker"] == 1


# ---- runs -----------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("device, arch, amp", on_both(
    *((arch, amp) for arch in ("resnet18", "mobilenetv2") for amp in ("off", "bf16", "fp16")),
    cpu=[("resnet18", "bf16"), ("mobilenetv2", "off")]))
def test_steps_after_a_resumption_are_the_same_to_the_bit(device, arch, amp):
    torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark = True, False  # as with --seed
    spec = SPEC.with_(arch=arch, dropout=0.2)

    def steps(state, options, batches):
        for batch in batches:
            state.seed_step()
            losses_of(state, options, [batch])
            state.step += 1

    whole, stopped, resumed = (new_state(device, amp, spec=spec) for _ in range(3))
    steps(*whole, BATCHES)
    steps(*stopped, BATCHES[:2])
    resumed[0].load_state_dict(copy.deepcopy(stopped[0].state_dict()), Path("x.pth"))
    steps(*resumed, BATCHES[2:])
    assert same_weights(resumed[0], whole[0]) and not same_weights(stopped[0], whole[0])


@pytest.mark.parametrize("device, amp", on_both(("off",), ("bf16",), ("fp16",), cpu=[("off",)]))
def test_a_run_with_every_option_is_resumed_exactly(device, amp, tmp_path, caplog):
    """Two epochs at once, and with a stop between them: EMA, mixup, a teacher, precise statistics, two batches a step."""
    caplog.set_level("INFO")
    torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark = True, False
    spec, there = ModelSpec(3, 2, arch="mobilenetv2", shift=True, dropout=0.2, input_size=32), torch.device(device)
    torch.manual_seed(1)
    teacher = TSN.from_spec(spec.with_(shift=False)).to(there).eval().requires_grad_(False)

    def new():
        return new_state(device, amp, spec=spec, partial_bn=False, ema=0.5)[0]

    def train(state, directory, **more):
        distillation = Distillation([Teacher(Path("teacher"), "", teacher)], state.network, 0.5, 2.0)
        steps = StepOptions(partial(state.network.preprocessing.apply, device=there), precision=precision_of(amp, there),
                            clip_gradient=5.0, mix=make_mix(3, mixup=0.2), distillation=distillation)
        fit(state, make_loader(Noise(13), 3, workers=0, train=True, seed=5, accumulate=2),
            make_loader(Noise(5), 2, workers=0, train=False),
            options=LoopOptions(epochs=2, lr=0.01, eval_freq=1, precise_bn=1, **more), steps=steps,
            runtime=TorchClip(state.validated), directory=directory)
        return state

    whole = train(new(), tmp_path / "whole")
    train(new(), tmp_path / "parts", max_epochs=1)
    resumed, file = new(), tmp_path / "parts" / LAST
    resumed.load_state_dict(torch.load(file, weights_only=True, map_location="cpu"), file)
    train(resumed, tmp_path / "parts")
    assert same_weights(resumed, whole) and not same_weights(whole, new())
    for one, other in zip(resumed.validated.state_dict().values(), whole.validated.state_dict().values(), strict=True):
        assert torch.equal(one, other) and one.isfinite().all()
    assert resumed.best == whole.best and "peak memory" in caplog.text


# ---- several processes ----------------------------------------------------------------------------------------

@pytest.mark.parametrize("device", DEVICES)
def test_data_parallel_steps_are_those_of_one_process(device, monkeypatch):
    """In a group of one process, since two cannot share a GPU: NCCL for gradients, gloo for numbers and objects."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    for name, value in (("RANK", 0), ("WORLD_SIZE", 1), ("LOCAL_RANK", 0), ("MASTER_ADDR", "127.0.0.1"),
                        ("MASTER_PORT", port)):
        monkeypatch.setenv(name, str(value))
    alone, options = plain(device)
    together, _ = plain(device)
    there = torch.device(device, 0) if device == "cuda" else torch.device(device)
    with distributed.joined(there, 60) as world:
        assert world == distributed.World(0, 1, 0)
        sums = torch.ones(3, device=there)
        dist.all_reduce(sums)
        assert sums.tolist() == [1, 1, 1] and dist.get_backend_config().count("nccl") == (device == "cuda")
        with monkeypatch.context() as of_two:  # a run of one process has no need of it
            of_two.setattr(distributed, "world", lambda: distributed.World(0, 2, 0))
            together.model = distributed.data_parallel(together.model, there, sync_bn=device == "cuda")
            distributed.share_buffers(together.network)
        assert isinstance(together.model, DistributedDataParallel)
        assert losses_of(together, options) == pytest.approx(losses_of(alone, options), rel=1e-4)
        assert distributed.total([1.5]) == [1.5] and distributed.gather({"a": 1}) == [{"a": 1}]
        norms = [module for module in together.network.modules() if isinstance(module, nn.SyncBatchNorm)]
        assert len(norms) == (20 if device == "cuda" else 0)
