"""Shared by every test: golden numbers, the directory of the repository."""
import json
import os
import sys
from pathlib import Path

import pytest

# Under pytest-xdist every core has a process of its own: more threads would only wait for each other. Programs that
# the tests start inherit this. It must be said before torch is imported.
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_NUM_THREADS", "1")

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))


@pytest.fixture(scope="session")
def golden():
    """golden("logits") is the content of tests/golden/logits.json."""
    return lambda name: json.loads((ROOT / "tests" / "golden" / f"{name}.json").read_text())
