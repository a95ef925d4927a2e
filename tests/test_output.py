"""Result files are written whole or not at all, what cannot be written is found out before, and what is in them."""
import os
import signal
import stat
from argparse import Namespace
from pathlib import Path

import numpy as np
import pytest

from tests.processes import forked
from util import program
from util.comparison import Contender
from util.output import check_outputs, save_losses, write_whole
from util.program import UsageError
from util.training import TrainingRun


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def make_things_that_are_no_files(folder):
    (folder / "folder.png").mkdir()
    os.mkfifo(folder / "fifo.png")
    (folder / "device.png").symlink_to("/dev/null")
    (folder / "link.png").symlink_to("fifo.png")
    (folder / "nowhere.png").symlink_to("missing/loss.png")


@pytest.mark.parametrize("path, problem", [
    ("folder.png", "it is a folder"),
    ("missing/loss.png", "No such file or directory"),
    ("", "the name is empty"),
    ("fifo.png", "it is not a regular file"),
    ("device.png", "it is not a regular file"),
    ("link.png", "it is not a regular file"),
    ("nowhere.png", "No such file or directory"),
    ("a" * 300 + ".png", "File name too long"),
])
def test_what_cannot_be_written_is_refused(folder, path, problem):
    make_things_that_are_no_files(folder)
    before = names(folder)
    with pytest.raises(UsageError, match=f"^argument --save-losses: cannot write '{path}': {problem}; choose another"):
        check_outputs("loss.png", path)
    if path:
        with pytest.raises(UsageError, match=f"^argument -o/--output: cannot write '{path}': {problem}; choose anoth"):
            check_outputs(path, None)
    assert names(folder) == before


def test_root_folder_is_refused():
    with pytest.raises(UsageError, match="--save-losses: cannot write '/': it is a folder"):
        check_outputs("loss.png", "/")


def test_device_is_refused():
    with pytest.raises(UsageError, match="--save-losses: cannot write '/dev/null': it is not a regular file"):
        check_outputs("loss.png", "/dev/null")
    assert stat.S_ISCHR(os.stat("/dev/null").st_mode)


@pytest.mark.parametrize("path", ["", "loss", "loss.jpeg2000", "loss.pgf", ".png"])
def test_unknown_figure_format_is_refused(folder, path):
    with pytest.raises(UsageError, match=f"-o/--output: '{path}' does not end in a known figure format .*pdf, png"):
        check_outputs(path, None)


@pytest.mark.parametrize("path", ["a.b/loss.png", "loss.SVG", "loss.png.pdf"])
def test_known_figure_formats(folder, path):
    (folder / "a.b").mkdir()
    check_outputs(path, None)


def test_one_file_for_two_results_is_refused(folder):
    (folder / "link").symlink_to("loss.png")
    for path in ("loss.png", "./loss.png", "link"):
        with pytest.raises(UsageError, match=f"--save-losses: '{path}' is the figure's file"):
            check_outputs("loss.png", path)


def test_write_protected_file_is_refused(folder, monkeypatch):
    """Simulated, since nothing is write-protected for the root user."""
    (folder / "loss.png").touch()
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    with pytest.raises(UsageError, match="write-protected"):
        check_outputs("loss.png", None)


@pytest.mark.skipif(os.geteuid() == 0, reason="the root user may write everywhere")
def test_protected_folder_is_refused(folder):
    folder.chmod(0o500)
    with pytest.raises(UsageError, match="Permission denied"):
        check_outputs("loss.png", None)


def test_what_can_be_written_passes_and_is_left_alone(folder):
    check_outputs("loss.png", "losses.npz")
    assert names(folder) == []
    (folder / "loss.png").write_bytes(b"old")
    (folder / "losses.npz").symlink_to("file")
    (folder / "loop.png").symlink_to("loop.png")
    check_outputs("loss.png", "losses.npz")
    check_outputs("loop.png", None)
    assert names(folder) == ["loop.png", "loss.png", "losses.npz"]
    assert (folder / "loss.png").read_bytes() == b"old"


def test_new_file_has_the_mode_of_any_other(folder):
    Path("plain").touch()
    write_whole("new", b"new")
    assert Path("new").read_bytes() == b"new"
    assert Path("new").stat().st_mode == Path("plain").stat().st_mode
    assert names(folder) == ["new", "plain"]


def test_existing_file_is_replaced_with_its_mode(folder):
    Path("file").write_bytes(b"old")
    Path("file").chmod(0o640)
    with open("file", "rb") as old:
        write_whole("file", b"new")
        assert old.read() == b"old"
    assert Path("file").read_bytes() == b"new"
    assert stat.S_IMODE(Path("file").stat().st_mode) == 0o640
    assert names(folder) == ["file"]


@pytest.mark.parametrize("exists", [True, False])
def test_symbolic_link_stays_one(folder, exists):
    Path("there").mkdir()
    Path("link").symlink_to("there/file")
    if exists:
        Path("there/file").write_bytes(b"old")
    write_whole("link", b"new")
    assert Path("link").is_symlink()
    assert Path("there/file").read_bytes() == b"new"
    assert names(folder / "there") == ["file"]


@pytest.mark.parametrize("step", ["write_bytes", "chmod", "replace"])
def test_failure_leaves_the_old_file(folder, monkeypatch, step):
    """And says which file it was about."""
    def fail(temporary, *_):
        temporary.touch()
        raise OSError(28, "No space left on device")

    Path("file").write_bytes(b"old")
    monkeypatch.setattr(os if step == "replace" else Path, step, fail)
    with pytest.raises(OSError, match=r"^\[Errno 28\] No space left on device: 'file'$"):
        write_whole("file", b"new")
    monkeypatch.undo()
    assert (folder / "file").read_bytes() == b"old"
    assert names(folder) == ["file"]


def write_and_be_interrupted(path):
    def write_half(temporary, content):
        write(temporary, content[:1])
        for _ in range(3):
            os.kill(os.getpid(), signal.SIGTERM)
        write(temporary, content)

    write = Path.write_bytes
    Path.write_bytes = write_half
    return program.run(lambda: write_whole(path, b"new"))


def test_signal_waits_until_the_file_is_written(folder):
    Path("file").write_bytes(b"old")
    with forked(write_and_be_interrupted, "file") as process:
        assert process.communicate() == ("", "main.py: error: terminated\n")
    assert process.returncode == 143
    assert Path("file").read_bytes() == b"new"
    assert names(folder) == ["file"]


def test_saved_losses_explain_themselves(folder):
    def run(*losses):
        return TrainingRun(np.array(losses, dtype=np.float32), *[np.zeros((2, 3))] * 3, steps_per_second=1)

    several, other = [Contender("default", 0.001), Contender("default", 0.01)], Contender("dynamic", 0.001)
    arguments = Namespace(contenders=[*several, other], images=8, epochs=1, decay=True, input_moments="images",
                          save_losses="losses.npz")
    results = {(3, other): run(1, 2), (3, several[0]): run(3, 4), (4, several[0]): run(5, 6), (3, several[1]): run(7)}
    save_losses(results, arguments, "synthetic")
    arrays = np.load("losses.npz")
    losses = {name: array.tolist() for name, array in arrays.items() if array.dtype == np.float32}
    assert losses == {"losses_dynamic_seed_3": [1, 2], "losses_default=0.001_seed_3": [3, 4],
                      "losses_default=0.001_seed_4": [5, 6], "losses_default=0.01_seed_3": [7]}
    assert {name: array.item() for name, array in arrays.items() if name not in losses} == {
        "learning_rate_dynamic": 0.001, "learning_rate_default=0.001": 0.001, "learning_rate_default=0.01": 0.01,
        "dataset": "synthetic", "images": 8, "epochs": 1, "decay": True, "input_moments": "images", "minibatch": 4,
        "momentum": 0.9}


def test_losses_are_saved_only_if_asked_for(folder):
    save_losses({}, Namespace(save_losses=None), "synthetic")
    assert names(folder) == []
