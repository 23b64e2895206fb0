"""The device, the GPUs, the convolutions and the memory format that main.py and test_models.py choose."""
import pytest
import torch
from torch.backends import cudnn

import test_models
from ops.common import distributed
from ops.common.errors import UserError
from ops.models import TSN
from opts import parse_test
from tests.helpers.programs import assert_refused, run
from tests.helpers.small_run import NAME, flags


@pytest.mark.parametrize("program", ["main", "test_models"])
def test_the_model_goes_to_the_gpu_that_was_asked_for(program, trained, data, tmp_path, monkeypatch, capfd):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 3)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "a GPU")
    current = []
    monkeypatch.setattr(torch.cuda, "set_device", current.append)

    def sent(model, device):
        raise UserError(f"sent to {device}")
    monkeypatch.setattr(TSN, "to", sent)

    def launched(gpus):
        raise UserError(f"launched on {gpus}")
    monkeypatch.setattr(distributed, "launch", launched)

    def asked(*more):
        if program == "main":
            return run(monkeypatch, capfd, program, *flags(data, tmp_path, *more))
        file = trained / "model" / NAME / "ckpt.pth.tar"
        return run(monkeypatch, capfd, program, "somethingv2", "--weights", file, "--root_dataset", data, "--out", tmp_path,
                   *more)
    for more, words in ((["--device", "cuda", "--gpus", 1], "sent to cuda:1"), (["--device", "cuda"], "sent to cuda:0"),
                        (["--device", "auto", "--gpus", 2, 1], "launched on [2, 1]"),
                        (["--device", "cuda:2"], "sent to cuda:2"),
                        (["--device", "cuda", "--gpus", 1, 1], "--gpus 1 1: name each GPU once"),
                        (["--device", "cuda:2", "--gpus", 1], "--gpus 1 begins with another GPU than --device cuda:2")):
        assert_refused(asked(*more), words)
    assert [str(device) for device in current] == ["cuda:1", "cuda:0", "cuda:2"]


def test_streams_are_divided_between_gpus_but_not_weighted(caplog):
    args = parse_test(["ucf101", "--weights", "a.pth", "--online", "--gpus", "0", "1", "--coeff", "0.5", "--softmax"])
    test_models.warn_no_effect(args)
    assert [record.getMessage() for record in caplog.records] == [
        f"warning: --{flag} has no effect with --online: it is for ensembles" for flag in ("softmax", "coeff")]


@pytest.mark.parametrize("more, benchmark", [([], True), (["--seed", 0], False)])
def test_a_seed_asks_for_repeatable_convolutions(more, benchmark, data, tmp_path, monkeypatch, capfd):
    monkeypatch.setattr(cudnn, "benchmark", not benchmark)
    monkeypatch.setattr(cudnn, "deterministic", benchmark)
    monkeypatch.setattr("main.fit", lambda *args, **options: None)
    assert run(monkeypatch, capfd, "main", *flags(data, tmp_path, *more)).status == 0
    assert (cudnn.benchmark, cudnn.deterministic) == (benchmark, not benchmark)


def test_main_says_what_it_chose(data, tmp_path, monkeypatch, capfd):
    monkeypatch.setattr("main.fit", lambda *args, **options: None)
    done = run(monkeypatch, capfd, "main", *flags(data, tmp_path))
    assert done.status == 0 and "float32 (asked for), channels last (convolutions on a CPU" in done.err + done.out
    done = run(monkeypatch, capfd, "main", *flags(data, tmp_path, "--no-channels_last"))
    assert "channels first (asked for), fused SGD" in done.err + done.out
    monkeypatch.setenv("CXX", "no-such-compiler")
    assert_refused(run(monkeypatch, capfd, "main", *flags(data, tmp_path, "--compile")),
                   "--compile needs a C++ compiler", "CXX")
