"""How a step is computed: the choice for a device, and that it changes nothing but rounding."""
import copy
import os
import platform
import shutil
from pathlib import Path

import pytest
import torch

from ops.common.errors import UserError
from ops.data.tsn_dataset import Batch
from ops.models import TSN
from ops.spec import ModelSpec
from ops.training.execution import Execution, choose_execution
from ops.training.precision import Precision
from ops.training.state import TrainState
from ops.training.step import StepOptions, train_step
from tests.helpers import processes
from tests.helpers.golden_model import clip

CPU, CUDA = torch.device("cpu"), torch.device("cuda")
SPEC = ModelSpec(4, 2, arch="resnet18", shift=True, dropout=0, input_size=32)
BATCHES = [Batch(clip(4, 2, 3, 32, seed=i), torch.tensor([0, 1, 2, 3]), []) for i in range(4)]
OPTIONS = StepOptions(prepare=lambda clips: clips)


def new_state(execution):
    torch.manual_seed(0)
    model = TSN.from_spec(SPEC, partial_bn=True, fc_lr5=True)
    execution.prepare(model)
    return TrainState(model, execution.sgd(model.get_optim_policies(), 0.01, momentum=0.9, weight_decay=5e-4))


def losses_of(state, batches):
    state.model.train()
    return [train_step(state, [batch], OPTIONS).loss for batch in batches]


def assert_same_weights(a, b, tolerance):
    assert list(a.network.state_dict()) == list(b.network.state_dict())
    for (key, one), other in zip(a.network.state_dict().items(), b.network.state_dict().values()):
        assert torch.allclose(one, other, rtol=tolerance, atol=tolerance), key


# ---- the choice -----------------------------------------------------------------------------------------------

@pytest.mark.parametrize("device, dtype, channels_last", [
    (CPU, None, True), (CPU, torch.bfloat16, True), (CUDA, None, False), (CUDA, torch.bfloat16, True),
    (torch.device("mps"), None, False)])
def test_the_device_chooses_the_memory_format(device, dtype, channels_last):
    execution = choose_execution(device, Precision(device, dtype))
    assert execution.channels_last is channels_last and execution.fused is (device.type != "mps")
    other = choose_execution(device, Precision(device, dtype), channels_last=not channels_last)
    assert (other.channels_last, other.reason) == (not channels_last, "asked for")


def test_the_description_gives_every_mode_with_the_reason():
    assert str(choose_execution(CPU, Precision(CPU), channels_last=False)) == (
        "channels first (asked for), fused SGD, freed memory kept")
    assert str(Execution(True, True, tf32=True, reason="so")) == "channels last (so), compiled, TF32 on"


def test_tf32_is_set_when_it_is_asked_for(tf32, caplog):
    for value in (True, False):
        choose_execution(CUDA, Precision(CUDA), tf32=value).prepare(torch.nn.Linear(1, 1))
        assert [place.allow_tf32 for place in tf32] == [value, value]
    assert choose_execution(CPU, Precision(CPU), tf32=True).tf32 is None
    assert "tf32 has no effect on cpu" in caplog.text


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc can be told")
def test_freed_memory_is_kept():
    """256 MB in blocks of 4 MB: glibc returns them at once, or keeps them for the next step."""
    def resident_pages(keep):
        code = ("import torch; from ops.training.execution import Execution;"
                f"Execution(keep_memory={keep}).prepare(torch.nn.Linear(1, 1));"
                "blocks = [torch.ones(1 << 20) for _ in range(64)]; del blocks; print(open('/proc/self/statm').read())")
        status, out, err = processes.finish(processes.start("-c", code))
        assert status == 0, err
        return int(out.split()[1])
    assert (resident_pages(True) - resident_pages(False)) * os.sysconf("SC_PAGE_SIZE") > 200e6


def test_compile_is_refused_without_a_compiler(monkeypatch):
    monkeypatch.setenv("CXX", "no-such-compiler -O2")
    with pytest.raises(UserError, match="compile needs a C[+][+] compiler, and no-such-compiler is not installed"):
        choose_execution(CPU, Precision(CPU), compile=True)
    assert choose_execution(CUDA, Precision(CUDA), compile=True).compile


# ---- the same training ----------------------------------------------------------------------------------------

@pytest.mark.parametrize("execution", [Execution(fused=True), Execution(channels_last=True),
                                       Execution(channels_last=True, fused=True)], ids=str)
def test_training_is_the_same_but_for_rounding(execution):
    plain, state = new_state(Execution()), new_state(execution)
    assert losses_of(state, BATCHES) == pytest.approx(losses_of(plain, BATCHES), rel=1e-3)
    assert_same_weights(state, plain, 1e-4)


@pytest.mark.parametrize("before, after", [(False, True), (True, False), (True, True)])
def test_momentum_survives_a_change_of_the_memory_format(before, after):
    """Fused SGD reads weight and momentum in the order of their memory; another order would mix up their values."""
    stopped = new_state(Execution(channels_last=before, fused=True))
    losses_of(stopped, BATCHES[:2])
    content = copy.deepcopy(stopped.state_dict())
    resumed = new_state(Execution(channels_last=after, fused=True))
    resumed.load_state_dict(content, Path("x.pth"))
    assert losses_of(resumed, BATCHES[2:]) == pytest.approx(losses_of(stopped, BATCHES[2:]), rel=1e-3)
    assert_same_weights(resumed, stopped, 0 if before == after else 1e-4)


@pytest.mark.skipif(not shutil.which("g++"), reason="needs a C++ compiler")
def test_a_compiled_run_trains_like_an_eager_one():
    compiled, plain = (new_state(Execution(True, compile, True)) for compile in (True, False))
    assert losses_of(compiled, BATCHES) == pytest.approx(losses_of(plain, BATCHES), rel=1e-3)
    assert_same_weights(compiled, plain, 1e-4)
