"""The models, exported steps and runtimes that these tests share."""
import pytest

from ops.runtimes.quantize import quantize_step
from ops.runtimes.registry import open_exported, open_runtime
from ops.streaming.online import OnlineTSM
from tests.helpers.online import SIZE, exported_step, make_model, video_frames

ARCHS = ("mobilenetv2", "resnet18")


@pytest.fixture(autouse=True, scope="module")
def in_one_thread(one_thread):
    """Every test of the runtimes computes in one thread."""


@pytest.fixture(scope="session")
def onlines():
    return {arch: OnlineTSM(make_model(arch, 4, input_size=SIZE)) for arch in ARCHS}


@pytest.fixture(scope="session")
def exports():
    return {arch: exported_step(arch) for arch in ARCHS}


@pytest.fixture(scope="session")
def runtimes(onlines, exports):
    """(backend, arch) -> runtime"""
    opened = {("torch", arch): open_runtime("torch", online, device="cpu") for arch, online in onlines.items()}
    return opened | {(backend, arch): open_exported(backend, exported)
                     for arch, exported in exports.items() for backend in ("onnxruntime", "openvino")}


@pytest.fixture(scope="session")
def int8(onlines, exports):
    return quantize_step(exports["resnet18"], [video_frames(onlines["resnet18"], 0, 12)])
