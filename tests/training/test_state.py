"""TrainState: what a training checkpoint holds, and which files it refuses to resume from."""
from pathlib import Path

import pytest
import torch
from torch import nn

from ops.common.errors import UserError
from ops.models import TSN
from ops.spec import ModelSpec
from ops.training.state import TrainState, head_learns_faster


def small_state(sizes=(3, 2)):
    """Two vectors trained by SGD as main.py makes it, after one step; the second group is the classifier's."""
    model = nn.ParameterList([nn.Parameter(torch.ones(size)) for size in sizes])
    groups = [{"params": [parameter], "name": name, "lr_mult": 1, "decay_mult": 1}
              for parameter, name in zip(model, ("normal_weight", "lr5_weight", "other"))]
    optimizer = torch.optim.SGD(groups, 0.1, momentum=0.9)
    sum(parameter.sum() for parameter in model).backward()
    optimizer.step()
    return TrainState(model, optimizer, epoch=3, best_prec1=12.5)


def optimizer_state(sizes=(3, 2), without=None):
    state = small_state(sizes).optimizer.state_dict()
    state["param_groups"][-1].pop(without, None)
    return state


def checkpoint(**changes):
    """A training checkpoint's content; the entry "gone" is left out."""
    content = {**small_state().state_dict(), **changes}
    return {key: value for key, value in content.items() if value != "gone"}


def test_a_state_holds_the_published_entries_and_the_metadata():
    state = small_state()
    state.metadata = {"arch": "resnet18"}
    content = state.state_dict()
    assert list(content) == ["arch", "epoch", "state_dict", "optimizer", "best_prec1", "step", "sums", "best"]
    assert (content["epoch"], content["best_prec1"]) == (3, 12.5)
    assert list(content["state_dict"]) == ["module.0", "module.1"]


def test_loading_a_state_restores_all_of_it():
    state = small_state()
    with torch.no_grad():
        for parameter in state.model:
            parameter.zero_()
    for group in state.optimizer.param_groups:
        group["lr"], group["momentum"] = 7, 0.5
    state.optimizer.state.clear()
    state.epoch = state.best_prec1 = 0
    state.load_state_dict(checkpoint(best_prec1=torch.tensor(12.5)), Path("x.pth"))
    assert (state.epoch, state.best_prec1) == (3, 12.5)
    for parameter, other in zip(state.model, small_state().model):
        assert torch.equal(parameter, other)
        assert torch.equal(state.optimizer.state[parameter]["momentum_buffer"], torch.ones_like(parameter))
    own = [(group["lr"], group["momentum"]) for group in state.optimizer.param_groups]
    assert own == [(7, 0.5)] * 2, "options of the resumed run, not of the checkpoint's"


@pytest.mark.parametrize("changes, words", [
    (dict(epoch="gone"), "its epoch (None) or best_prec1 (12.5) is not a number"),
    (dict(epoch="three"), "its epoch (three)"), (dict(epoch=-1), "its epoch (-1)"), (dict(epoch=[3]), "its epoch ([3])"),
    (dict(best_prec1="gone"), "best_prec1 (None) is not a number"), (dict(best_prec1=float("nan")), "best_prec1 (nan)"),
    (dict(best_prec1=torch.ones(2)), "is not a number"),
    (dict(optimizer="gone"), "holds no optimizer state"), (dict(optimizer=[1]), "optimizer state lacks"),
    (dict(optimizer={"state": {}}), "optimizer state lacks"),
    (dict(optimizer={"state": {}, "param_groups": 3}), "optimizer state lacks"),
    (dict(optimizer={"state": {}, "param_groups": [[]]}), "optimizer state lacks"),
    (dict(optimizer=optimizer_state(without="lr_mult")), "decay_mult, lr, lr_mult, momentum"),
    (dict(optimizer=optimizer_state(without="momentum")), "optimizer state lacks"),
    *((dict(optimizer={**optimizer_state(), "state": state}), "its optimizer's entry state does not hold a momentum")
      for state in (None, [1], {0: 1}, {0: {"momentum_buffer": 0.5}})),
    (dict(optimizer={**optimizer_state(), "param_groups": [*optimizer_state()["param_groups"], 7]}), "lacks what a step"),
    (dict(optimizer=optimizer_state((3, 2, 2))), "it has 3 groups, this run 2"),
    (dict(optimizer={**optimizer_state(), "state": {0: {"momentum_buffer": torch.tensor([1, float("nan"), 1])}}}),
     "its optimizer's momentum: 1 of 1 tensors hold NaN or Inf, the first is 0"),
    *((dict(best=best), "its best value") for best in (7, {"by": "top1"}, {"by": "top1", "value": "x", "stale": 0},
                                                       {"by": "top1", "value": 1.0, "stale": -1})),
    (dict(state_dict={"module.0": torch.ones(3), "module.1": torch.tensor([1, float("inf")])}),
     "1 of 2 tensors hold NaN or Inf, the first is 1"),
    (dict(optimizer=optimizer_state((3,))), "its optimizer does not fit"),
    (dict(optimizer=optimizer_state((3, 4))), "the momentum of 1 has another shape than its weight"),
])
def test_a_damaged_entry_is_refused_by_name(changes, words):
    content = checkpoint(**changes)
    head_learns_faster(content)  # main.py asks this first; it must not fail
    with pytest.raises(UserError) as info:
        small_state().load_state_dict(content, Path("x.pth"))
    message = str(info.value)
    assert "x.pth" in message and words in message and "\n" not in message
    if "state_dict" not in changes:
        assert info.value.for_command_line().startswith("--resume x.pth")


def test_a_tuned_classifier_does_not_learn_faster():
    content = checkpoint()
    assert head_learns_faster(content)
    content["optimizer"]["param_groups"][1]["params"] = []
    assert not head_learns_faster(content)


@pytest.mark.parametrize("top1, best_exists, is_best, best", [
    (20.0, True, True, 20.0), (10.0, True, False, 12.5), (10.0, False, True, 12.5), (None, False, False, 12.5)])
def test_the_end_of_an_epoch_counts_the_best(top1, best_exists, is_best, best):
    state = small_state()
    assert state.end_epoch(top1, best_exists) is is_best
    assert (state.epoch, state.best_prec1) == (4, best)


def test_the_validations_since_the_best_are_counted_and_stored():
    state = small_state()
    state.best_by, state.best = "loss", -0.5
    for loss, is_best, stale in [(0.7, False, 1), (None, False, 1), (0.6, False, 2), (0.4, True, 0), (0.4, False, 1),
                                 (float("nan"), False, 2)]:
        measure = None if loss is None else -loss
        assert state.end_epoch(None if loss is None else 50.0, True, measure) is is_best
        assert state.stale == stale
    resumed = small_state()
    resumed.best_by = "loss"
    resumed.load_state_dict(state.state_dict(), Path("x.pth"))
    assert (resumed.best, resumed.stale, resumed.best_prec1) == (-0.4, 2, 50.0)


def test_another_measure_of_the_best_begins_afresh():
    for by, best in (("loss", None), ("top1", 12.5)):
        state = small_state()
        state.best_by = by
        state.load_state_dict(checkpoint(best={"by": "mean_class", "value": 40.0, "stale": 3}), Path("x.pth"))
        assert (state.best, state.stale) == (best, 0)
    state.load_state_dict(checkpoint(best="gone"), Path("x.pth"))  # as published
    assert (state.best, state.stale) == (12.5, 0)


def test_saving_writes_the_best_beside_the_last(tmp_path):
    state = small_state()
    assert state.save(tmp_path, best=False) == tmp_path / "ckpt.pth.tar"
    assert [path.name for path in tmp_path.iterdir()] == ["ckpt.pth.tar"]
    state.save(tmp_path, best=True)
    last, best = (torch.load(tmp_path / name, weights_only=True) for name in ("ckpt.pth.tar", "ckpt.best.pth.tar"))
    assert last["epoch"] == best["epoch"] == 3
    fresh = small_state()
    fresh.load_state_dict(last, tmp_path / "ckpt.pth.tar")


def test_each_step_has_random_numbers_of_its_own_that_a_resumed_run_draws_again():
    def draws(seed, epoch, step):
        state = small_state()
        state.seed, state.epoch = seed, epoch
        state.step = step
        state.seed_step()
        return torch.rand(3).tolist()
    assert draws(0, 1, 2) == draws(0, 1, 2)
    assert len({tuple(draws(seed, epoch, step)) for seed in (0, 1) for epoch in (0, 1) for step in (0, 1, 2)}) == 12


@pytest.mark.parametrize("row, arch, options", [
    ("resnet18_blockres", "resnet18", {}), ("resnet50_blockres_nl", "resnet50", {"non_local": True}),
    ("mobilenetv2_shift", "mobilenetv2", {}), ("bninception_block", "BNInception", {})])
def test_the_published_test_program_reads_our_checkpoints(row, arch, options, golden, tmp_path):
    settings = ModelSpec(11, 8, arch=arch, shift=True, **options)
    model = TSN.from_spec(settings)
    optimizer = torch.optim.SGD(model.get_optim_policies(), 0.1)
    metadata = {"arch": arch, "settings": settings.to_dict()}
    TrainState(model, optimizer, epoch=1, metadata=metadata).save(tmp_path, best=True)
    weights = torch.load(tmp_path / "ckpt.best.pth.tar", weights_only=True)["state_dict"]
    read = {".".join(key.split(".")[1:]): value for key, value in weights.items()}
    for end in ("weight", "bias"):
        if f"base_model.classifier.{end}" in read:
            read[f"new_fc.{end}"] = read.pop(f"base_model.classifier.{end}")
    assert {key: list(value.shape) for key, value in read.items()} == dict(golden("state_dict_keys")[row])
