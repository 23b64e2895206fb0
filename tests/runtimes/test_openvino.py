"""The OpenVINO runtime: a model compiled for each number of streams, many streams in parts."""
import pytest
import torch

from ops.runtimes import openvino
from ops.runtimes.openvino import count_parts
from ops.runtimes.registry import open_exported
from tests.helpers.golden_model import clip
from tests.helpers.online import SIZE, stream_logits


@pytest.mark.parametrize("threads", [1, 2])
def test_the_number_of_streams_may_change_often(exports, monkeypatch, threads):
    """Computed in parts or not, each stream gets its own logits."""
    monkeypatch.setattr(openvino, "MAX_COMPILED", 2)
    monkeypatch.setattr(openvino, "cores", lambda: threads)
    runtime = open_exported("openvino", exports["resnet18"])
    clips = clip(4, 2, 3, SIZE)
    wanted = torch.cat([stream_logits(runtime, clips[i:i + 1], 2) for i in range(4)])
    for streams in (2, 3, 4, 1):
        got = stream_logits(runtime, clips[:streams], 2)
        assert float((got - wanted[:streams]).abs().max()) <= 1e-4 * float(wanted.abs().max())
    assert len(runtime.engine._compiled) == 2, "older compilations are dropped"


def test_parts_keep_every_thread_busy():
    assert [count_parts(streams, 2) for streams in (1, 2, 3, 4, 6, 8, 16, 24)] == [1, 2, 1, 2, 2, 2, 4, 6]
    assert [count_parts(streams, 1) for streams in (1, 4, 8, 16)] == [1, 1, 2, 4]
    assert [count_parts(streams, 16) for streams in (1, 4, 16, 32, 128)] == [1, 1, 16, 16, 32]
    for streams in range(1, 80):
        for threads in (1, 2, 3, 8):
            assert streams % count_parts(streams, threads) == 0
