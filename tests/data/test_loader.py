"""Batches: order, randomness, bad videos, and worker processes that fail."""
import os
import signal

import pytest
import torch
from PIL import Image
from torchvision import transforms

from ops.common import distributed
from ops.common.errors import UserError
from ops.data.clip_transforms import GroupMultiScaleCrop, ToClipTensor
from ops.data.loader import EpochSampler, RankSampler, make_loader, set_epoch
from ops.data.training_crop import TrainingCrop
from ops.data.tsn_dataset import TSNDataSet
from tests.helpers import processes
from tests.helpers.datasets import dataset, photo

# ---- order and randomness -------------------------------------------------------------------------------------

AUGMENT = transforms.Compose([GroupMultiScaleCrop(16, fix_crop=False), ToClipTensor()])


def epochs_of(loader, epochs):
    result = []
    for epoch in epochs:
        set_epoch(loader, epoch)
        result.append([(batch.clips, batch.labels.tolist()) for batch in loader])
    return result


def equal(first, second):
    return all(torch.equal(a[0], b[0]) and a[1] == b[1] for a, b in zip(first, second, strict=True))


def test_workers_change_nothing_and_epochs_everything(noisy):
    data = dataset(noisy, transform=AUGMENT, seed=1)
    alone = epochs_of(make_loader(data, 4, workers=0, train=True, seed=1), [0, 1, 2])
    torch.manual_seed(99)
    together = epochs_of(make_loader(data, 4, workers=2, train=True, seed=1), [0, 1, 2])
    assert all(equal(a, b) for a, b in zip(alone, together))
    resumed = epochs_of(make_loader(data, 4, workers=2, train=True, seed=1), [2])
    assert equal(resumed[0], alone[2])
    orders = [[label for _, labels in epoch for label in labels] for epoch in alone]
    assert all(len(order) == 8 == len(set(order)) for order in orders)  # full batches only
    assert orders[0] != orders[1] != orders[2] != orders[0] and orders[0] != sorted(orders[0])


def test_sampler_shuffles_by_seed_and_epoch():
    def order(seed, epoch):
        sampler = EpochSampler(range(50), seed)
        sampler.epoch = epoch
        assert len(sampler) == 50
        keys = list(sampler)
        assert {key[0] for key in keys} == {epoch} and sorted(key[1] for key in keys) == list(range(50))
        return [key[1] for key in keys]

    assert order(0, 0) == order(0, 0)
    assert len({tuple(order(seed, epoch)) for seed in range(4) for epoch in range(4)}) == 16


def as_rank(monkeypatch, rank, size):
    """This process is one of `size` processes."""
    monkeypatch.setattr(distributed, "world", lambda: distributed.World(rank, size))


@pytest.mark.parametrize("size, accumulate, batch", [(1, 1, 12), (1, 3, 4), (2, 1, 6), (3, 2, 2), (2, 3, 2)])
def test_a_step_has_the_same_items_however_it_is_divided(size, accumulate, batch, monkeypatch):
    """And a pass that begins within the epoch has the rest of them."""
    whole = [index for _, index in EpochSampler(range(50), 3, batch_size=12)]
    for start in (0, 2, 4):
        parts = []
        for rank in range(size):
            as_rank(monkeypatch, rank, size)
            sampler = EpochSampler(range(50), 3, batch, accumulate)
            sampler.start = start
            parts.append([index for _, index in sampler])
            assert (sampler.steps, len(sampler)) == (4, len(parts[-1]))
        share = 12 // size
        steps = [{index for part in parts for index in part[i * share:(i + 1) * share]}
                 for i in range(4 - start)]
        assert steps == [set(whole[i * 12:(i + 1) * 12]) for i in range(start, 4)]


@pytest.mark.parametrize("size, accumulate, batch", [(1, 3, 4), (2, 1, 6), (3, 2, 2)])
def test_balanced_draws_are_the_same_however_they_are_divided(size, accumulate, batch, monkeypatch):
    draws = torch.tensor([1.0] * 45 + [9.0] * 5)
    whole = EpochSampler(range(50), 3, batch_size=12, draws=draws)
    whole.epoch = 2
    keys = list(whole)
    for start in (0, 2):
        parts = []
        for rank in range(size):
            as_rank(monkeypatch, rank, size)
            sampler = EpochSampler(range(50), 3, batch, accumulate, draws=draws)
            sampler.epoch, sampler.start = 2, start
            parts.append(list(sampler))
        share = 12 // size
        for i in range(4 - start):
            step = {key for part in parts for key in part[i * share:(i + 1) * share]}
            assert step == set(keys[(i + start) * 12:(i + start + 1) * 12])


def test_balanced_draws_favor_rare_items_and_differ_by_epoch():
    sampler = EpochSampler(range(1000), 0, draws=torch.tensor([1.0] * 900 + [9.0] * 100))
    epochs = []
    for sampler.epoch in (0, 1, 0):
        epochs.append(list(sampler))
        rare = sum(key[1] >= 900 for key in epochs[-1])
        assert len(epochs[-1]) == 1000 == len(set(epochs[-1])) and 430 < rare < 570
    assert epochs[0] == epochs[2] != epochs[1]


def test_a_repeated_video_has_another_clip(noisy):
    data = dataset(noisy, transform=AUGMENT, seed=1)
    first, second, again = data[0, 3], data[0, 3, 1], data[0, 3, 1]
    assert torch.equal(second[0], again[0]) and not torch.equal(first[0], second[0]) and first[1] == second[1]


def test_a_list_shorter_than_a_step_needs_one_process(monkeypatch):
    sampler = EpochSampler(range(5), 0, batch_size=8)
    assert (len(sampler), sampler.steps) == (5, 1)
    sampler.start = 1
    assert (len(sampler), list(sampler)) == (0, [])
    as_rank(monkeypatch, 0, 2)
    with pytest.raises(UserError, match=r"5 videos, fewer than the 8 of one step \(batch-size 4 x grad_accum 1"):
        EpochSampler(range(5), 0, batch_size=4)


def test_the_processes_take_each_validation_item_once(monkeypatch):
    for size in (1, 2, 3, 11):
        taken = []
        for rank in range(size):
            as_rank(monkeypatch, rank, size)
            taken.append(list(RankSampler(range(10))))
            assert len(RankSampler(range(10))) == len(taken[-1])
        assert sorted(sum(taken, [])) == list(range(10)) and max(map(len, taken)) - min(map(len, taken)) <= 1


def test_validation_is_in_order_and_whole(noisy):
    for workers in (0, 2):
        loader = make_loader(dataset(noisy, random_shift=False, transform=ToClipTensor()), 4, workers=workers, train=False)
        set_epoch(loader, 3)  # has no effect here
        assert [batch.labels.tolist() for batch in loader] == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]


def test_a_small_training_set_is_one_smaller_batch(noisy):
    loader = make_loader(dataset(noisy, transform=AUGMENT), 64, workers=0, train=True)
    assert [sorted(batch.labels.tolist()) for batch in loader] == [list(range(10))]


# ---- bad videos -----------------------------------------------------------------------------------------------

@pytest.mark.parametrize("workers", [0, 2])
def test_a_bad_video_stops_a_loader_with_its_one_line(workers, damaged):
    loader = make_loader(dataset(damaged, num_segments=4, transform=ToClipTensor()), 2, workers=workers, train=False)
    with pytest.raises(UserError) as info:
        list(loader)
    if workers:  # the traceback keeps them; left to the garbage collector, they would be waited for 5 seconds each
        loader._iterator._shutdown_workers()
    message = info.value.for_command_line()
    assert message.startswith(f"missing frame: {damaged / 'v 1' / '00003.jpg'}: ") and "--skip_bad" in message
    assert "\n" not in message and "Traceback" not in message


@pytest.mark.parametrize("workers", [0, 2])
def test_bad_videos_are_left_out_and_never_replaced(workers, damaged):
    data = dataset(damaged, num_segments=4, transform=ToClipTensor(), skip_bad=True)
    batches = list(make_loader(data, 6, workers=workers, train=True))
    assert len(batches) == 1
    clips, labels, bad, _ = batches[0]
    assert sorted(labels.tolist()) == [0, 2, 3, 5] and sorted(video.path for video in bad) == ["v 1", "v 4"]
    for clip, label in zip(clips, labels.tolist()):
        wanted = [40 * label + 5 * k for k in range(4) for _ in "RGB"]
        assert clip.float().mean((1, 2)).tolist() == pytest.approx(wanted, abs=1)


# ---- processes ------------------------------------------------------------------------------------------------

@pytest.fixture
def photos(tmp_path):
    """Eight videos of four photos each."""
    for i in range(8):
        (tmp_path / f"v{i}").mkdir()
        for k in range(1, 5):
            Image.fromarray(photo(60, 50, 10 * i + k)).save(tmp_path / f"v{i}" / f"{k}.jpg")
    (tmp_path / "list.txt").write_text("".join(f"v{i} 4 {i}\n" for i in range(8)))
    return tmp_path


def shared_memory():
    return sorted(name for name in os.listdir("/dev/shm") if name.startswith("torch_"))


@pytest.mark.skipif(not os.path.isdir("/dev/shm"), reason="this system shows no shared memory as files")
def test_an_error_in_a_worker_leaves_no_shared_memory(photos):
    (photos / "v6" / "2.jpg").write_bytes(b"")
    data = TSNDataSet(photos, photos / "list.txt", 4, image_tmpl="{}.jpg",
                      transform=TrainingCrop(GroupMultiScaleCrop(32)))
    before = shared_memory()
    loader = make_loader(data, 2, workers=2, train=True)
    with pytest.raises(UserError, match="unreadable frame.*2.jpg"):
        for batch in loader:
            assert batch.clips.is_shared()  # stacked in memory that both processes share, without another copy
    del loader, batch
    assert [name for name in shared_memory() if name not in before] == []


class Deadly(torch.utils.data.Dataset):
    """Three items; the second kills the process that loads it."""

    def __len__(self):
        return 3

    def __getitem__(self, index):
        if index == 1:
            os.kill(os.getpid(), signal.SIGKILL)
        return torch.zeros(1000, 1000, dtype=torch.uint8), index


@pytest.mark.skipif(not os.path.isdir("/dev/shm"), reason="this system shows no shared memory as files")
def test_a_worker_that_dies_is_one_line_and_leaves_no_shared_memory():
    before = shared_memory()
    loader = make_loader(Deadly(), 1, workers=1, train=False)
    with pytest.raises(UserError, match="a worker process of the loader .*(Killed|unexpectedly).*workers 0") as info:
        for _ in loader:
            pass
    assert "\n" not in str(info.value)
    del loader
    assert [name for name in shared_memory() if name not in before] == []


UNSEEN = """
import os, signal, torch
from ops.data.loader import Loader

class Interrupting(torch.utils.data.Dataset):
    def __len__(self):
        return 6
    def __getitem__(self, index):
        os.kill(os.getpid(), signal.SIGINT)
        return index

print([batch for batch in Loader(Interrupting(), list, batch_size=1, num_workers=2)])
"""


def test_workers_do_not_see_ctrl_c():
    """A terminal sends it to them too. One that ended before the main process was interrupted looked like a dead one."""
    assert processes.finish(processes.start("-c", UNSEEN)) == (0, "[[0], [1], [2], [3], [4], [5]]\n", "")
