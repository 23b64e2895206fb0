"""ops/temporal_shift.py in whole networks: in place, the same outputs and gradients as the plain shift with less memory."""
import copy
import gc

import pytest
import torch
from torch import nn
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.checkpoint import checkpoint

from archs.bn_inception import BLOCKS, BNInception
from ops.models import TSN
from tests.helpers.programs import make_somethingv2, run
from tests.network.test_temporal_shift import gradients, noise, same, shifts_of

NETWORKS = [("resnet18", "blockres"), ("resnet18", "block"), ("mobilenetv2", "blockres"), ("BNInception", "block"),
            ("regnety400mf", "blockres")]
T = 3


def make_tsn(arch, place, inplace, is_shift=True):
    torch.manual_seed(0)
    return TSN(5, T, "RGB", base_model=arch, pretrain="", is_shift=is_shift, shift_place=place, partial_bn=False,
               dropout=0, print_spec=False, inplace=inplace)


@pytest.fixture(scope="module")
def twins():
    """twins(arch, place): the plain and the in-place TSN with the same weights, built once, fresh copies."""
    built = {}

    def get(arch, place):
        if (arch, place) not in built:
            built[arch, place] = [make_tsn(arch, place, inplace) for inplace in (False, True)]
        return copy.deepcopy(built[arch, place])
    return get


def remember_nothing(model):
    """Recompute every block in the backward pass (gradient checkpointing)."""
    net = model.base_model
    if isinstance(net, BNInception):  # its blocks are methods, each recomputed with the shift of its input
        own, shifts = net._block, dict(net.shift)
        net.shift.update({f"inception_{block.name}": nn.Identity() for block in BLOCKS})
        net._block = lambda block, x: recomputed(lambda x: own(block, shifts[f"inception_{block.name}"](x)))(x)
        return
    stages = ([net.layer1, net.layer2, net.layer3, net.layer4] if hasattr(net, "layer1") else
              net.trunk_output if hasattr(net, "trunk_output") else [net.features])
    for block in (block for stage in stages for block in stage):
        block.forward = recomputed(block.forward)


def recomputed(forward):
    return lambda x: checkpoint(forward, x, use_reentrant=False)


@pytest.mark.parametrize("arch, place, how", [
    (*network, how) for network in NETWORKS for how in ("plain", "autocast", "channels_last", "checkpoint")])
def test_whole_networks_learn_the_same_in_place(arch, place, how, twins):
    frames = noise(2, T * 3, 32, 32)
    results = []
    for model, inplace in zip(twins(arch, place), (False, True)):
        assert shifts_of(model) and all(module.inplace == inplace for module in shifts_of(model))
        x = frames
        if how == "channels_last":
            model = model.to(memory_format=torch.channels_last)
            x = frames.view(-1, 3, 32, 32).contiguous(memory_format=torch.channels_last)
        if how == "checkpoint":
            remember_nothing(model)
        with torch.autocast("cpu", torch.bfloat16, enabled=how == "autocast"):
            out = model.train()(x)
            loss = nn.functional.cross_entropy(out, torch.tensor([1, 4]))
        loss.backward()
        results.append((out.detach(), {name: p.grad for name, p in model.named_parameters()}))
    (plain, plain_grads), (inplace, inplace_grads) = results
    assert torch.equal(inplace, plain)
    assert plain_grads.keys() == inplace_grads.keys() and all(g.abs().sum() > 0 for g in plain_grads.values())
    same(inplace_grads, plain_grads)


def test_a_shift_before_a_whole_block_compiles_into_one_graph_and_learns_the_same(twins):
    plain, inplace = (model.base_model.layer1[0] for model in twins("resnet18", "block"))
    assert [len(shifts_of(net)) for net in (plain, inplace)] == [1, 1]
    x = noise(2 * T, shifts_of(plain)[0].channels, 8, 8)
    wanted = gradients(plain, x)
    same(gradients(copy.deepcopy(inplace), x), wanted)
    same(gradients(torch.compile(inplace, backend="aot_eager", fullgraph=True), x), wanted)


@pytest.mark.parametrize("arch", ["resnet18", "mobilenetv2"])
def test_whole_networks_compile_into_one_graph_and_learn_the_same(arch, twins):
    """In place or not, the compiler decides which copies are made and kept."""
    frames, results = noise(2, T * 3, 32, 32), []
    for model, compiled in zip(twins(arch, "blockres"), (False, True)):
        model.train()
        forward = torch.compile(model, backend="aot_eager", fullgraph=True) if compiled else model
        out = forward(frames)
        nn.functional.cross_entropy(out, torch.tensor([1, 4])).backward()
        results.append((out.detach(), {name: p.grad for name, p in model.named_parameters()}))
    assert all(grad is not None and grad.abs().sum() > 0 for grad in results[0][1].values())
    same(results[1], results[0])


class Alive(TorchDispatchMode):
    """Counts the bytes of tensors that were made within it and are still in memory."""

    def __init__(self):
        super().__init__()
        self.made = {}

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        for tensor in tree_leaves(result):
            if isinstance(tensor, torch.Tensor):
                storage = tensor.untyped_storage()
                reference = StorageWeakRef(storage)
                self.made[reference.cdata] = reference, storage.nbytes()
        return result

    def bytes(self):
        gc.collect()
        return sum(size for reference, size in self.made.values() if not reference.expired())


def kept_for_backward(model, frames):
    """Bytes in memory after a forward pass, and the sizes of the shifted inputs in bytes."""
    sizes = []
    for module in shifts_of(model):
        module.register_forward_pre_hook(lambda module, args: sizes.append(args[0].nbytes))
    with Alive() as alive:
        out = model.train()(frames)
    assert out.requires_grad
    return alive.bytes(), sizes


@pytest.mark.parametrize("arch, place", NETWORKS)
def test_in_place_keeps_what_a_network_without_shift_keeps(arch, place, twins):
    """So does the plain shift of MobileNetV2 and BNInception, where only the shifted copy is needed later."""
    frames = noise(2, T * 3, 32, 32)
    (plain, sizes), (inplace, _), (without, _) = (
        kept_for_backward(model, frames)
        for model in (*twins(arch, place), make_tsn(arch, place, False, is_shift=False)))
    assert inplace == without
    # A ReLU's output is kept anyway, so the shift's copy comes on top. The first shift of a ResNet reads a max pool's.
    assert plain - without == {"resnet18": sum(sizes[1:]), "regnety400mf": sum(sizes)}.get(arch, 0)


@pytest.mark.parametrize("arch, place", NETWORKS)
def test_gradient_checkpointing_keeps_as_little_in_place(arch, place, twins):
    frames, kept = noise(2, T * 3, 32, 32), []
    for model in twins(arch, place):
        remember_nothing(model)
        kept.append(kept_for_backward(model, frames)[0])
    everything, _ = kept_for_backward(twins(arch, place)[1], frames)
    assert kept[1] == kept[0] < 0.7 * everything


def test_nothing_is_kept_without_gradients(twins):
    model = twins("resnet18", "blockres")[1].eval()
    with Alive() as alive, torch.no_grad():
        out = model(noise(1, T * 3, 32, 32))
    assert alive.bytes() <= out.nbytes + 3 * T * 32 * 32 * 4  # the input, made within, and the output


# ---- the program ---------------------------------------------------------------------------------------------

def test_a_run_with_inplace_learns_the_same(tmp_path, monkeypatch, capfd):
    make_somethingv2(tmp_path)
    found = []
    for flags in ([], ["--inplace"]):
        models = tmp_path / f"models {len(flags)}"
        done = run(monkeypatch, capfd, "main", "somethingv2", "RGB", "--shift", "--arch", "resnet18", "--num_segments", 3,
                   "--pretrain", "none", "--input_size", 32, "-b", 4, "--epochs", 1, "--debug", "--lr", 0.01, "-j", 0,
                   "--device", "cpu", "--root_dataset", tmp_path, "--root_log", tmp_path / "log", "--root_model", models,
                   *flags)
        assert done.status == 0, done.err
        file, = models.glob("TSM_*/ckpt.pth.tar")
        found.append(torch.load(file, weights_only=True)["state_dict"])
    torch.testing.assert_close(found[1], found[0], rtol=1e-4, atol=1e-6)
