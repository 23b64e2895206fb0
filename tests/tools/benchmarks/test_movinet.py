"""The comparison with MoViNet: TSM's row, and what is said without MoViNet's packages."""
import sys

import pytest
import torch

from tests.helpers import programs
from tools.benchmarks import movinet


def test_a_row_of_tsm(monkeypatch):
    monkeypatch.setattr(movinet, "RUNTIMES", ())
    monkeypatch.setattr(movinet, "SLICE", 0.02)
    row, = movinet.tsm_rows("resnet18", 32)
    row.sample()
    cells = [cell.strip() for cell in str(row).strip("|").split("|")]
    assert cells[:3] == ["TSM resnet18", "32", "eager float32 NCHW"] and cells[7:] == ["9 / 9", "0"]
    # Two shifts in each of four stages; an eighth of the channels that enter a block.
    shapes = [(8, 8), (8, 8), (8, 8), (16, 4), (16, 4), (32, 2), (32, 2), (64, 1)]
    assert cells[6] == f"{4 * sum(channels * side ** 2 for channels, side in shapes):,}"
    assert int(cells[3]) == len(row.seconds) == len(row.processor) >= 1
    assert 0 < float(cells[4]) < 1000 and 0 < float(cells[5]) < 1000


def test_the_error_of_a_row_is_relative_to_the_first():
    frames = torch.ones(2, 1, 3)
    first, half = (movinet.Row("sum", 1, "numpy", lambda frame, state, scale=scale: (scale * (frame + state), frame + state),
                               frames, [torch.zeros(1, 3)], expected)
                   for scale, expected in ((1, None), (0.5, torch.stack([frames[0], 2 * frames[0]]).numpy())))
    assert first.error == 0 and first.logits[:, 0, 0].tolist() == [1, 2]  # the second frame found the first one's state
    assert half.error == pytest.approx(50)


def test_without_tensorflow(monkeypatch, capfd):
    monkeypatch.setitem(sys.modules, "tensorflow", None)
    monkeypatch.setattr(movinet, "use_one_core", lambda: None)
    programs.assert_refused(programs.run(monkeypatch, capfd, "tools.benchmark", "movinet"),
                            "package tensorflow", "pip install tensorflow", "--no-deps tf-models-official tf2onnx")
