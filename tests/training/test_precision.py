"""Mixed precision: the choice for a device, and training with it."""
import pytest
import torch

from ops.common.device import processor
from ops.common.errors import UserError
from ops.data.tsn_dataset import Batch
from ops.models import TSN
from ops.spec import ModelSpec
from ops.training import precision
from ops.training.precision import Precision, bf16_units, choose_precision
from ops.training.state import TrainState
from ops.training.step import StepOptions, train_step
from tests.helpers.golden_model import clip

CPU = torch.device("cpu")


def test_the_device_chooses(monkeypatch):
    monkeypatch.setattr(precision, "bf16_units", lambda: "amx_bf16")
    assert choose_precision("auto", CPU) == Precision(CPU, torch.bfloat16, "this CPU has amx_bf16")
    monkeypatch.setattr(precision, "bf16_units", lambda: "")
    assert choose_precision("auto", CPU) == Precision(CPU, None, "this cpu has no bf16 units")
    assert choose_precision("off", CPU).name == "float32" and choose_precision("bf16", CPU).name == "bf16"
    cuda = torch.device("cuda")
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda emulation: False)
    assert choose_precision("auto", cuda).dtype is None and choose_precision("fp16", cuda).name == "fp16"


@pytest.mark.parametrize("amp, words", [("fp16", "fp16 needs a GPU, this run is on cpu"), ("int8", "choose auto, off")])
def test_what_a_cpu_cannot_do_is_refused(amp, words):
    with pytest.raises(UserError, match=words):
        choose_precision(amp, CPU)


def test_the_units_are_read_from_the_processors_flags(tmp_path, monkeypatch):
    (tmp_path / "a").write_text("model name\t: X 1\nflags\t\t: fpu avx512_bf16 amx_bf16\n")
    (tmp_path / "b").write_text("flags : fpu avx512f\n")
    assert processor(tmp_path / "a") == ("X 1", ["fpu", "avx512_bf16", "amx_bf16"])
    units = []
    for name in ("a", "b", "absent"):
        monkeypatch.setattr(precision, "processor", lambda name=name: processor(tmp_path / name))
        units.append(bf16_units())
    assert units == ["amx_bf16", "", ""]


def test_bf16_computes_in_bf16_and_learns_like_float32():
    losses = {}
    for amp in ("off", "bf16"):
        torch.manual_seed(0)
        model = TSN.from_spec(ModelSpec(4, 2, arch="resnet18", shift=True, dropout=0, input_size=32))
        state = TrainState(model, torch.optim.SGD(model.get_optim_policies(), 0.01, momentum=0.9))
        dtypes = []
        model.base_model.layer1.register_forward_hook(
            lambda module, inputs, output, dtypes=dtypes: dtypes.append(output.dtype))
        options = StepOptions(prepare=lambda clips: clips, precision=choose_precision(amp, CPU))
        batches = [Batch(clip(4, 2, 3, 32, seed=i), torch.tensor([0, 1, 2, 3]), []) for i in range(2)]
        model.train()
        losses[amp] = [train_step(state, batches, options).loss for _ in range(6)]
        assert set(dtypes) == {torch.bfloat16 if amp == "bf16" else torch.float32}
        assert all(parameter.dtype == torch.float32 for parameter in model.parameters())
    assert losses["off"] != losses["bf16"] and losses["bf16"][-1] < losses["bf16"][0]
    assert losses["bf16"] == pytest.approx(losses["off"], abs=0.05)
