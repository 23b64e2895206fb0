"""The weights that the tests of checkpoints share."""
import pytest

from tests.helpers.weight_files import make_filled


@pytest.fixture(scope="session")
def weights():
    """The deterministic state dict of `weight_files.SPEC`'s model."""
    return dict(make_filled().state_dict())
