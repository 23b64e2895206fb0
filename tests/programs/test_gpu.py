"""main.py and test_models.py on a GPU: runs in mixed precision, repeated, under torchrun, and scored as on the CPU."""
import numpy as np
import pytest
import torch

from tests.helpers.devices import on_gpu
from tests.helpers.processes import finish, torchrun
from tests.helpers.programs import run
from tests.helpers.small_run import NAME, flags, rows, weights


@on_gpu
@pytest.mark.parametrize("amp", ["bf16", "fp16"])
def test_a_run_with_a_seed_repeats_and_is_scored_as_on_the_cpu(amp, data, tmp_path, monkeypatch, capfd):
    options = ["--device", "cuda", "--amp", amp, "--ema", 0.9, "--seed", 1]
    for out in (tmp_path, tmp_path / "again"):
        done = run(monkeypatch, capfd, "main", *flags(data, out, *options))
        assert done.status == 0 and f"{amp} (asked for), channels last (tensor cores" in done.err, done.err
    assert rows(tmp_path) == rows(tmp_path / "again") and len(rows(tmp_path)) == 3 and "peak memory" in done.err
    assert all(torch.equal(*pair) for pair in zip(weights(tmp_path).values(), weights(tmp_path / "again").values()))
    scores = {}
    for device in ("cuda", "cpu"):
        done = run(monkeypatch, capfd, "test_models", "somethingv2", "--weights", tmp_path / "model" / NAME / "ckpt.pth.tar",
                   "--root_dataset", data, "--device", device, "--out", tmp_path / device, "-j", 0)
        assert done.status == 0, done.err
        scores[device] = np.load(tmp_path / device / "scores.npy")
    assert np.abs(scores["cuda"] - scores["cpu"]).max() < 0.02 * np.abs(scores["cpu"]).max()


@on_gpu
def test_under_torchrun_gradients_travel_over_nccl(data, tmp_path):
    argv = flags(data, tmp_path, "--device", "cuda", "--amp", "bf16", "--sync_bn", "--debug", "-j", 2)
    status, _, err = finish(torchrun(1, "main.py", *argv))
    assert status == 0 and "processes 1" in err, err
