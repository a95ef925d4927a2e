"""Files of results: what is read, what is refused, and how rows are appended."""
import fcntl
import multiprocessing
import resource
from pathlib import Path

import pytest

from tests.study.helpers import BRIEF, HEADER, rows_of, study, trainings
from util import data, study as package
from util.failure import Failure
from util.study.results import append, read_results

RESULTS = sorted((Path(package.__file__).parent / "results").glob("*.csv"))
ROW = trainings("default", 0.001, 1.0)


def without_activation(text):
    """Return a file as it was before there was a column for the activation."""
    return text.replace("activation,", "").replace("relu,", "")


@pytest.mark.parametrize("file", RESULTS, ids=[file.stem for file in RESULTS])
def test_what_is_read_of_a_file_is_what_was_written(path, file):
    """Of each file, the first rows, and some that diverged; a row keeps every digit and the columns of its file."""
    header, *rows = file.read_text().splitlines(keepends=True)
    chosen = rows[:4] + [row for row in rows if "nan" in row or "inf" in row][:4]
    path.write_text(header + "".join(chosen))
    held = read_results(path)
    path.write_text(header)
    for result in held:
        append(result, path)
    assert path.read_text() == header + "".join(chosen)


def test_of_a_training_that_stands_in_joined_files_twice_the_first_counts(path):
    path.write_text(2 * (HEADER + ROW) + ROW.replace("2.0.0,2.0", "2.0.0,9.0"))
    assert "| **`default=0.001`** | 5 | 1 | 1.000 | 1.000 | 1.000 | 2.000 |" in study(path)


def test_rows_at_the_limits_are_read(path):
    longest = ROW.replace("False,5", "False,400").replace(",0.5,", ",1.0,")
    shortest = ROW.replace(",400,2,", ",4,1,").replace("1.0 " * 199, "").replace(",0.5,", ",0.0,")
    for row in longest, shortest:
        path.write_text(HEADER + row)
        assert "trainings: 1." in study(path)


@pytest.mark.parametrize("old, new, problem", [
    ("method,", "methods,", ":1: the header is not 'method,learning_rate,"),
    ("test_loss,", "", ":1: the header is not"),
    (",,,\n", ",,,", ":2: the last line is not finished; delete it"),
    (",synthetic,", ",cifar,", ":2: .*no dataset 'cifar'"),
    (",relu,", ",gelu,", ":2: .*no activation 'gelu'"),
    ("default", "none", ":2: .*no method 'none'"),
    ("False,5,", "False,4,", ":2: .*depth is 4, not from 5 to 400"),
    ("False,5,", "False,401,", ":2: .*depth is 401"),
    ("False", "no", ":2: .*'no' is neither True nor False"),
    ("2.0.0,", "", ":2: .*not as many columns"),
    (",,,\n", ",,,,\n", ":2: .*not as many columns"),
    ("1.0 1.0", "1.0 two", ":2: .*'two'"),
    ("1.0 1.0", "1.0 1.\udcff", ":2: this row cannot be read"),
    ("1.0 1.0", "1.0", ":2: .*199 losses instead of 200"),
    (",,,\n", ",1 2,1 2,1 2\n", ":2: .*growths are not of 5 layers"),
    (",0.5,", ",50.0,", ":2: .*test_accuracy is 50.0"),
    ("5,0,synthetic", "5,-1,synthetic", ":2: .*too small"),
    (",400,2,", ",3,2,", ":2: .*too small"),
    (",400,2,", ",400,0,", ":2: .*too small"),
    ("0.001", "inf", ":2: .*learning_rate is inf"),
    ("0.001", "0.0", ":2: .*learning_rate is 0.0")])
def test_a_file_that_cannot_be_read_is_refused_by_its_line(path, old, new, problem):
    path.write_text((HEADER + ROW).replace(old, new, 1), errors="surrogateescape")
    before = path.read_bytes()
    with pytest.raises(Failure, match=f"^{path}{problem}"):
        study(path, "he")
    assert path.read_bytes() == before


@pytest.mark.parametrize("old, new, problem", [
    (",400,2,", ",400,3,", "epochs is 3, not 2"), (",400,2,", ",401,2,", "images is 401, not 400"),
    ("synthetic", "cifar10", "dataset is cifar10, not synthetic")])
def test_rows_of_other_settings_than_the_first_are_refused(path, old, new, problem):
    path.write_text(HEADER + ROW + ROW.replace(old, new))
    with pytest.raises(Failure, match=f"^{path}:3: {problem}$"):
        study(path)


def test_an_older_file_keeps_its_columns_in_any_order_and_below_a_byte_order_mark(path):
    """It has no column for the activation."""
    first = trainings("he", 0.001, 1.0).replace(",400,2,", ",120,1,").replace("1.0 " * 170, "", 1)
    header, row = without_activation(HEADER + first).splitlines()
    reversed_columns = [",".join(reversed(line.split(","))) for line in (header, row)]
    path.write_text("\n".join([*reversed_columns, ""]), encoding="utf-8-sig")
    before = path.read_text()
    printed = study(path, "he", "default")
    assert path.read_text().startswith(before) and printed.count(" left, about") == 1
    assert "trainings: 2." in study(path)


def test_an_older_file_is_not_trained_for_with_another_activation(path):
    path.write_text(without_activation(HEADER + ROW))
    with pytest.raises(Failure, match="no column for activation tanh; name a new file"):
        study(path, "he", "--activation", "tanh")
    assert path.read_text() == without_activation(HEADER + ROW)


def test_half_a_row_is_taken_back_where_there_is_no_room(path):
    """The limit is 10 bytes more than the file has."""
    study(path, "default", *BRIEF)
    before = path.read_bytes()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(before) + 10, limits[1]))
    try:
        with pytest.raises(Failure, match="no room for a whole row"):
            study(path, "he")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert path.read_bytes() == before


def test_a_row_is_compared_with_what_another_study_appended_while_it_waited(path, monkeypatch):
    monkeypatch.setattr(fcntl, "flock", lambda file, operation: path.write_text(HEADER + ROW))
    with pytest.raises(Failure, match="images is 400, not 120"):
        study(path, "default", *BRIEF)
    assert path.read_text() == HEADER + ROW


def test_a_file_that_cannot_be_appended_to_is_noticed_before_any_training(path, tmp_path):
    """It is a link into a folder that is not there."""
    path.symlink_to(tmp_path / "none" / "results.csv")
    with pytest.raises(FileNotFoundError):
        study(path, "he", *BRIEF)


def test_an_interrupted_study_goes_on_and_what_is_held_is_not_trained_again(path, monkeypatch):
    study(path, "default", "--seeds", "1:2", *BRIEF)
    before = path.read_text()
    printed = study(path, "default", "he=1e10", "--seeds", "0:2")
    assert path.read_text().startswith(before) and printed.count(" left, about") == 3
    complete = path.read_bytes()
    monkeypatch.setattr(data, "synthetic_images", pytest.fail)
    printed = study(path, "he=1e10", "default", "--seeds", "0:2", "--dataset", "auto")
    assert path.read_bytes() == complete and printed == study(path)
    assert "| **`he=10000000000.0`** | 5 | 2 | diverged: 2 of 2 |" in printed


def test_two_studies_may_append_to_one_file(path):
    fork = multiprocessing.get_context("fork").Process
    both = [fork(target=study, args=(path, "default", "--seeds", seeds, *BRIEF)) for seeds in ("0:2", "2:4")]
    for process in both:
        process.start()
    for process in both:
        process.join()
        assert process.exitcode == 0
    assert sorted(row["seed"] for row in rows_of(path)) == ["0", "1", "2", "3"]
