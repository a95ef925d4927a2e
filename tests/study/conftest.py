"""Settings of the study's tests."""
import pytest

from tests.helpers import random_images
from util import data


@pytest.fixture(autouse=True)
def cheap_images(monkeypatch):
    """Synthetic images are noise, and few are for testing."""
    monkeypatch.setattr(data, "synthetic_images", lambda train, count: random_images(count))
    monkeypatch.setattr(data, "TEST_IMAGES", 40)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "results.csv"
