"""The data set and the finished run that the tests of the programs share."""
import pytest

from tests.helpers.processes import finish, start
from tests.helpers.programs import make_somethingv2
from tests.helpers.small_run import flags


@pytest.fixture(scope="session")
def data(tmp_path_factory):
    root = tmp_path_factory.mktemp("data root")
    make_somethingv2(root)
    return root


@pytest.fixture(scope="session")
def trained(data, tmp_path_factory):
    """One uninterrupted run of three epochs, in a process of its own with two workers."""
    out = tmp_path_factory.mktemp("trained")
    status, _, err = finish(start("main.py", *flags(data, out, "-j", 2)))
    assert status == 0, err
    return out
