"""Files of results: what is read, what is refused, and how rows are appended."""
import contextlib
import fcntl
import multiprocessing
import resource
from pathlib import Path

import pytest

from tests.study.helpers import BRIEF, HEADER, holding, rows_of, study, trainings
from util import data, study as package
from util.failure import Failure
from util.study.results import append, read_results

RESULTS = sorted((Path(package.__file__).parent / "results").glob("*.csv"))
ROW = trainings("default", 0.001, 1.0)
OLDER = trainings("he", 0.001, 1.0).replace(",400,2,", ",8,1,").replace("1.0 " * 198, "", 1)


def without_activation(text):
    """Return a file as it was before there was a column for the activation."""
    return text.replace("activation,", "").replace("relu,", "")


def head_of(file):
    """Return the header of a file, its first rows, and some of trainings that diverged."""
    header, *rows = file.read_text().splitlines(keepends=True)
    diverged = [row for row in rows if "nan" in row or "inf" in row]
    return header, "".join(rows[:4] + diverged[:4])


@pytest.mark.parametrize("file", RESULTS, ids=[file.stem for file in RESULTS])
def test_what_is_read_of_a_file_is_what_was_written(path, file):
    """A row keeps every digit, and the columns of its file."""
    header, rows = head_of(file)
    path.write_text(header + rows)
    held = read_results(path)
    path.write_text(header)
    for result in held:
        append(result, path)
    assert path.read_text() == header + rows


@holding(ROW, HEADER, ROW, ROW.replace("2.0.0,2.0", "2.0.0,9.0"))
def test_of_a_training_that_stands_in_joined_files_twice_the_first_counts(page):
    assert page["Outcomes"] == ["| **`default=0.001`** | 5 | 1 | 1.000 | 1.000 | 1.000 | 2.000 | 50.000 |  |"]


@pytest.mark.parametrize("held", [
    ROW.replace("False,5", "False,400").replace(",0.5,", ",1.0,"),
    ROW.replace(",400,2,", ",4,1,").replace("1.0 " * 199, "").replace(",0.5,", ",0.0,")], ids=["highest", "lowest"])
def test_rows_at_the_limits_are_read(page):
    assert len(page["Outcomes"]) == 1


@pytest.mark.parametrize("held, problem", [
    (ROW[:-1], ":2: the last line is not finished; delete it"),
    (ROW.replace(",synthetic,", ",cifar,"), ":2: .*no dataset 'cifar'"),
    (ROW.replace(",relu,", ",gelu,"), ":2: .*no activation 'gelu'"),
    (ROW.replace("default", "none"), ":2: .*no method 'none'"),
    (ROW.replace("False,5,", "False,4,"), ":2: .*depth is 4, not from 5 to 400"),
    (ROW.replace("False,5,", "False,401,"), ":2: .*depth is 401"),
    (ROW.replace("False", "no"), ":2: .*'no' is neither True nor False"),
    (ROW.replace("2.0.0,", ""), ":2: .*not as many columns"),
    (ROW.replace(",,,\n", ",,,,\n"), ":2: .*not as many columns"),
    (ROW.replace("1.0 1.0", "1.0 two", 1), ":2: .*'two'"),
    (ROW.replace("1.0 1.0", "1.0 1.\udcff", 1), ":2: this row cannot be read"),
    (ROW.replace("1.0 1.0", "1.0", 1), ":2: .*199 losses instead of 200"),
    (ROW.replace(",,,\n", ",1 2,1 2,1 2\n"), ":2: .*growths are not of 5 layers"),
    (ROW.replace(",0.5,", ",50.0,"), ":2: .*test_accuracy is 50.0"),
    (ROW.replace("5,0,synthetic", "5,-1,synthetic"), ":2: .*too small"),
    (ROW.replace(",400,2,", ",3,2,"), ":2: .*too small"),
    (ROW.replace(",400,2,", ",400,0,"), ":2: .*too small"),
    (ROW.replace("0.001", "inf"), ":2: .*learning_rate is inf"),
    (ROW.replace("0.001", "0.0"), ":2: .*learning_rate is 0.0"),
    (ROW + ROW.replace(",400,2,", ",400,3,"), ":3: epochs is 3, not 2$"),
    (ROW + ROW.replace(",400,2,", ",401,2,"), ":3: images is 401, not 400$"),
    (ROW + ROW.replace("synthetic", "cifar10"), ":3: dataset is cifar10, not synthetic$")])
def test_a_file_that_cannot_be_read_is_refused_by_its_line(path, problem):
    before = path.read_bytes()
    with pytest.raises(Failure, match=f"^{path}{problem}"):
        study(path, "he")
    assert path.read_bytes() == before


@pytest.mark.parametrize("header", [HEADER.replace("method,", "methods,"), HEADER.replace("test_loss,", "")])
def test_a_header_with_other_columns_is_refused(path, header):
    path.write_text(header + ROW)
    with pytest.raises(Failure, match=f"^{path}:1: the header is not 'method,learning_rate,"):
        study(path)


def test_an_older_file_keeps_its_columns_in_any_order_and_below_a_byte_order_mark(path):
    """It has no column for the activation."""
    header, row = without_activation(HEADER + OLDER).splitlines()
    backwards = [",".join(line.split(",")[::-1]) for line in (header, row)]
    path.write_text("\n".join([*backwards, ""]), encoding="utf-8-sig")
    before = path.read_text()
    printed = study(path, "he", "default")
    assert path.read_text().startswith(before)
    assert printed.count(" left, about") == 1
    assert "trainings: 2." in study(path)


def test_an_older_file_is_not_trained_for_with_another_activation(path):
    older = without_activation(HEADER + ROW)
    path.write_text(older)
    with pytest.raises(Failure, match="no column for activation tanh; name a new file"):
        study(path, "he", "--activation", "tanh")
    assert path.read_text() == older


@contextlib.contextmanager
def largest_file(size):
    """Let files have no more bytes."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


def test_half_a_row_is_taken_back_where_there_is_no_room(path):
    """The limit is 10 bytes more than the file has."""
    study(path, "default", *BRIEF)
    before = path.read_bytes()
    with largest_file(len(before) + 10), pytest.raises(Failure, match="no space is left for a whole row"):
        study(path, "he")
    assert path.read_bytes() == before


def test_a_row_is_compared_with_what_another_study_appended_while_it_waited(path, monkeypatch):
    monkeypatch.setattr(fcntl, "flock", lambda file, operation: path.write_text(HEADER + ROW))
    with pytest.raises(Failure, match="images is 400, not 8"):
        study(path, "default", *BRIEF)
    assert path.read_text() == HEADER + ROW


def test_a_file_that_cannot_be_appended_to_is_noticed_before_any_training(path, monkeypatch):
    """It is a link into a folder that is not there."""
    monkeypatch.setattr("util.study.__main__.run_parallel", pytest.fail)
    path.symlink_to(path.parent / "none" / "results.csv")
    with pytest.raises(FileNotFoundError):
        study(path, "he", *BRIEF)


def test_an_interrupted_study_goes_on_and_what_is_held_is_not_trained_again(path, monkeypatch):
    study(path, "default", "--seeds", "1:2", *BRIEF)
    before = path.read_text()
    printed = study(path, "default", "he=1e10", "--seeds", "0:2")
    complete = path.read_text()
    assert complete.startswith(before)
    assert printed.count(" left, about") == 3
    monkeypatch.setattr(data, "synthetic_images", pytest.fail)
    assert study(path, "he=1e10", "default", "--seeds", "0:2", "--dataset", "auto") == study(path)
    assert path.read_text() == complete


def test_two_studies_may_append_to_one_file(path):
    fork = multiprocessing.get_context("fork").Process
    both = [fork(target=study, args=(path, "default", "--seeds", seeds, *BRIEF)) for seeds in ("0:2", "2:4")]
    for process in both:
        process.start()
    for process in both:
        process.join()
    assert sorted(row["seed"] for row in rows_of(path)) == ["0", "1", "2", "3"]
