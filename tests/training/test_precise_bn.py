"""BatchNorm statistics for validation: the means over training batches, with the weights that are validated."""
import pytest
import torch
from torch import nn

from ops.data.loader import make_loader
from ops.training.loop import LoopOptions, fit
from ops.training.precise_bn import update_statistics
from ops.training.state import TrainState
from ops.training.step import StepOptions
from tests.training.test_loop import Clips

STEPS = StepOptions(prepare=lambda clips: clips.float() / 255)


def new_state(ema=0.0):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.BatchNorm1d(48), nn.Dropout(0.2), nn.Linear(48, 3))
    groups = [{"params": list(model.parameters()), "name": "normal_weight", "lr_mult": 1, "decay_mult": 1}]
    return TrainState(model, torch.optim.SGD(groups, 0.1, momentum=0.9), seed=5, ema=ema)


def loader():
    return make_loader(Clips(), 4, workers=0, train=True, seed=5)


@pytest.mark.parametrize("batches", [1, 2])
def test_the_statistics_are_means_over_batches(batches):
    state, data = new_state(), loader()
    clips = [STEPS.prepare(batch.clips).flatten(1) for batch in data][:batches]
    state.model[1].running_mean.fill_(7.0)
    update_statistics(state, data, STEPS, batches)
    for name, statistic in (("running_mean", lambda batch: batch.mean(0)), ("running_var", lambda batch: batch.var(0))):
        wanted = torch.stack([statistic(batch) for batch in clips]).mean(0)
        assert torch.allclose(getattr(state.model[1], name), wanted, atol=1e-6)
    assert state.model[1].momentum == 0.1


@pytest.mark.parametrize("ema", [0.0, 0.9])
def test_validation_uses_them_and_a_resumed_run_has_the_same(ema, tmp_path):
    def train(directory, state, **more):
        seen = []

        @torch.no_grad()
        def runtime(clips):
            seen.append(state.validated[1].running_mean.clone())
            return state.validated.eval()(STEPS.prepare(clips))
        fit(state, loader(), make_loader(Clips(), 4, workers=0, train=False), options=LoopOptions(
            **{"epochs": 3, "lr": 0.1, "eval_freq": 1, "precise_bn": 2, **more}), steps=STEPS, runtime=runtime,
            directory=directory)
        return seen

    whole, parts = new_state(ema), new_state(ema)
    precise = train(tmp_path / "whole", whole)
    assert not torch.equal(precise[-1], train(tmp_path / "moving", new_state(ema), precise_bn=0)[-1])
    train(tmp_path / "parts", parts, max_epochs=1)
    resumed, file = new_state(ema), tmp_path / "parts" / "ckpt.pth.tar"
    resumed.load_state_dict(torch.load(file, weights_only=True), file)
    train(tmp_path / "parts", resumed)
    for key, value in whole.state_dict()["state_dict"].items():
        assert torch.equal(value, resumed.state_dict()["state_dict"][key]), key
