"""The benchmark of clips: its table and its file."""
import json

import pytest
import torch

from tests.helpers import programs
from tests.helpers.online import make_model
from tools.benchmarks import clip
from tools.benchmarks.clip_runtimes import PLAIN, ClipRuntimes

SMALL = ["--arch", "resnet18", "--input_size", "32", "--num_segments", "2", "--rounds", "2", "--batch_size", "1"]


def test_the_table_of_runtimes(monkeypatch, capfd, tmp_path):
    monkeypatch.setattr(clip, "SHORT", 0)
    monkeypatch.setattr(clip, "cores", lambda: 1)
    done = programs.run(monkeypatch, capfd, "tools.benchmark", "clip", *SMALL, "--backend", "torch",
                        "--shift_stages", "4,3", "--json", tmp_path / "x.json")
    assert done.status == 0, done
    assert "32 x 32; shift in stages 3,4; 1 threads" in done.out
    assert "avx" in done.out and done.out.count("load: ") == 2 and "openvino 20" in done.out
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in done.out.splitlines() if line.startswith("|")]
    names = [clip.PUBLISHED, "torch float32", "torch bfloat16"]
    assert [row[:3] for row in rows[2:]] == [["resnet18", "1", name] for name in names]
    content = json.loads((tmp_path / "x.json").read_text())["rows"]
    for row, found in zip(rows[2:], content):
        assert float(row[3]) == pytest.approx(1000 * sum(found["seconds"]["TSM"]) / 2, abs=0.051)
        assert float(row[9]) == pytest.approx(found["times_published"], abs=0.0051)
    published, *ours = content
    assert published["times_published"] == 1 and published["error"] == 0
    ratios = [a / b for a, b in zip(ours[0]["seconds"]["TSM"], ours[0]["seconds"]["TSN"])]
    assert ours[0]["TSM_over_tsn"] == pytest.approx(sum(ratios) / 2)
    assert [0 < row["error"] < limit for row, limit in zip(ours, (1e-5, 0.1))] == [True] * 2


def test_a_plain_export_is_what_the_network_computes():
    model = make_model("resnet18", 2, input_size=32)
    clips = torch.randint(0, 256, (3, 6, 32, 32), dtype=torch.uint8)
    runtimes = ClipRuntimes(model, model, clips)
    found = runtimes._run_exported(PLAIN, "onnxruntime", "float32")()
    with torch.no_grad():
        torch.testing.assert_close(found, model(runtimes.inputs), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("flags, words", [
    (["--batch_size", "0"], "--batch_size 0: choose 1 or more"), (["--arch", "resnet19"], "--arch 'resnet19'"),
    (["--backend", "tensorrt"], "--backend 'tensorrt': choose torch, onnxruntime or openvino")])
def test_wrong_flags(monkeypatch, capfd, flags, words):
    programs.assert_refused(programs.run(monkeypatch, capfd, "tools.benchmark", "clip", *flags), words)
