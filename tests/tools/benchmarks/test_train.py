"""The benchmarks of training: their tables and files, and that the published step is the same training as ours."""
import json
import multiprocessing
import os
import signal
from types import SimpleNamespace

import pytest
import torch
from PIL import Image

from ops.data.tsn_dataset import Batch
from ops.models import TSN
from ops.spec import ModelSpec
from tests.helpers import programs
from tools.benchmarks import train
from tools.benchmarks.flags import STEP_MODES
from tools.benchmarks.processes import Worker
from tools.benchmarks.train_worker import CLASSES, Job, insert_published_shift, our_step, published_step

CPU = torch.device("cpu")
SMALL = ["--arch", "resnet18", "--input_size", "32", "--rounds", "2", "--warm_up", "1", "--threads", "1",
         "--batch_size", "1", "--device", "cpu"]


@pytest.fixture
def forked_workers(monkeypatch):
    """The measuring processes come from one that has imported torch, which would take each of them seconds."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tools.benchmarks.train_worker"])
    monkeypatch.setattr("tools.benchmarks.processes.multiprocessing", SimpleNamespace(get_context=lambda method: context))


def cells(out):
    """The cells of the tables' rows, without their headings."""
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in out.splitlines() if line.startswith("|")]
    return [row for row in rows if not row[1].startswith("-") and row[1][0].isdigit()]


def test_the_table_of_modes(forked_workers, monkeypatch, capfd, tmp_path):
    done = programs.run(monkeypatch, capfd, "tools.benchmark", "train", *SMALL, "--num_segments", "2", "--mode", "published",
                        "bf16_kept", "--json", tmp_path / "x.json")
    assert done.status == 0, done
    assert "avx" in done.out and done.out.count("load: ") == 2
    published, ours = cells(done.out)
    assert (published[0], ours[0]) == (train.PUBLISHED.name, train.KEPT.name) and published[3] == "1.00"
    content = json.loads((tmp_path / "x.json").read_text())
    row = content["rows"][1]
    assert content["options"]["mode"] == ["published", "bf16_kept"] and "torch" in content["machine"]
    assert [len(row[step]["seconds"]) for step in ("tsm", "tsn", "published")] == [2, 2, 2]
    ratios = [theirs / own for theirs, own in zip(row["published"]["seconds"], row["tsm"]["seconds"])]
    assert row["times_published"] == pytest.approx(sum(ratios) / 2)
    assert float(ours[3]) == pytest.approx(row["times_published"], abs=0.01)
    assert 40e6 < row["tsm"]["peak_bytes"] < 1e9  # the weights alone have 45 MB


def test_the_tables_of_scaling(forked_workers, monkeypatch, capfd, tmp_path):
    done = programs.run(monkeypatch, capfd, "tools.benchmark", "scaling", *SMALL, "--frames", "4", "2", "--json",
                        tmp_path / "x.json", "--plot", tmp_path / "x.png")
    assert done.status == 0, done
    assert [row[0] for row in cells(done.out)] == ["2", "4", "1", "2"]
    content = json.loads((tmp_path / "x.json").read_text())["rows"]
    assert set(content["frames"]) == {"2", "4"} and set(content["processes"]) == {"1", "2"}
    with Image.open(tmp_path / "x.png") as image:
        assert image.format == "PNG"


def test_an_interrupt_is_the_parents_alone():
    """A terminal sends Ctrl-C to every process; the measuring one must not print a traceback of its own."""
    worker = Worker(Job(train.DEFAULT, True, "resnet18", 1, 2, 32, "cpu", 1))
    try:
        os.kill(worker.processes[0].pid, signal.SIGINT)
        assert worker.ask("step") > 0 and worker.ask("peak") > 0
    finally:
        worker.end()


def vector(model):
    return torch.cat([parameter.detach().flatten() for parameter in model.parameters()])


def test_the_published_step_is_the_same_training():
    """What two steps change in the weights, against the published step: rounding in our mode, much without a shift."""
    clips, labels = torch.randint(0, 256, (4, 6, 48, 48), dtype=torch.uint8), torch.arange(4)

    def change(published, shift=True):
        torch.manual_seed(0)
        spec = ModelSpec(CLASSES, 2, arch="resnet18", shift=shift, dropout=0, input_size=48)
        model = TSN.from_spec(spec, fc_lr5=True).train()
        before = vector(model)
        if published:
            insert_published_shift(model.base_model)
            step = published_step(model, model.preprocessing.apply(clips), labels, CPU)
        else:
            step = our_step(train.DEFAULT, model, Batch(clips, labels, []), CPU)
        for _ in range(2):
            step()
        return vector(model) - before
    theirs = change(published=True)
    assert (change(published=False) - theirs).norm() < 0.01 * theirs.norm()
    assert (change(published=False, shift=False) - theirs).norm() > 0.1 * theirs.norm()


def test_every_mode_has_a_name():
    assert tuple(train.MODES) == STEP_MODES


@pytest.mark.parametrize("flags, words", [
    (["train", "--mode", "fp8"], "--mode 'fp8': choose published, float32"),
    (["train", "--arch", "mobilenetv2"], "choose resnet18, resnet34 or resnet50"),
    (["scaling", "--frames", "0"], "--frames 0")])
def test_wrong_flags(monkeypatch, capfd, flags, words):
    programs.assert_refused(programs.run(monkeypatch, capfd, "tools.benchmark", *flags), words)
