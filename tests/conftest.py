"""Shared by every test: golden numbers, the folder of the repository."""
import json
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))


@pytest.fixture(scope="session")
def golden():
    """golden("logits") is the content of tests/golden/logits.json."""
    return lambda name: json.loads((ROOT / "tests" / "golden" / f"{name}.json").read_text())
