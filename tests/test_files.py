"""Files are written whole or not at all, what cannot be written is found out before, and what a run's file holds."""
import errno
import math
import os
import resource

import numpy as np
import pytest

from util.failure import Failure
from util.runs import Run, Training, check_writable, make_folder, save_run, write_whole

RUN = Run("default", 0.001, seed=3, dataset="synthetic", images=8, epochs=2, depth=7, activation="relu",
          losses=np.array([2.5, 2.25], np.float32), test_loss=2.0, test_accuracy=0.25)

USUAL = RUN._replace(dataset="cifar10", images=50_000, epochs=2, depth=5, activation="relu")


def fail(*_):
    raise OSError(errno.EBUSY, "Device or resource busy")


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_a_saved_run_explains_itself(tmp_path):
    save_run(RUN, str(tmp_path))
    (path,) = tmp_path.iterdir()
    with np.load(path, allow_pickle=False) as arrays:
        saved = {name: array.tolist() for name, array in arrays.items()}
        assert arrays["losses"].dtype == np.float32
    assert saved == {"method": "default", "learning_rate": 0.001, "seed": 3, "dataset": "synthetic", "images": 8,
                     "epochs": 2, "depth": 7, "activation": "relu", "losses": [2.5, 2.25],
                     "test_loss": 2.0, "test_accuracy": 0.25}


@pytest.mark.parametrize("rate, text", [(0.001, "0.001"), (0.0010000001, "0.0010000001"), (1e-05, "1e-05")])
def test_no_digit_of_a_learning_rate_is_lost(tmp_path, rate, text):
    """Else two trainings of almost the same rate share a file, or a line in the legend."""
    save_run(USUAL._replace(learning_rate=rate), str(tmp_path))
    assert names(tmp_path) == [f"default={text}_seed_3.npz"]
    assert str(Training("default", print, rate)) == f"default, learning rate {text}"


@pytest.mark.parametrize("setting, value", [
    ("dataset", "synthetic"), ("images", 400), ("epochs", 1), ("depth", 12), ("activation", "tanh")])
def test_a_file_is_not_replaced_by_one_of_other_settings(tmp_path, setting, value):
    for run in USUAL, USUAL._replace(**{setting: value}):
        save_run(run, str(tmp_path))
    assert names(tmp_path) == ["default=0.001_seed_3.npz", f"default=0.001_seed_3_{setting}_{value}.npz"]


def test_a_folder_is_made_unless_it_is_there(tmp_path, monkeypatch):
    for _ in range(2):
        make_folder(str(tmp_path / "new" / "folder"))
    assert names(tmp_path / "new" / "folder") == []
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    with pytest.raises(Failure, match="folder' is no folder that can be written to"):
        make_folder(str(tmp_path / "new" / "folder"))


def test_a_run_diverges_by_its_last_loss_or_its_test_loss():
    assert not RUN.diverged
    assert RUN._replace(test_loss=math.inf).diverged
    assert RUN._replace(losses=np.array([2.5, math.nan], np.float32)).diverged


def test_a_full_disk_leaves_the_old_file(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"old")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))  # bytes
        with pytest.raises(Failure, match=f"^cannot write '{path}': File too large$"):
            write_whole(str(path), lambda file: file.write(bytes(2000)))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert path.read_bytes() == b"old"
    assert names(tmp_path) == [path.name]


def test_two_processes_do_not_write_to_one_temporary_file(tmp_path, monkeypatch):
    written = set()
    for process in 1, 2:
        monkeypatch.setattr(os, "getpid", lambda: process)
        write_whole(str(tmp_path / "file"), lambda file: written.add(file.name))
    assert len(written) == 2


@pytest.mark.parametrize("path, write, problem", [
    ("missing/file", print, "No such file or directory"), ("file", fail, "Device or resource busy")])
def test_failure_leaves_nothing(tmp_path, path, write, problem):
    with pytest.raises(Failure, match=f"^cannot write '{tmp_path / path}': {problem}$"):
        write_whole(str(tmp_path / path), write)
    assert names(tmp_path) == []


@pytest.mark.parametrize("exists", [True, False])
@pytest.mark.parametrize("replaceable", [True, False])
def test_a_link_leads_to_the_new_file(tmp_path, monkeypatch, exists, replaceable):
    """Also if it cannot be replaced, as a file that is mounted into a container cannot."""
    (tmp_path / "there").mkdir()
    (tmp_path / "link").symlink_to("there/file")
    if exists:
        (tmp_path / "there" / "file").write_bytes(b"old content")
        (tmp_path / "there" / "file").chmod(0o600)
    if not replaceable:
        monkeypatch.setattr(os, "rename", fail)
    write_whole(str(tmp_path / "link"), lambda file: file.write(b"new"))
    assert (tmp_path / "link").is_symlink() and (tmp_path / "link").read_bytes() == b"new"
    assert names(tmp_path / "there") == ["file"]
    if exists and not replaceable:  # then all but its content stays, and need not be the user's to change
        assert (tmp_path / "there" / "file").stat().st_mode & 0o777 == 0o600


def test_what_cannot_be_written_is_found_out_before(tmp_path, monkeypatch):
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "nowhere").symlink_to("missing/file")
    (tmp_path / "good").write_bytes(b"old")
    for path in "good", "new":
        check_writable(str(tmp_path / path))
    for path in "folder", "fifo", "nowhere", "missing/file":
        with pytest.raises((Failure, OSError), match=str(tmp_path)):
            check_writable(str(tmp_path / path))
    monkeypatch.setattr(os, "access", lambda path, mode: False)  # since nothing is write-protected for the root user
    with pytest.raises(Failure, match=f"'{tmp_path / 'good'}' is not a regular file that can be written"):
        check_writable(str(tmp_path / "good"))
    assert names(tmp_path) == ["fifo", "folder", "good", "nowhere"] and (tmp_path / "good").read_bytes() == b"old"
