"""Several processes, and several batches per step, train to the weights of one process with larger batches."""
import shutil

import pytest
import torch

from tests.helpers.processes import finish, ranks, start

MODULE = "tests.training.parallel_run"
# way -> clips of a batch, batches of a step, and what else parallel_run.py does; every step takes 8 clips.
ONE = {"one process": "8 1", "accumulated": "4 2", "balanced": "8 1 balanced", "teacher": "8 1 teacher",
       "precise": "8 1 precise", "skip": "8 1 skip"}
TWO = {"two processes": "4 1", "two, accumulated": "2 2", "two, balanced": "2 2 balanced", "two, teacher": "2 2 teacher",
       "two, precise": "4 1 precise", "two processes, skip": "4 1 skip"}


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """{way: what parallel_run.py wrote}, of one process and of two."""
    directory = tmp_path_factory.mktemp("parallel")
    jobs = [[f"{directory / name}={way}" for name, way in ways.items()] for ways in (ONE, TWO)]
    for processes, argv in (1, jobs[0]), (2, jobs[1]):
        status, _, err = ranks(processes, "-m", MODULE, *argv) if processes > 1 else finish(start("-m", MODULE, *argv))
        assert status == 0, err
    results = {name: torch.load(directory / name, weights_only=True) for name in ONE | TWO}
    shutil.rmtree(directory)  # more than 2 GB of checkpoints
    return results


@pytest.mark.parametrize("way, reference", [
    ("accumulated", "one process"), ("two processes", "one process"), ("two, accumulated", "one process"),
    ("two processes, skip", "skip"),
    ("two, balanced", "balanced"), ("two, teacher", "teacher")])
def test_the_weights_are_those_of_one_process(trained, way, reference):
    start = trained[reference]["weights"]
    for key, value in trained[way]["weights"].items():
        assert torch.allclose(value, start[key], rtol=1e-4, atol=1e-6), key
    assert trained["skip"]["weights"].keys() == start.keys()
    for other in ("skip", "balanced", "teacher"):
        assert not torch.equal(trained[other]["weights"]["base_model.conv1.weight"],
                               trained["one process"]["weights"]["base_model.conv1.weight"])


def test_precise_statistics_are_those_of_all_processes(trained):
    """The first layer's mean: its input is the same, and each process has half of the clips."""
    one, two = (trained[way]["weights"]["base_model.bn1.running_mean"] for way in ("precise", "two, precise"))
    assert torch.allclose(one, two, rtol=1e-4, atol=1e-6) and one.abs().max() > 1e-3


def test_validation_counts_each_video_once_and_in_order(trained):
    """7 videos do not divide by 2 processes, nor by batches of 2."""
    one, two = trained["one process"], trained["two processes"]
    assert two["labels"].tolist() == one["labels"].tolist() == [i % 3 for i in range(7)]
    for ours, theirs in zip(two["logits"], one["logits"], strict=True):
        assert torch.allclose(ours, theirs, rtol=1e-3, atol=1e-4)
