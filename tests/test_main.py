"""The demo from end to end on synthetic images, and whatever may happen to it meanwhile."""
import contextlib
import functools
import multiprocessing
import os
import re
import runpy
import signal
import subprocess
import sys
import tempfile
from multiprocessing import connection
from pathlib import Path

import numpy as np
import pytest
import torch
from matplotlib.image import imread

import main
from tests.test_training import METHODS
from util import data, training
from util.curves import overtaking_epoch
from util.data import synthetic_images
from util.failure import plain_endings
from util.network import Net

# pytest-xdist has a thread of its own, which takes no harm when a test forks
pytestmark = pytest.mark.filterwarnings("ignore:.*multi-threaded:DeprecationWarning")

PROGRAM = str(Path(main.__file__).resolve())
SHORT = ("--dataset", "synthetic", "--images", "400", "-e", "1")  # 100 steps
LONG = ("--dataset", "synthetic", "--images", "400", "-e", "100")  # until it is ended


def train(method, images, epochs, seed):
    """Train a network as the demo does, and return its losses."""
    torch.manual_seed(seed)
    return METHODS[method](Net(), images, 0.001, epochs, seed, report=lambda line: None)


def test_preconditioned_training_is_ahead():
    """The demo's claim, where few steps show it: while 40 images are learnt by heart.

    The mean lead over the first 200 steps is 1.30 nats. It is 0.78 without the factors, 0.42 with their reciprocals,
    and 0.06 with PyTorch's initialization.
    """
    images = synthetic_images(True, 40)
    leads = [train("default", images, 20, seed) - train("preconditioned", images, 20, seed) for seed in (0, 1)]
    assert np.mean(leads) > 1.05


@pytest.fixture(scope="module", autouse=True)
def process(tmp_path_factory):
    """A run as a user starts it, on one core and in unpleasant surroundings; it goes on while other tests run."""
    def use_one_core():
        if sys.platform == "linux":
            os.sched_setaffinity(0, [min(os.sched_getaffinity(0))])

    folder = tmp_path_factory.mktemp("run")
    (folder / "settings").write_text("text.usetex: True\nfigure.dpi: 50\nfont.size: 30\nsavefig.dpi: 30\n")
    surroundings = {"MATPLOTLIBRC": str(folder / "settings"), "PYTHONIOENCODING": "ascii",
                    "MPLBACKEND": "module://matplotlib_inline.backend_inline", "PYTHONUNBUFFERED": ""}
    with subprocess.Popen([sys.executable, PROGRAM, *SHORT, "--save", "runs"], cwd=folder, start_new_session=True,
                          env={**os.environ, **surroundings}, preexec_fn=use_one_core, text=True,
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        process.folder = folder
        yield process
        process.kill()


@pytest.fixture(scope="module")
def output(process):
    output, errors = process.communicate()
    assert (process.returncode, errors) == (0, "")
    return output


@pytest.fixture(scope="module")
def saved(process, output):
    return {method: np.load(process.folder / "runs" / f"{method}=0.001_seed_0.npz") for method in METHODS}


def test_run_writes_its_files_and_prints_what_the_theory_says(process, saved, output):
    files = [str(path.relative_to(process.folder)) for path in process.folder.glob("**/*") if path.is_file()]
    assert sorted(files) == ["loss.png", *(f"runs/{method}=0.001_seed_0.npz" for method in saved), "settings"]
    assert imread(process.folder / "loss.png").shape == (600, 960, 4)
    assert re.search(r"^conv1 +0\.1131 +0\.2000 +0\.7899 +0\.7899 +1\.2660 +1\.2660$", output, re.M)
    assert re.search(r"^fc3 +0\.1512 +0\.2000 +0\.7071 +1\.0000 +1\.4142 +1\.0000$", output, re.M)


@pytest.mark.parametrize("method", METHODS)
def test_printed_progress_and_saved_losses_are_those_of_the_training(output, saved, method):
    """The losses bit by bit, whatever else a run does."""
    losses = train(method, synthetic_images(True, 400), epochs=1, seed=0)
    assert np.array_equal(saved[method]["losses"], losses)
    progress = re.findall(rf"^{method} +\[1, +(\d+)\] loss: (\d\.\d\d\d)$", output, re.M)
    assert progress == [("100", f"{losses.mean():.3f}")]


def test_summary_says_what_is_saved(output, saved):
    """It smooths over 4 steps."""
    def row(value):
        return [value(saved[method]) for method in METHODS]

    losses = row(lambda run: run["losses"].astype(float))
    overtaking = overtaking_epoch(*losses, steps_per_epoch=100)
    *rows, last_but_one, last = output.split("\n\n")[-1].splitlines()
    assert [line.rsplit(maxsplit=2) for line in rows] == [
        list(METHODS),
        ["loss around epoch 0.1", *(f"{each[8:12].mean():.3f}" for each in losses)],
        ["loss around epoch 1", *(f"{each[98:].mean():.3f}" for each in losses)],
        ["loss over the last tenth", *(f"{each[90:].mean():.3f}" for each in losses)],
        ["test loss", *row(lambda run: f"{run['test_loss']:.3f}")],
        ["test accuracy", *row(lambda run: f"{run['test_accuracy']:.1%}")]]
    assert last_but_one == (f"the default training overtakes at epoch {overtaking:.2f}" if overtaking else
                            "not overtaken")
    assert last == "wrote loss.png"


def call_main():
    with plain_endings("main.py"):
        main.main()


class Copy(contextlib.AbstractContextManager):
    """A copy of this process, which spares the program its imports, as the leader of a process group."""

    def __init__(self, *arguments, function=call_main):
        self.alive, held_by_all = multiprocessing.Pipe(duplex=False)
        output, end = os.pipe()
        self.stdout, self.stderr = open(output), tempfile.TemporaryFile("w+")
        self.process = multiprocessing.get_context("fork").Process(target=self._run, args=(arguments, function, end))
        self.process.start()
        os.close(end)
        held_by_all.close()

    def _run(self, arguments, function, end):
        os.setpgid(0, 0)
        self.stdout.close()
        os.dup2(end, 1)
        os.dup2(self.stderr.fileno(), 2)
        sys.stdout, sys.stderr = open(1, "w", closefd=False), open(2, "w", closefd=False)
        sys.argv = ["main.py", *arguments]
        function()

    def wait_for(self, pattern):
        """Read the output up to a line that matches, and return the match."""
        return next(match for match in (re.search(pattern, line) for line in self.stdout) if match)

    def end(self, seconds=120):
        """Wait until it and all that it started have ended; return exit code, rest of the output, error output."""
        assert connection.wait([self.alive], seconds), "some process goes on"
        self.process.join()
        self.stderr.seek(0)
        return self.process.exitcode, "" if self.stdout.closed else self.stdout.read(), self.stderr.read()

    def __exit__(self, *_):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.join()
        self.stdout.close()
        self.stderr.close()


@pytest.fixture(scope="module", autouse=True)
def quick_start():
    """Images are made once, only a few test the networks, and progress is soon printed."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(training, "REPORT_EVERY", 10)
        patch.setattr(data, "TEST_IMAGES", 100)
        patch.setattr(data, "synthetic_images", functools.lru_cache(None)(synthetic_images))
        data.load("synthetic", folder="", count=400)
        yield


@pytest.fixture
def old_figure(tmp_path, monkeypatch):
    """A figure that must stay as it is, and no other file beside it."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "loss.png").write_bytes(b"old")
    yield
    assert [path.name for path in tmp_path.iterdir()] == ["loss.png"]
    assert (tmp_path / "loss.png").read_bytes() == b"old"


@pytest.mark.parametrize("number, send, times", [
    (signal.SIGINT, os.killpg, 1), (signal.SIGINT, os.killpg, 2), (signal.SIGINT, os.killpg, 20),
    (signal.SIGTERM, os.kill, 1), (signal.SIGKILL, os.kill, 1)])
def test_signal_ends_all_at_once(old_figure, number, send, times):
    """Ctrl-C goes to all of the group, the others to the main process only."""
    with Copy(*LONG) as program:
        for method in METHODS:
            program.wait_for(rf"{method} .*\] loss:")
        for _ in range(times):
            send(program.process.pid, number)
        code, _, errors = program.end(seconds=2)
    assert (code, errors) == (-number, "")


@pytest.mark.parametrize("killed", METHODS)
def test_killed_worker_ends_the_run(old_figure, monkeypatch, killed):
    def perform(data, quiet, training):
        if training.method == killed:
            os.kill(os.getpid(), signal.SIGKILL)
        signal.pause()

    monkeypatch.setattr(main, "perform", perform)
    with Copy(*LONG, "-q") as program:
        code, output, errors = program.end()
    assert (code, output) == (1, "")
    assert re.fullmatch(rf"main\.py: error: .*{killed}.* exit code -9\n", errors)


def test_output_that_nobody_reads_any_more_ends_the_run_silently(old_figure):
    """As in `main.py | head -n 1`."""
    with Copy(*LONG) as program:
        program.wait_for("^layer")
        program.stdout.close()
        code, _, errors = program.end()
    assert (code, errors) == (-signal.SIGPIPE, "")


@pytest.mark.parametrize("method", METHODS)
def test_training_that_diverges_ends_the_run(old_figure, method):
    with Copy(*SHORT, f"--{method}-lr", "1e10", "-q") as program:
        code, output, errors = program.end()
    assert (code, output) == (1, "")
    assert re.fullmatch(rf"main\.py: error: the {method} training diverged at step \d+; "
                        rf"a lower --{method}-lr may help\n", errors)


def test_quiet_run_in_other_surroundings_is_the_same(process, saved, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with Copy(*SHORT, "--save", ".", "-q") as program:
        assert program.end() == (0, "", "")
    for method in METHODS:
        assert np.array_equal(np.load(f"{method}=0.001_seed_0.npz")["losses"], saved[method]["losses"])
    assert Path("loss.png").read_bytes() == (process.folder / "loss.png").read_bytes()


def test_notebook_goes_on_after_the_run(tmp_path, monkeypatch):
    def run_and_go_on():
        handlers = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGPIPE)
        runpy.run_path(PROGRAM, run_name="__main__")
        assert handlers == (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGPIPE))

    monkeypatch.chdir(tmp_path)
    with Copy(*SHORT, function=run_and_go_on) as program:
        code, output, errors = program.end()
    assert (code, errors) == (0, "")
    assert output.endswith("wrote loss.png\n")


@pytest.mark.parametrize("option, path", [
    ("-o", "missing/loss.png"), ("-o", "file.png/loss.png"), ("-o", "folder.png"), ("-o", "fifo.png"),
    ("-o", "loss.xyz"), ("-o", ""), ("--save", "file.png"), ("--save", "file.png/runs")])
def test_impossible_outputs_are_refused_before_any_work(tmp_path, monkeypatch, option, path):
    monkeypatch.chdir(tmp_path)
    Path("file.png").touch()
    Path("folder.png").mkdir()
    os.mkfifo("fifo.png")
    monkeypatch.setattr(sys, "argv", ["main.py", *SHORT, option, path])
    monkeypatch.setattr(main, "load", None)
    with pytest.raises(SystemExit, match=rf"^main\.py: error: .*{path.split('/')[0]}.*\Z"):  # which Python prints
        call_main()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["fifo.png", "file.png", "folder.png"]
