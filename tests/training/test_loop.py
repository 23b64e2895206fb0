"""The training loop: steps against SGD written out by hand, epochs of a small network, what stops a run."""
import copy
import math

import pytest
import torch
from PIL import Image
from torch import nn
from torch.nn import functional as F
from torch.utils.data import Dataset

from ops.backbones import BACKBONES
from ops.common.errors import UserError
from ops.data.augment import make_mix
from ops.data.loader import make_loader
from ops.data.tsn_dataset import BadVideo, Batch
from ops.evaluation.metrics import Predictions
from ops.models import TSN
from ops.spec import ModelSpec
from ops.training.execution import Execution
from ops.training.loop import LoopOptions, fit
from ops.training.run_log import RunLog, read_log
from ops.training.schedule import set_learning_rate
from ops.training.state import TrainState
from ops.training.step import StepOptions, train_step
from tests.helpers.golden_model import clip

LR, MOMENTUM, DECAY = 0.02, 0.9, 5e-4


def hand_written_sgd(model, batches, partial_bn):
    """Steps of the published recipe, written from the definition of the parameter groups and not from our code."""
    velocity = {}
    convs = [m for m in model.modules() if isinstance(m, torch.nn.Conv2d)]
    norms = [m for m in model.modules() if isinstance(m, torch.nn.BatchNorm2d)]
    for frames, labels in batches:
        model.train()
        if partial_bn:
            for norm in norms[1:]:
                norm.eval()
        for parameter in model.parameters():
            parameter.grad = None
        F.cross_entropy(model(frames), labels).backward()
        with torch.no_grad():
            for module in model.modules():
                for name, p in module.named_parameters(recurse=False):
                    if module in norms:
                        if partial_bn and module is not norms[0]:
                            continue
                        rate, decay = LR, 0.0
                    elif isinstance(module, torch.nn.Linear):
                        rate, decay = (5 * LR, DECAY) if name == "weight" else (10 * LR, 0.0)
                    else:
                        assert module in convs
                        rate, decay = (LR, DECAY) if name == "weight" else (2 * LR, 0.0)
                    step = p.grad + decay * p
                    velocity[p] = MOMENTUM * velocity[p] + step if p in velocity else step
                    p -= rate * velocity[p]


@pytest.mark.parametrize("arch", ["resnet18", "mobilenetv2"])
@pytest.mark.parametrize("partial_bn", [True, False])
@pytest.mark.parametrize("execution", [Execution(), Execution(channels_last=True, fused=True)], ids=str)
def test_training_steps_equal_hand_written_sgd(arch, partial_bn, execution):
    torch.manual_seed(0)
    settings = ModelSpec(5, 2, arch=arch, shift=True, dropout=0, input_size=32)
    # float64: batch norm over so few values would amplify the rounding of float32.
    ours = TSN.from_spec(settings, partial_bn=partial_bn, fc_lr5=True).double()
    theirs = copy.deepcopy(ours)
    batches = [(clip(3, 2, 3, 32, seed=i).double(), torch.tensor([0, 3, 4])) for i in range(2)]
    hand_written_sgd(theirs, batches, partial_bn)
    execution.prepare(ours)
    optimizer = execution.sgd(ours.get_optim_policies(), LR, momentum=MOMENTUM, weight_decay=DECAY)
    set_learning_rate(optimizer, LR, DECAY)
    state = TrainState(ours, optimizer)
    for frames, labels in batches:
        ours.train()
        train_step(state, [Batch(frames, labels, [])], StepOptions(prepare=lambda clips: clips))
    for (key, a), b in zip(ours.state_dict().items(), theirs.state_dict().values()):
        assert torch.allclose(a, b, rtol=1e-4, atol=1e-6), key


@pytest.mark.parametrize("arch", BACKBONES)
def test_the_published_groups_give_norms_no_weight_decay(arch):
    """What main.py answers to --no_norm_decay."""
    model = TSN.from_spec(ModelSpec(5, 2, arch=arch, shift=True, non_local=arch == "resnet50"), partial_bn=False)
    decayed = {id(weight) for group in model.get_optim_policies() if group["decay_mult"] for weight in group["params"]}
    norms = [weight for module in model.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)
             for weight in module.parameters()]
    assert norms and not decayed & set(map(id, norms))


# ---- epochs -------------------------------------------------------------------------------------------------

class Clips(Dataset):
    """Ten clips whose brightness is their label, with noise that depends on the epoch; clip 3 is unreadable if `bad`."""

    def __init__(self, bad=False):
        self.bad = bad

    def __len__(self):
        return 10

    def __getitem__(self, key):
        epoch, index = key if isinstance(key, tuple) else (0, key)
        if self.bad and index == 3:
            return BadVideo("video 3", "no frames")
        noise = torch.Generator().manual_seed(100 * epoch + index)
        return torch.randint(0, 60, (3, 4, 4), generator=noise, dtype=torch.uint8) + 60 * (index % 3), index % 3


def new_state():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Dropout(0.2), nn.Linear(48, 3))
    groups = [{"params": list(model.parameters()), "name": "normal_weight", "lr_mult": 1, "decay_mult": 1}]
    return TrainState(model, torch.optim.SGD(groups, 0.1, momentum=0.9), seed=5)


def run_fit(directory, state, bad=False, mix=None, draw=None, **options):
    """Train in `directory`; the predictions of each validation."""
    run_log, validations = RunLog(directory, state.epoch, state.step), []

    @torch.no_grad()
    def runtime(clips):
        return state.model.eval()(clips.float() / 255)

    fit(state, make_loader(Clips(bad), 4, workers=0, train=True, seed=5),
        make_loader(Clips(), 4, workers=0, train=False),
        steps=StepOptions(prepare=lambda clips: clips.float() / 255, mix=mix), runtime=runtime, run_log=run_log,
        directory=directory, draw=draw, options=LoopOptions(**{"epochs": 3, "lr": 0.1, "eval_freq": 2, **options}),
        on_validation=validations.append)
    run_log.close()
    return validations


def test_fit_validates_when_due_and_at_the_end(tmp_path, caplog, capsys):
    caplog.set_level("INFO")
    validations = run_fit(tmp_path, new_state(), print_freq=2)
    assert [bool(row["val_top1"]) for row in read_log(tmp_path / "log.csv")] == [False, True, True]
    assert len(validations) == 2 and validations[1].logits.shape == (10, 3)
    assert sum("[0/2]" in message for message in caplog.messages) == 3 and capsys.readouterr().out == ""
    assert caplog.messages[-1] == f"best prec@1 {max(scores.top1 for scores in validations):.3f}"


def test_a_short_epoch_has_several_lines_with_the_time_left(tmp_path, caplog):
    caplog.set_level("INFO")
    run_fit(tmp_path, new_state(), epochs=2)  # two steps per epoch, and a line after 20 steps
    lines = [message for message in caplog.messages if message.startswith("epoch ") and "[" in message]
    assert [line.split(" lr ")[0] for line in lines] == ["epoch 0 [0/2]", "epoch 0 [1/2]", "epoch 1 [0/2]", "epoch 1 [1/2]"]
    assert all(line.endswith(" left)") for line in lines)


def test_an_epoch_ends_with_one_line_of_everything(tmp_path, caplog):
    """Its numbers are those of log.csv."""
    caplog.set_level("INFO")
    run_fit(tmp_path, new_state())
    lines = [message for message in caplog.messages if " done: " in message]
    for line, row in zip(lines, read_log(tmp_path / "log.csv"), strict=True):
        number = {name: float(value) for name, value in row.items() if value}
        assert line.startswith(f"epoch {row['epoch']} done: loss {number['train_loss']:.4f}, prec@1")
        assert f"lr 0.1, gradient norm {number['grad_norm']:.3g}; {number['clips_per_second']:.4g} clips per second" in line
        assert f"peak memory {number['peak_memory_mb'] / 1e3:.2f} GB" in line and line.endswith(" left")
        assert ("validation loss" in line) == bool(row["val_loss"])
        assert number["grad_norm"] > 0 and number["data_seconds"] <= number["step_seconds"]
        assert number["clips_per_second"] * number["step_seconds"] == pytest.approx(4, rel=1e-3)  # clips per step
    assert number["seconds_left"] == 0


def test_the_first_batch_is_shown_once_as_the_network_sees_it(tmp_path):
    """Mixed with the same draws, which its drawing does not disturb, and not again when the run is resumed."""
    shown, seen = [], []

    def draw(inputs, labels):
        shown.append((inputs.clone(), labels.clone()))
        return Image.new("RGB", (4, 4))

    mix = make_mix(3, mixup=0.5)
    plain, watched = new_state(), new_state()
    run_fit(tmp_path / "plain", plain, mix=mix)
    watched.model.register_forward_pre_hook(lambda model, inputs: seen.append(inputs[0].clone()))
    run_fit(tmp_path / "watched", watched, mix=mix, draw=draw, max_epochs=1)
    (inputs, labels), = shown
    assert torch.equal(inputs, seen[0]) and labels.shape == (4, 3) and (labels.count_nonzero(dim=1) == 2).any()
    run_fit(tmp_path / "watched", watched, mix=mix, draw=draw)
    assert len(shown) == 1 and torch.equal(watched.model[2].weight, plain.model[2].weight)


def test_skipped_fp16_steps_do_not_spoil_the_mean_gradient_norm():
    """Their gradient is infinite; a checkpoint with an infinite sum would be refused as damaged."""
    state = new_state()
    state.scaler = torch.amp.GradScaler("cpu", init_scale=2.0 ** 127)
    batch = Batch(torch.stack([Clips()[i][0] for i in range(4)]), torch.tensor([0, 1, 2, 0]), [])
    norms = []
    for _ in range(12):
        result = train_step(state, [batch], StepOptions(prepare=lambda clips: clips.float()))
        state.sums.add(result, [batch], 0.0, 0.0)
        norms.append(result.grad_norm)
    finite = [norm for norm in norms if math.isfinite(norm)]
    assert 0 < len(finite) < len(norms) and state.sums.mean("grad_norm") == pytest.approx(sum(finite) / len(finite))


@pytest.mark.parametrize("steps, interval", [(1, 1), (3, 1), (8, 2), (79, 19), (80, 20), (1000, 20)])
def test_steps_between_lines(steps, interval):
    assert LoopOptions(epochs=1, lr=0.1).line_interval(steps) == interval


def test_a_resumed_fit_equals_an_uninterrupted_one(tmp_path):
    whole = new_state()
    run_fit(tmp_path / "whole", whole)
    run_fit(tmp_path / "parts", new_state(), max_epochs=1)
    resumed, file = new_state(), tmp_path / "parts" / "ckpt.pth.tar"
    with torch.no_grad():
        resumed.model[2].weight.zero_()
    resumed.load_state_dict(torch.load(file, weights_only=True), file)
    assert resumed.epoch == 1
    run_fit(tmp_path / "parts", resumed)
    assert torch.equal(resumed.model[2].weight, whole.model[2].weight)
    assert [row["train_loss"] for row in read_log(tmp_path / "parts" / "log.csv")] == [
        row["train_loss"] for row in read_log(tmp_path / "whole" / "log.csv")]


@pytest.mark.parametrize("best_by", ["top1", "mean_class", "loss"])
def test_the_best_checkpoint_is_of_the_epoch_with_the_best_measure(best_by, tmp_path, monkeypatch, caplog):
    """Logits of the classes 0, 0, 1, 2 and the best epoch by each measure: the first, the second and the third."""
    caplog.set_level("INFO")
    right, wrong, sure = [0.1, 0.0, 0.0], [0.0, 0.1, 0.0], [9.0, 0.0, 0.0]
    epochs = iter([[right, right, wrong, right], [wrong, right, wrong, [0, 0, 0.1]],
                   [sure, [0.0, 0.001, 0.0], right, [0.001, 0.0, 0.0]]])
    monkeypatch.setattr("ops.training.loop.validate", lambda *loader, **options: Predictions(
        torch.tensor(next(epochs)), torch.tensor([0, 0, 1, 2])))
    state = new_state()
    state.best_by = best_by
    run_fit(tmp_path, state, best_by=best_by, eval_freq=1)
    best = torch.load(tmp_path / "ckpt.best.pth.tar", weights_only=True)
    assert best["epoch"] == 1 + ["top1", "mean_class", "loss"].index(best_by)
    assert (f"best {best_by} " in caplog.text) == (best_by != "top1")


@pytest.mark.parametrize("parts", [1, 3])
def test_a_run_ends_when_its_patience_does_however_often_it_is_resumed(parts, tmp_path, monkeypatch, caplog):
    caplog.set_level("INFO")
    right = [1, 3, 2, 2, 4, 1]  # of five

    def validated(runtime, loader, options):
        return Predictions(torch.eye(2)[(torch.arange(5) >= right[state.epoch]).long()], torch.zeros(5, dtype=torch.long))
    monkeypatch.setattr("ops.training.loop.validate", validated)
    file = tmp_path / "ckpt.pth.tar"
    for _ in range(parts + 1):
        state = new_state()
        if file.exists():
            state.load_state_dict(torch.load(file, weights_only=True), file)
        run_fit(tmp_path, state, epochs=6, eval_freq=1, patience=2, max_epochs=6 // parts if parts > 1 else None)
    assert (state.epoch, state.stale, state.best) == (4, 2, pytest.approx(60))
    assert "stopped early after epoch 3: 2 validations without a better top1" in caplog.text
    run_fit(tmp_path, state, epochs=6, eval_freq=1, patience=3)
    assert (state.epoch, state.stale) == (6, 1), "more patience continues the run"


def test_fit_lists_unreadable_videos(tmp_path, caplog):
    run_fit(tmp_path, new_state(), bad=True, epochs=1)
    assert (tmp_path / "skipped_videos.txt").read_text() == "video 3: no frames\n"
    assert "unreadable videos left out of training: 1" in caplog.text


def test_fit_stops_at_a_loss_that_is_not_finite(tmp_path):
    state = new_state()
    with torch.no_grad():
        state.model[2].bias.fill_(float("nan"))
    with pytest.raises(UserError, match="the loss is nan in epoch 0, step 0: .*last good checkpoint: none yet$") as info:
        run_fit(tmp_path, state)
    assert "lower --lr, or limit the gradient with --clip-gradient" in info.value.for_command_line()


def test_a_gradient_that_is_not_finite_changes_no_weight(tmp_path):
    """The loss may be finite, and the gradient too large for its format."""
    state = new_state()
    before = {key: value.clone() for key, value in state.model.state_dict().items()}
    state.model[2].weight.register_hook(lambda gradient: gradient * float("inf"))
    with pytest.raises(UserError, match="the gradient is not finite in epoch 0, step 0: .*last good checkpoint: none yet$"):
        run_fit(tmp_path, state)
    assert all(torch.equal(value, before[key]) for key, value in state.model.state_dict().items())


def test_options_of_the_loop():
    options = LoopOptions.from_options({"epochs": 9, "lr": 0.1, "print_freq": 7, "arch": "resnet18"}, max_epochs=2)
    assert (options.print_freq, options.lr_type, options.max_steps) == (7, "step", None)
    assert [list(options.epochs_left(done)) for done in (0, 8, 9, 12)] == [[0, 1], [8], [], []]
