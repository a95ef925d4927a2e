"""Settings of all tests."""
import pytest
import torch


@pytest.fixture(scope="session", autouse=True)
def one_thread():
    """Networks this small do not gain from more, and lose where other programs keep the cores busy."""
    torch.set_num_threads(1)
