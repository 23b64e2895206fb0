"""Shared by every test: one thread for reproducible sums, golden numbers, a folder of the repository."""
import json
import sys
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))


@pytest.fixture(scope="session")
def golden():
    """golden("logits") is the content of tests/golden/logits.json."""
    return lambda name: json.loads((ROOT / "tests" / "golden" / f"{name}.json").read_text())


@pytest.fixture(autouse=True)
def few_threads():
    torch.set_num_threads(2)
