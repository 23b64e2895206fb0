"""BatchNorm statistics for validation: the means over training batches, with the weights that are validated."""
import copy

import pytest
import torch
from torch import nn

from ops.data.loader import make_loader
from ops.data.tsn_dataset import WithoutViews
from ops.models import TSN
from ops.spec import ModelSpec
from ops.training.loop import LoopOptions, fit
from ops.training.precise_bn import update_statistics
from ops.training.state import TrainState
from ops.training.step import StepOptions
from tests.training.parallel_run import Noise
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


def test_the_statistics_need_no_views():
    class Watched(Clips):
        def __getitem__(self, key):
            keys.append(key)
            return super().__getitem__(key)
    keys = []
    update_statistics(new_state(), make_loader(Watched(), 4, workers=0, train=True, seed=5), STEPS, 2)
    assert len(keys) == 8 and all(isinstance(key, WithoutViews) for key in keys)


@pytest.mark.parametrize("ema", [0.0, 0.9])
def test_frozen_norms_keep_their_statistics_and_pass_them_on(ema):
    torch.manual_seed(0)
    model = TSN.from_spec(ModelSpec(3, 2, arch="resnet18", dropout=0, input_size=32))
    model.base_model.bn1.running_mean.normal_()
    free, frozen = copy.deepcopy(model), model
    frozen.freeze("stem")
    kept, first = copy.deepcopy(frozen.base_model.bn1.state_dict()), {}
    for name, network in (("frozen", frozen), ("free", free)):
        optimizer = torch.optim.SGD(network.get_optim_policies(), 0.1)
        state = TrainState(network, optimizer, seed=5, ema=ema)
        data = make_loader(Noise(8), 4, workers=0, train=True, seed=5)
        update_statistics(state, data, STEPS, 2)
        first[name] = state.validated.base_model.layer1[0].bn1
        norm = state.validated.base_model.bn1
        assert norm.track_running_stats
        if name == "frozen":
            assert all(torch.equal(norm.state_dict()[key], value) for key, value in kept.items())
        else:
            assert not torch.equal(norm.running_mean, kept["running_mean"])
    # The frozen norm normalizes with its own statistics, not those of the batches, so the next norm sees other values.
    assert first["frozen"].num_batches_tracked == 2
    assert not torch.allclose(first["frozen"].running_mean, first["free"].running_mean, rtol=0.1)


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
