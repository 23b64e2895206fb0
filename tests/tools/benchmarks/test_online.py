"""The benchmark of streaming: the tables that it prints."""
import pytest

from tests.helpers import programs
from tools.benchmarks.soak import soak_clips


def test_the_table_of_speeds(monkeypatch, capfd):
    monkeypatch.setattr("tools.benchmarks.online.SLICE", 0.01)
    monkeypatch.setattr("tools.benchmarks.online.export_model", lambda *_: pytest.fail("torch needs no export"))
    done = programs.run(monkeypatch, capfd, "tools.benchmark", "online", "--arch", "resnet18", "--input_size", "32",
                        "--streams", "1", "2", "--rounds", "2", "--backend", "torch")
    assert done.status == 0, done
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in done.out.splitlines() if "|" in line]
    assert [row[:3] for row in rows[2:]] == [["resnet18", streams, name] for streams in ("1", "2") for name in (
        "eager float32 NCHW", "torch float32", "torch bfloat16")]
    for _, streams, name, steps, p50, p95, p99, rate, speed, error in rows[2:]:
        assert 0 < float(p50) <= float(p95) <= float(p99) and int(steps) >= 5
        assert float(rate) == pytest.approx(1000 * int(streams) / float(p50), rel=0.05)
        assert {"eager float32 NCHW": 0 == float(error), "torch float32": 0 < float(error) < 0.01,
                "torch bfloat16": 0.01 < float(error) < 20}[name]
    assert float(rows[2][8]) == 1


def test_memory_does_not_grow_over_many_steps(monkeypatch, capfd):
    """If every step kept its states, the last three quarters of the steps would add 70 MB (measured)."""
    done = programs.run(monkeypatch, capfd, "tools.benchmark", "online", "--soak", "1000", "--backend", "torch")
    assert done.status == 0, done
    heading, _, row = [[cell.strip() for cell in line.strip("|").split("|")] for line in done.out.splitlines()
                       if line.startswith("|")]
    assert heading[1:-1] == ["50", "250", "500", "750", "1,000"]
    values = [float(value) for value in row[1:-1]]
    assert min(values) > 50 and float(row[-1]) == pytest.approx(values[-1] - values[0], abs=0.15)
    assert values[-1] - values[1] < 7


def test_memory_does_not_grow_over_many_clips(capsys):
    soak_clips([], 400)
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("|")]
    heading, _, *rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    assert heading[1:-1] == ["20", "100", "200", "300", "400"]
    row, = rows
    assert row[0] == "PyTorch" and float(row[-2]) - float(row[2]) < 7


@pytest.mark.parametrize("flags, words", [
    (["--streams", "0"], "--streams 0: choose 1 to 10000"), (["--soak", "0"], "--soak 0: choose 1 or more"),
    (["--backend", "tensorrt"], "--backend 'tensorrt': choose torch, onnxruntime or openvino")])
def test_wrong_flags(monkeypatch, capfd, flags, words):
    programs.assert_refused(programs.run(monkeypatch, capfd, "tools.benchmark", "online", *flags), words)
