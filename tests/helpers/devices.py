"""Tests on a GPU, and tests that run on the CPU and on a GPU alike."""
from typing import Sequence

import pytest
import torch

GPU = (pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"))
DEVICES = ["cpu", pytest.param("cuda", marks=GPU)]  # for the parameter `device` of a test


def on_both(*cases: Sequence, cpu: Sequence[Sequence]) -> list:
    """("cuda", *case) for all of the cases, and ("cpu", *case) for some: the parameters of a test that is slow on a CPU."""
    return [*(("cpu", *case) for case in cpu), *(pytest.param("cuda", *case, marks=GPU) for case in cases)]


def on_gpu(test):
    """A test that needs a GPU: it has the mark `gpu`, and skips with its reason elsewhere."""
    for mark in GPU:
        test = mark(test)
    return test
