"""Fixtures for every test, and the directory of the repository."""
import gc
import json
import logging
import os
import signal
import sys
from pathlib import Path

import pytest

# Under pytest-xdist every core has its own process, and more threads would only wait for each other. Programs that the
# tests start inherit this. It must be set before torch is imported.
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_NUM_THREADS", "1")

ROOT = Path(__file__).resolve().parents[1]
# Environment variables that our programs or tests use; libraries set others for themselves, when they are imported.
VARIABLES = ("AWS_ACCESS_KEY_ID", "AWS_ENDPOINT_URL", "CUDA_VISIBLE_DEVICES", "CXX", "DISPLAY", "HOME", "LOCAL_RANK", "PATH",
             "RANK", "SDL_VIDEODRIVER", "TORCH_HOME", "TSM_CACHE", "TSM_MODELS_URL", "TSM_ROOT", "WORLD_SIZE")
sys.path.insert(0, str(ROOT))


def pytest_collection_finish():
    """Spare the garbage collector the half a million objects of the modules and tests, which stay until the end."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session")
def golden():
    """golden("logits") is the content of tests/golden/logits.json."""
    return lambda name: json.loads((ROOT / "tests" / "golden" / f"{name}.json").read_text())


@pytest.fixture(scope="module")
def one_thread():
    """torch computes in one thread: small tensors gain nothing from more, and on a busy machine wait for them."""
    import torch  # not at the top: tests without networks do not need it
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def cache(tmp_path_factory, monkeypatch):
    """An empty cache directory instead of the user's, and no frame index in memory."""
    from ops.video import frame_index  # not at the top: tests without videos do not need PyAV
    directory = tmp_path_factory.mktemp("cache")
    monkeypatch.setenv("TSM_CACHE", str(directory))
    frame_index._frame_index.cache_clear()
    return directory


@pytest.fixture(scope="session")
def s3_address():
    """The address of an S3 server on this machine."""
    from tests.helpers.s3 import s3_server
    with s3_server() as address:
        yield address


@pytest.fixture
def bucket(s3_address, monkeypatch):
    """The address of a new bucket, `s3://...`, on the S3 server of this machine."""
    from tests.helpers.s3 import new_bucket, use_server
    use_server(monkeypatch, s3_address)
    return new_bucket()


@pytest.fixture(autouse=True)
def leaves_the_process_as_it_was():
    """A test that changes what the tests after it in this process rely on fails itself, whatever their order."""
    before = shared_state()
    yield
    forget_compiled()
    if "cudnn" in before:  # which the seed of a run sets, for the process that it has to itself
        from torch.backends import cudnn
        cudnn.deterministic, cudnn.benchmark = before["cudnn"]
    after = shared_state()
    changed = {name: (before[name], after[name]) for name in before.keys() & after.keys() if before[name] != after[name]}
    assert not changed, f"changed and not restored: {changed}"


def forget_compiled():
    """Drop what torch.compile has learnt: after two shapes of an input, it would compile the next test's network for any
    shape, which takes minutes."""
    if "torch._dynamo" in sys.modules:
        from torch._dynamo.utils import counters
        if counters:
            import torch
            torch.compiler.reset()
            counters.clear()


def shared_state():
    """Settings of this process that every test sees, by name; those of libraries that are imported already."""
    state = {"working directory": os.getcwd(), "sys.argv": list(sys.argv), "logging": logging.root.manager.disable,
             "signal handlers": [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)],
             "environment": {name: os.environ.get(name) for name in VARIABLES},
             "repository": {name for name in os.listdir(ROOT) if not name.startswith((".", "__"))}}
    if "torch" in sys.modules:
        import torch
        state |= {"deterministic": torch.are_deterministic_algorithms_enabled(), "gradients": torch.is_grad_enabled(),
                  "default dtype": torch.get_default_dtype(), "threads": torch.get_num_threads(),
                  "cudnn": (torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark),
                  "matmul": torch.get_float32_matmul_precision()}
    return state
