"""Learning from teachers: the loss and its gradient by hand, what the teachers see, and that they do not change."""
import copy

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from ops.data.augment import make_mix
from ops.data.tsn_dataset import Batch
from ops.models import TSN
from ops.spec import ModelSpec
from ops.training.distillation import Distillation, Teacher
from ops.training.losses import make_criterion
from ops.training.precision import Precision
from ops.training.state import TrainState
from ops.training.step import StepOptions, train_step

CPU = torch.device("cpu")
LABELS = torch.tensor([0, 2, 1, 2])


def network(seed=0, **changes):
    torch.manual_seed(seed)
    model = TSN.from_spec(ModelSpec(3, **{"num_segments": 2, "arch": "resnet18", "shift": True, "dropout": 0,
                                          "input_size": 32, **changes}))
    head = model.new_fc or model.base_model.fc
    torch.nn.init.normal_(head.weight)
    return model


def teacher(seed=1, **changes):
    return Teacher(None, "", network(seed, **changes).eval().requires_grad_(False))


def clips(segments=2, size=32, seed=0, count=4):
    noise = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (count, segments * 3, size, size), generator=noise, dtype=torch.uint8)


def softmax(scores):
    powers = np.exp(scores - scores.max(axis=-1, keepdims=True))
    return powers / powers.sum(axis=-1, keepdims=True)


# ---- the loss -------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("frames", [0, 5])
@pytest.mark.parametrize("smoothing, class_weights, mixed", [(0, None, False), (0.2, [0.5, 1, 2], False),
                                                             (0.1, None, True)])
@pytest.mark.parametrize("weight, temperature", [(0.3, 4.0), (1.0, 1.0), (0.0, 2.0)])
def test_loss_and_gradient_are_the_formulas(frames, smoothing, class_weights, mixed, weight, temperature):
    """Hinton et al., sec. 2: (1 - w) * labels' loss + w * t^2 * KL, whose gradient is w * t * (softmax(z / t) - p)."""
    torch.manual_seed(0)
    output = 3 * torch.randn(*((4, frames, 3) if frames else (4, 3)))
    output.requires_grad_()
    answers = torch.randn(4, 3).softmax(1)
    targets = torch.rand(4, 3).softmax(1) if mixed else LABELS
    criterion = make_criterion(3, "smooth", smoothing, torch.tensor(class_weights) if class_weights else None)
    distillation = Distillation([], network(), weight, temperature)
    distilled = distillation.loss(output, answers)
    distillation.combined(criterion(output, targets), distilled).backward()

    wanted = (targets if mixed else F.one_hot(targets, 3)).double().numpy()
    wanted = wanted * np.array(class_weights) if class_weights else wanted
    total = wanted.sum(axis=1, keepdims=True)
    wanted = wanted * (1 - smoothing) + (total - wanted) * smoothing / 2
    z, p = output.detach().double().numpy().reshape(4, -1, 3), answers.double().numpy()[:, None]
    wanted, total = wanted[:, None], total[:, None]
    student = softmax(z / temperature)
    by_hand = ((1 - weight) * (total * softmax(z) - wanted) + weight * temperature * (student - p)) / (z.size / 3)
    assert np.allclose(output.grad.numpy().reshape(z.shape), by_hand, atol=1e-6)
    divergence = temperature ** 2 * (p * (np.log(p) - np.log(student))).sum(-1).mean()
    assert float(distilled.detach()) == pytest.approx(divergence, rel=1e-4)


def test_an_agreement_is_worth_no_loss():
    output = torch.tensor([[80.0, -80.0, 0.0]])
    distillation = Distillation([], network(), temperature=1.0)
    assert distillation.loss(output, output.softmax(1)) == 0


# ---- the teachers ---------------------------------------------------------------------------------------------

def test_several_teachers_answer_with_the_mean_of_their_probabilities():
    """One of them scores frames, another gives probabilities, and they have different inputs."""
    teachers = [teacher(1, num_segments=3, input_size=40), teacher(2, consensus_type="identity"),
                teacher(3, arch="BNInception", before_softmax=False)]
    student = network()
    distillation = Distillation(teachers, student, temperature=2.0)
    assert distillation.views_for == [teachers[0].network, teachers[2].network]
    batch = Batch(clips(), LABELS, [], [clips(3, 40, seed=1), clips(seed=2)])
    found = distillation.answers(distillation.inputs(batch))
    with torch.no_grad():
        first, third = (one.network(one.network.preprocessing.apply(view)) for one, view in zip(
            (teachers[0], teachers[2]), batch.views))
        second = teachers[1].network(student.preprocessing.apply(batch.clips)).mean(1)
    each = [(scores / 2).softmax(1) for scores in (first, second, third.log())]
    assert torch.allclose(found, sum(each) / 3, atol=1e-6) and not torch.allclose(each[0], each[1], atol=0.01)


def new_state(**changes):
    model = network(consensus_type="identity", shift_direction="unidirectional", **changes)
    return TrainState(model, torch.optim.SGD(model.get_optim_policies(), 0.05, momentum=0.9), ema=0.5)


@pytest.mark.parametrize("dtype", [None, torch.bfloat16])
def test_a_step_changes_the_student_and_leaves_the_teacher_alone(dtype):
    state, master = new_state(), teacher()
    before = copy.deepcopy(master.network.state_dict())
    options = StepOptions(state.network.preprocessing.apply, precision=Precision(CPU, dtype),
                          distillation=Distillation([master], state.network, 0.5, 2.0))
    student = copy.deepcopy(state.network)
    state.model.train()
    result = train_step(state, [Batch(clips(), LABELS, [])], options)
    after = master.network.state_dict()
    assert all(torch.equal(value, before[key]) for key, value in after.items()) and not master.network.training
    assert all(parameter.grad is None for parameter in master.network.parameters())
    assert not torch.equal(state.network.new_fc.weight if state.network.new_fc else state.network.base_model.fc.weight,
                           student.base_model.fc.weight)
    student.train()
    inputs = student.preprocessing.apply(clips())
    with torch.autocast("cpu", dtype, enabled=dtype is not None):
        output = student(inputs)
        answers = (master.network(inputs).float() / 2).softmax(1)
    log_student = (output.float() / 2).log_softmax(2)
    distilled = 4 * (answers[:, None] * (answers[:, None].log() - log_student)).sum(2).mean()
    labels = F.cross_entropy(output.float().flatten(0, 1), LABELS.repeat_interleave(2))
    assert result.distill_loss == pytest.approx(float(distilled.detach()), rel=1e-2 if dtype else 1e-4)
    assert result.loss == pytest.approx(float((labels + distilled).detach() / 2), rel=1e-2 if dtype else 1e-4)


def test_accumulated_batches_learn_what_one_batch_does():
    weights, losses = [], []
    for parts in (1, 2):
        state = new_state()
        view = clips(3, 40, seed=3)
        options = StepOptions(state.network.preprocessing.apply,
                              distillation=Distillation([teacher(num_segments=3, input_size=40)], state.network))
        state.model.eval()  # BatchNorm would see other batches
        batches = [Batch(*parts) for parts in zip(clips().chunk(parts), LABELS.chunk(parts), [[]] * parts,
                                                  [[part] for part in view.chunk(parts)])]
        losses.append(train_step(state, batches, options).distill_loss)
        weights.append(state.network.base_model.conv1.weight)
    assert torch.allclose(*weights, atol=1e-6) and losses[0] == pytest.approx(losses[1]) and losses[0] > 0.1


# ---- mixing ---------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("alphas", [(0.5, 0), (0, 1.0), (0.5, 1.0)])
def test_the_teacher_sees_the_clips_mixed_as_the_student_does(alphas):
    mix = make_mix(3, *alphas)
    for seed in range(8):
        # Each pixel of clip i has the value i; views of another size too.
        own, same, half = (torch.arange(4.0).view(4, 1, 1, 1).expand(4, 6, side, side) for side in (32, 32, 16))
        torch.manual_seed(seed)
        plain = mix(own.clone(), LABELS)
        drawn = torch.rand(1)
        torch.manual_seed(seed)
        mixed, labels, (as_large, as_small) = mix.with_views(own.clone(), LABELS, [same, half])
        assert torch.equal(torch.rand(1), drawn)
        assert torch.equal(mixed, plain[0]) and torch.equal(labels, plain[1])
        assert torch.allclose(as_large, mixed, atol=1e-6)
        assert torch.allclose(as_small, F.interpolate(mixed, (16, 16)), atol=1e-6)


def test_a_batch_of_one_clip_is_its_own_neighbor():
    own, other = torch.full((1, 3, 8, 8), 2.0), torch.full((1, 3, 4, 4), 5.0)
    mixed, _, (view,) = make_mix(3, 0.5).with_views(own, LABELS[:1], [other])
    assert torch.allclose(mixed, torch.tensor(2.0)) and torch.allclose(view, torch.tensor(5.0))


def test_mixed_clips_reach_the_teacher_in_a_step(monkeypatch):
    state, master = new_state(), teacher(num_segments=2, input_size=32)
    seen = []
    master.network.register_forward_pre_hook(lambda model, inputs: seen.append(inputs[0].clone()))
    state.network.register_forward_pre_hook(lambda model, inputs: seen.append(inputs[0].clone()))
    options = StepOptions(state.network.preprocessing.apply, mix=make_mix(3, 0.5),
                          distillation=Distillation([master], state.network))
    state.model.train()
    train_step(state, [Batch(clips(), LABELS, [])], options)
    teachers_input, own = seen
    assert torch.allclose(teachers_input, own, atol=1e-5)
    assert not torch.allclose(own, state.network.preprocessing.apply(clips()))


# ---- several labels per clip ------------------------------------------------------------------------------------

@pytest.mark.parametrize("frames", [0, 5])
def test_each_class_of_a_multi_label_network_has_its_own_divergence(frames):
    torch.manual_seed(0)
    output = 3 * torch.randn(*((4, frames, 3) if frames else (4, 3)))
    output.requires_grad_()
    answers = torch.rand(4, 3)
    distilled = Distillation([], network(multi_label=True), temperature=2.0).loss(output, answers)
    distilled.backward()
    p = answers.double().numpy()[:, None]
    q = 1 / (1 + np.exp(-output.detach().double().numpy().reshape(4, -1, 3) / 2))
    divergence = p * np.log(p / q) + (1 - p) * np.log((1 - p) / (1 - q))
    assert float(distilled.detach()) == pytest.approx(4 * divergence.mean(), rel=1e-4)
    assert np.allclose(output.grad.numpy().reshape(q.shape), 2 * (q - p) / q.size, atol=1e-6)


def test_a_multi_label_student_learns_the_probability_of_each_class():
    master = teacher(multi_label=True)
    distillation = Distillation([master], network(seed=3, multi_label=True), weight=1.0, temperature=2.0)
    inputs = master.network.preprocessing.apply(clips())
    assert torch.allclose(distillation.answers([inputs]), (master.network(inputs) / 2).sigmoid(), atol=1e-6)
    assert float(distillation.loss(master.network(inputs), distillation.answers([inputs]))) == pytest.approx(0, abs=1e-5)
