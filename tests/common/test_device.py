"""Devices, random state, and the commit of the code."""
import random

import numpy as np
import pytest
import torch

from ops.common.device import git_commit, local_seed, mix_seeds, pick_device, pick_gpus, seed_everything, versions
from ops.common.errors import UserError
from tests.helpers.processes import finish, start


def draws():
    return random.random(), float(np.random.rand()), float(torch.rand(1))


def test_seed_everything():
    seed_everything(7)
    first = draws()
    assert draws() != first
    seed_everything(7)
    assert draws() == first
    seed_everything(8)
    assert all(a != b for a, b in zip(draws(), first))


def test_seeds_may_be_large():
    for seed in (2 ** 32 - 1, 2 ** 32, mix_seeds(1, 2)):
        seed_everything(seed)


def test_local_seed_is_local():
    torch.manual_seed(0)
    wanted = torch.rand(4)
    torch.manual_seed(0)
    results = [torch.rand(1)]
    with local_seed(5):
        inner = torch.rand(3)
    results.append(torch.rand(1))
    with pytest.raises(KeyError), local_seed(6):
        torch.rand(10)
        raise KeyError
    results.append(torch.rand(2))
    assert torch.equal(torch.cat(results), wanted)
    assert torch.equal(inner, torch.rand(3, generator=torch.Generator().manual_seed(5)))


def test_mixed_seeds_differ_and_repeat():
    keys = [(seed, epoch, index) for seed in range(5) for epoch in range(10) for index in range(40)]
    seeds = [mix_seeds(*key) for key in keys]
    assert len(set(seeds)) == len(keys) and seeds == [mix_seeds(*key) for key in keys]
    assert all(0 <= seed < 2 ** 63 for seed in seeds)
    # Seeds of neighbors are unrelated: half of the 63 bits differ on average.
    differing = [bin(a ^ b).count("1") for a, b in zip(seeds, seeds[1:])]
    assert 31 < sum(differing) / len(differing) < 32


def test_mixed_seeds_of_other_lengths_differ():
    """(seed, epoch) orders an epoch, (seed, epoch, 0) makes its first sample: they must not share a stream."""
    assert len({mix_seeds(3), mix_seeds(3, 0), mix_seeds(3, 0, 0)}) == 3
    assert len({mix_seeds(3, 7), mix_seeds(3, 7, 0), mix_seeds(7, 3), mix_seeds(7 << 32 | 3)}) == 4


# ---- device ---------------------------------------------------------------------------------------------------

def absent(monkeypatch, gpus=0):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: gpus > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)


def test_devices_without_gpus(monkeypatch):
    absent(monkeypatch)
    assert pick_device("auto") == pick_device("cpu") == torch.device("cpu")
    for name in ("cuda", "cuda:0", "mps", "gpu", "", "CPU"):
        with pytest.raises(UserError, match=f"device '{name}'.*choose auto or one of cpu"):
            pick_device(name)
    with pytest.raises(UserError, match="device 'cpu:1'") as info:
        pick_device("cpu:1")
    assert "cuda:-1" not in str(info.value)
    assert pick_gpus(None, torch.device("cpu")) == []
    with pytest.raises(UserError, match="gpus 0 1: this run is on cpu with 0 GPUs"):
        pick_gpus([0, 1], torch.device("cpu"))


def test_devices_with_gpus(monkeypatch):
    absent(monkeypatch, gpus=2)
    assert pick_device("auto") == pick_device("cuda") == torch.device("cuda")
    assert pick_device("cuda:1") == torch.device("cuda:1")
    for name in ("cuda:2", "cuda:x", "cuda:-1", "cuda:²"):
        with pytest.raises(UserError, match=f"device '{name}': this machine's GPUs are cuda:0 to cuda:1"):
            pick_device(name)
    cuda = torch.device("cuda")
    assert pick_gpus(None, cuda) == [0] and pick_gpus(None, torch.device("cuda:1")) == [1]
    assert pick_gpus([1, 0], cuda) == [1, 0]
    with pytest.raises(UserError, match="gpus 0 2: this run is on cuda with 2 GPUs"):
        pick_gpus([0, 2], cuda)
    with pytest.raises(UserError, match="on cpu"):
        pick_gpus([0], torch.device("cpu"))
    with pytest.raises(UserError, match="gpus 1 1: name each GPU once"):
        pick_gpus([1, 1], cuda)
    with pytest.raises(UserError, match="gpus 0 1 name several GPUs and device cuda:0 one: choose cuda"):
        pick_gpus([0, 1], torch.device("cuda:0"))
    with pytest.raises(UserError) as info:
        pick_gpus([0], torch.device("cuda:1"))
    assert info.value.for_command_line() == "--gpus 0 begins with another GPU than --device cuda:1: leave one of them out"


def test_git_commit_is_one_word(monkeypatch):
    assert git_commit() and len(git_commit().split()) == 1
    git_commit.cache_clear()
    monkeypatch.setenv("PATH", "")
    assert git_commit() == "unknown"
    git_commit.cache_clear()


def test_peak_memory_grows_with_what_is_held():
    status, text, err = finish(start("-c", """import torch
from ops.common.device import peak_memory
before = peak_memory(torch.device("cpu"))
held = torch.ones(int(before) // 4 + 25_000_000)  # all of it above the peak so far, unless something else was freed
print(held.nbytes, before, peak_memory(torch.device("cpu")))"""))
    assert status == 0, err
    held, before, after = map(float, text.split())
    assert before + held / 4 < after < before + 2 * held


def test_versions_name_the_code_and_the_hardware():
    found = versions(torch.device("cpu"))
    assert list(found) == ["commit", "python", "torch", "torchvision", "hardware"] and all(found.values())
    assert found["torch"] == torch.__version__ and found["hardware"].startswith("cpu (")
