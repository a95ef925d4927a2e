"""Settings of the study's tests, and the file of results that each of them has."""
from pathlib import Path

import pytest

from tests.helpers import random_images
from tests.study.helpers import HEADER, study, tables
from util import data
from util.study import pictures


@pytest.fixture(autouse=True)
def cheap_images(monkeypatch):
    """Synthetic images are noise, and few are for testing."""
    monkeypatch.setattr(data, "synthetic_images", lambda train, count: random_images(count))
    monkeypatch.setattr(data, "TEST_IMAGES", 40)


@pytest.fixture
def held():
    """The rows of the file, if a test has them; without any, there is no file."""
    return ""


@pytest.fixture
def path(tmp_path, held):
    file = tmp_path / "results.csv"
    if held:
        file.write_text(HEADER + held, errors="surrogateescape")
    return file


@pytest.fixture
def page(path):
    """The tables that are printed of the file, by their headings."""
    return tables(study(path))


@pytest.fixture
def figures(path, monkeypatch):
    """The axes of each picture that is drawn of the file, by the picture's name."""
    drawn = {}
    monkeypatch.setattr(pictures, "save_figure", lambda figure, name: drawn.update({Path(name).stem: figure.axes}))
    study(path, "--pictures", str(path.parent))
    return drawn
