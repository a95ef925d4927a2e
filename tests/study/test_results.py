"""Files of results: what is read, what is refused, and how rows are appended."""
import multiprocessing
import time
from pathlib import Path

import pytest

from tests.helpers import full_disk
from tests.study.helpers import BRIEF, HEADER, holding, rows_of, study, trainings
from util import data, study as package
from util.failure import Failure
from util.study.results import append, read_results, write_row

RESULTS = sorted((Path(package.__file__).parent / "results").glob("*.csv"))
ROW = trainings("default", 0.001, 1.0)
TWO_STEPS = ROW.replace(",400,2,", ",8,1,").replace("1.0 " * 198, "", 1)


@pytest.mark.parametrize("file", RESULTS, ids=[file.stem for file in RESULTS])
def test_a_row_that_is_read_and_written_again_keeps_every_digit(file):
    """And no training has two rows."""
    _, *rows = file.read_text().splitlines(keepends=True)
    assert [write_row(result) for result in read_results(file)] == rows


@holding(ROW, HEADER, ROW, ROW.replace("2.0.0,2.0", "2.0.0,9.0"))
def test_of_a_training_that_stands_in_joined_files_twice_the_first_counts(page):
    assert page["Outcomes"] == ["| **`default=0.001`** | 5 | 1 | 1.000 | 1.000 | 1.000 | 2.000 | 50.000 |  |"]


@pytest.mark.parametrize("held", [
    ROW.replace("False,5", "False,400").replace(",0.5,", ",1.0,"),
    ROW.replace(",400,2,", ",4,1,").replace("1.0 " * 199, "").replace(",0.5,", ",0.0,")], ids=["highest", "lowest"])
def test_rows_at_the_limits_are_read(page):
    assert len(page["Outcomes"]) == 1


@pytest.mark.parametrize("held, problem", [
    (ROW[:-1], "2: the last line is not finished; delete it"),
    (ROW.replace(",synthetic,", ",cifar,"), "2: .*dataset 'cifar' is none of cifar10, synthetic"),
    (ROW.replace(",relu,", ",gelu,"), "2: .*no network of .* activation 'gelu'"),
    (ROW.replace("default", "none"), "2: .*method 'none' is none of default,"),
    (ROW.replace("False,5,", "False,4,"), r"2: .*no network of depth '4' \(5 to 400\)"),
    (ROW.replace("False,5,", "False,401,"), "2: .*no network of depth '401'"),
    (ROW.replace("False", "no"), "2: .*decay 'NO' is none of FALSE, TRUE"),
    (ROW.replace("2.0.0,", ""), "2: .*not as many columns"),
    (ROW.replace(",,,\n", ",,,,\n"), "2: .*not as many columns"),
    (ROW.replace("1.0 1.0", "1.0 1.\udcff", 1), "2: this row cannot be read"),
    (ROW.replace("1.0 1.0", "1.0", 1), "2: .*199 losses instead of 200"),
    (ROW.replace(",,,\n", ",1 2,1 2,1 2\n"), "2: .*growths are not of 5 layers"),
    (ROW.replace(",0.5,", ",50.0,"), "2: .*test_accuracy is 50.0, not from 0 to 1"),
    (ROW.replace("5,0,synthetic", "5,-1,synthetic"), "2: .*seed is -1, not from 0"),
    (ROW.replace(",400,2,", ",3,2,"), "2: .*images is 3, not from 4"),
    (ROW.replace(",400,2,", ",400,0,"), "2: .*epochs is 0, not from 1"),
    (ROW.replace("0.001", "inf"), "2: .*learning_rate is inf"),
    (ROW.replace("0.001", "0.0"), "2: .*learning_rate is 0.0"),
    (ROW + ROW.replace(",400,2,", ",400,3,"), "3: epochs is 3, not 2$")])
def test_a_file_that_cannot_be_read_is_refused_by_its_line(path, problem):
    before = path.read_bytes()
    with pytest.raises(Failure, match=f"^{path}:{problem}"):
        study(path, "he")
    assert path.read_bytes() == before


@pytest.mark.parametrize("header", [HEADER.replace("method,", "methods,"), HEADER.replace("network,", "")])
def test_a_header_with_other_columns_is_refused(path, header):
    path.write_text(header + ROW)
    with pytest.raises(Failure, match=f"^{path}:1: the header is not 'method,learning_rate,"):
        study(path)


def test_rows_are_appended_to_a_file_that_begins_with_a_byte_order_mark(path):
    path.write_text(HEADER + TWO_STEPS, encoding="utf-8-sig")
    printed = study(path, "he", "default")
    assert path.read_text(encoding="utf-8-sig").startswith(HEADER + TWO_STEPS)
    assert printed.count(" left, about") == 1
    assert "trainings: 2." in printed


@holding(ROW)
def test_half_a_row_is_taken_back_where_there_is_no_room(path):
    """The limit is 10 bytes more than the file has."""
    (result,) = read_results(path)
    before = path.read_bytes()
    with full_disk(room=len(before) + 10), pytest.raises(Failure, match="no space is left for a whole row"):
        append(result, path)
    assert path.read_bytes() == before


@holding(ROW)
def test_a_row_of_other_settings_which_another_study_may_have_begun_is_not_appended(path):
    (result,) = read_results(path)
    shorter = result.trial._replace(images=8)
    with pytest.raises(Failure, match="images is 400, not 8"):
        append(result._replace(trial=shorter), path)
    assert path.read_text() == HEADER + ROW


def test_a_file_that_cannot_be_appended_to_is_noticed_before_any_training(path, monkeypatch):
    """It is a link into a folder that is not there."""
    monkeypatch.setattr("util.study.__main__.run_parallel", pytest.fail)
    path.symlink_to(path.parent / "none" / "results.csv")
    with pytest.raises(FileNotFoundError):
        study(path, "he", *BRIEF)


def test_an_interrupted_study_goes_on_and_what_is_held_is_not_trained_again(path, monkeypatch):
    study(path, "default", "--seeds", "1:2", *BRIEF)
    printed = study(path, "default", "he=1e10", "--seeds", "0:2")
    complete = path.read_text()
    assert printed.count(" left, about") == 3
    monkeypatch.setattr(data, "synthetic_images", pytest.fail)
    assert study(path, "he=1e10", "default", "--seeds", "0:2", "--dataset", "auto") == study(path)
    assert path.read_text() == complete


@holding(trainings("default", 0.001, *[1.0] * 10))
def test_rows_that_several_studies_append_at_once_are_all_kept_below_one_header(path, monkeypatch):
    results = read_results(path)
    path.unlink()
    monkeypatch.setattr("util.study.results.write_row", lambda row: time.sleep(0.05) or write_row(row))
    with multiprocessing.get_context("fork").Pool(4) as pool:
        pool.starmap(append, [(result, path) for result in results])
    assert sorted(row["seed"] for row in rows_of(path)) == list("0123456789")
