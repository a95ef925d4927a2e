"""Settings of all tests."""
import pytest
import torch


@pytest.fixture(scope="session", autouse=True)
def as_in_the_workers():
    """Networks this small gain neither from threads nor from oneDNN."""
    torch.set_num_threads(1)
    torch.backends.mkldnn.enabled = False
