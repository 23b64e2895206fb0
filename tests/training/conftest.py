"""What the tests of training share."""
import pytest
import torch


@pytest.fixture
def tf32():
    """Torch's two switches, which a test may change."""
    places = (torch.backends.cudnn, torch.backends.cuda.matmul)
    before = [place.allow_tf32 for place in places]
    yield places
    for place, value in zip(places, before):
        place.allow_tf32 = value
