"""Fixtures of the demo's tests."""
import json

import pytest

from tests.helpers.programs import run
from tests.helpers.streaming import assert_no_capture_left, make_weights


@pytest.fixture(autouse=True)
def no_capture_left(one_thread):
    """No test leaves a thread that still reads a video."""
    yield
    assert_no_capture_left()


@pytest.fixture(scope="session")
def weights(tmp_path_factory):
    return make_weights(tmp_path_factory.mktemp("weights") / "small.pth.tar")


@pytest.fixture
def play(monkeypatch, capfd, weights):
    """play(source, *flags): run the demo without a window; returns its result and the decisions it printed."""
    def play(source, *flags):
        done = run(monkeypatch, capfd, "online_demo.main", source, "--weights", weights, "--headless", "--json", *flags)
        return done, [json.loads(line) for line in done.out.splitlines()]
    return play
