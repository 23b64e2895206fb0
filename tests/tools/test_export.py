"""tools/export.py: what it writes, that the runtimes find it, and what it refuses."""
import fsspec
import pytest

from ops.common.errors import UserError
from ops.runtimes.registry import open_runtime
from ops.streaming.online import OnlineTSM
from tests.helpers import programs
from tests.helpers.clips import real_video
from tests.helpers.golden_model import clip
from tests.helpers.online import assert_close, exported_step, logits_over, save_online, stream_logits, video_frames
from tests.helpers.s3 import objects


def test_the_runtime_finds_the_exported_step(monkeypatch, capfd, tmp_path):
    weights = save_online(tmp_path, 32)
    done = programs.run(monkeypatch, capfd, "tools.export", weights, "--data_url", tmp_path / "none.tar")
    warning, made, compared = done.err.splitlines()
    assert done.status == 0 and "8 state tensors, frames of 32x32" in made and "100.0% of 32 answers" in compared
    assert warning == "warning: --data_url has no effect: only --calibration reads videos"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["clip.pth.tar", "online.onnx", "online.pth.tar"]
    monkeypatch.setattr("ops.runtimes.export.export_model", lambda *_: pytest.fail("exported although the file exists"))
    online = OnlineTSM(weights)
    runtime = open_runtime("onnxruntime", online, weights=weights)
    assert runtime.class_names == list("abcde") and runtime.preprocessing == online.preprocessing
    assert runtime.spec == online.spec
    frames = clip(2, 3, 3, 32)
    assert_close(stream_logits(runtime, frames, 3), stream_logits(online, frames, 3))


def test_the_runtime_finds_the_int8_step(monkeypatch, capfd, tmp_path):
    weights = save_online(tmp_path)
    online = OnlineTSM(weights)
    with pytest.raises(UserError, match="online.int8.onnx does not exist: calibrate one .* tools/export.py"):
        open_runtime("openvino", online, weights=weights, precision="int8")
    monkeypatch.setattr("tools.export.export_model", stored_export)
    done = programs.run(monkeypatch, capfd, "tools.export", weights, "--precision", "int8", "--calibration",
                        real_video("bikes.mp4"), "--calibration_frames", 4)
    assert done.status == 0
    assumed, *_, made, _ = done.err.splitlines()  # between: the quantizer warns of what torch 2.6 exports
    assert "assuming 12 per second" in assumed and "resnet18 online, int8, 8 state tensors" in made
    runtime = open_runtime("openvino", online, weights=weights, precision="int8")
    frames = video_frames(online, 0, 4)
    wanted = logits_over(online, frames)
    assert float((logits_over(runtime, frames) - wanted).abs().max()) < 0.3 * float(wanted.abs().max())
    other = OnlineTSM(save_online(tmp_path, seed=1))
    with pytest.raises(UserError, match="is not the int8 step of"):
        open_runtime("openvino", other, weights=weights, precision="int8")


def test_weights_videos_and_the_exported_file_may_be_at_an_address(monkeypatch, capfd, tmp_path, bucket, cache):
    fs, weights = fsspec.filesystem("s3"), save_online(tmp_path, 32)
    fs.put(str(weights), f"{bucket}/online.pth.tar")
    fs.put(str(real_video("bikes.mp4")), f"{bucket}/videos/bikes.mp4")
    monkeypatch.chdir(tmp_path)
    argv = [f"{bucket}/online.pth.tar", "--data_url", f"{bucket}/videos", "--precision", "int8",
            "--calibration", "data/bikes.mp4", "--calibration_frames", 2]
    done = programs.run(monkeypatch, capfd, "tools.export", *argv, "--train_url", f"{bucket}/exported")
    assert done.status == 0, done.err
    assert objects(f"{bucket}/exported") == {"online.int8.onnx": (tmp_path / "online.int8.onnx").read_bytes()}
    programs.assert_refused(programs.run(monkeypatch, capfd, "tools.export", weights, "-o", f"{bucket}/x.onnx"),
                            f"--output {bucket}/x.onnx", "--train_url copies")


INT8 = ["--precision", "int8", "--calibration"]


@pytest.mark.parametrize("argv, words", [
    (["none.pth.tar"], ["no such checkpoint"]),
    (["{weights}", "--height", "8"], ["--height 8", "32 to 10000 pixels"]),
    (["{weights}", "-o", "{weights}"], ["--output", "choose a name that ends in .onnx, .xml"]),
    (["{weights}", "-o", "a.onnx", "--format", "torch"], ["does not end in .pt2"]),
    (["{weights}", "-o", "{directory}/made.onnx"], ["cannot write"]),
    (["{weights}", "--batch", "0"], ["--batch 0: choose 1 or more, or dynamic"]),
    (["{weights}", "--precision", "fp16"], ["ONNX Runtime converts each layer", "--format openvino"]),
    (["{weights}", *INT8, "webcam"], ["--calibration webcam", "no such video file, directory of frames or data set"]),
    (["{weights}", *INT8, "{directory}"], ["no frames in this directory"]),
    (["{weights}", *INT8, "{weights}"], ["online.pth.tar: cannot be read as a video"]),
    (["{weights}", *INT8, "{weights}", "--calibration_frames", "0"], ["--calibration_frames 0"]),
    (["{weights}", *INT8, "{weights}", "--height", "64"], ["--precision int8 with --height"]),
    (["{weights}", *INT8, "{weights}", "--folder_rate", "nan"], ["--folder_rate nan"]),
])
def test_wrong_flags_write_nothing(monkeypatch, capfd, tmp_path, argv, words):
    weights = save_online(tmp_path, 32)
    (tmp_path / "made.onnx").mkdir()
    monkeypatch.setattr("tools.export.export_model", stored_export)
    argv = [word.format(weights=weights, directory=tmp_path) for word in argv]
    programs.assert_refused(programs.run(monkeypatch, capfd, "tools.export", *argv), *words)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["clip.pth.tar", "made.onnx", "online.pth.tar"]


def stored_export(*_, **__):
    """In place of an export, which takes seconds."""
    return exported_step("resnet18")
