"""The demo from end to end on synthetic images, and whatever may happen to it meanwhile."""
import contextlib
import functools
import io
import multiprocessing
import os
import re
import runpy
import signal
import subprocess
import sys
from pathlib import Path
from unittest.mock import Mock

import numpy as np
import pytest
import torch
from matplotlib.image import imread

import main
from tests.helpers import trained, write_cifar10
from util import data
from util.data import synthetic_images
from util.failure import plain_endings
from util.training import Result, evaluate

# pytest-xdist has a thread of its own, which takes no harm when a test forks
pytestmark = pytest.mark.filterwarnings("ignore:.*multi-threaded:DeprecationWarning")

PROGRAM = str(Path(main.__file__).resolve())
SHORT = ("--dataset", "synthetic", "--images", "200")  # two epochs of 50 steps
SAVED = {"default": "default=0.001_seed_0_dataset_synthetic_images_200.npz",
         "preconditioned": "preconditioned=0.001_seed_0_dataset_synthetic_images_200.npz"}
LONG = ("--dataset", "synthetic", "--images", "400", "-e", "100")  # until it is ended


@pytest.fixture(scope="module")
def as_a_user(tmp_path_factory):
    """The folder and the output of a run as a user starts it, in unpleasant surroundings."""
    folder = tmp_path_factory.mktemp("run")
    (folder / "settings").write_text("text.usetex: True\nfigure.dpi: 50\nfont.size: 30\nsavefig.dpi: 30\n")
    environment = {**os.environ, "MATPLOTLIBRC": str(folder / "settings"), "PYTHONIOENCODING": "ascii",
                   "MPLBACKEND": "module://matplotlib_inline.backend_inline", "PYTHONUNBUFFERED": ""}
    command = [sys.executable, PROGRAM, *SHORT, "--save", "runs"]
    ended = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    assert (ended.returncode, ended.stderr) == (0, "")
    return folder, ended.stdout


def test_a_run_prints_what_the_theory_says_of_each_layer(as_a_user):
    _, output = as_a_user
    assert "initialization (depth 5, relu), on standard normal input; factor = 1 / gradient std\n" in output
    assert re.search(r"^fc3 +0\.1512 +0\.2000 +0\.7071 +1\.0000 +1\.4142 +1\.0000$", output, re.M)
    assert "\nspread 3.3: the largest weight gradient std over the smallest" in output


def test_a_run_writes_its_figure_and_what_is_saved_and_nothing_else(as_a_user):
    folder, _ = as_a_user
    assert {path.name for path in folder.rglob("*")} == {"loss.png", "settings", "runs", *SAVED.values()}
    assert imread(folder / "loss.png").shape == (600, 960, 4)


@pytest.mark.parametrize("method, name", SAVED.items(), ids=SAVED)
def test_printed_progress_and_saved_losses_are_those_of_the_training(as_a_user, method, name):
    """The losses bit for bit, whatever else a run does."""
    folder, output = as_a_user
    _, losses = trained(method, synthetic_images(True, 200), seed=0)
    assert np.array_equal(np.load(folder / "runs" / name)["losses"], losses)
    progress = re.findall(rf"^{method} +\[.*\] loss: (.*)", output, re.M)
    means = losses.reshape(2, 50).mean(axis=1)
    assert progress == [f"{mean:.3f}" for mean in means]


@pytest.fixture(scope="module", autouse=True)
def quick():
    """What follows runs in this process: images are made once, and only a few test the networks.

    The function that plots keeps the arguments of its calls.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(data, "TEST_IMAGES", 100)
        patch.setattr(data, "synthetic_images", functools.lru_cache(None)(synthetic_images))
        patch.setattr(main, "plot_losses", Mock(wraps=main.plot_losses))
        yield


def run_main(*arguments):
    """Run the program in this process; only its trainings have processes of their own."""
    with pytest.MonkeyPatch.context() as patch, plain_endings("main.py"):
        patch.setattr(sys, "argv", ["main.py", *arguments])
        main.main()


RATES = {"default": 0.005000001, "preconditioned": 0.0001, "initialization-only": 0.002}
SETTINGS = {"seed": 3, "dataset": "synthetic", "images": 43, "epochs": 20, "depth": 6, "activation": "tanh"}
TITLE = "synthetic data, not CIFAR-10, seed 3, depth 6, tanh"


@pytest.fixture(scope="module")
def every_option(quick, tmp_path_factory):
    """A run whose every option is another than the default: what was plotted, the folder, and what was printed."""
    folder = tmp_path_factory.mktemp("every_option")
    arguments = [f"--{name}={value}" for name, value in SETTINGS.items()]
    rates = ["--default-lr=0.005000001", "--preconditioned-lr=1e-04", "--initialization-only=0.002"]
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(io.StringIO()) as output:
        patch.chdir(folder)
        run_main(*arguments, *rates, "--smoothing=30", "--save=new/runs", "--output=figure.pdf")
    return main.plot_losses.call_args.args, folder, output.getvalue().splitlines()


@pytest.fixture(scope="module")
def expected(quick):
    """The results of the same trainings without the demo, by the method."""
    images, test = synthetic_images(True, 43), synthetic_images(False, 100)
    results = {}
    for method, rate in RATES.items():
        net, losses = trained(method, images, 20, 3, rate, depth=6, activation="tanh")
        results[method] = Result(losses, *evaluate(net, test))
    return results


def test_what_is_plotted_is_what_was_asked_for(every_option, expected):
    """With 10 steps an epoch, three images are left over."""
    (curves, *settings), folder, _ = every_option
    assert list(curves) == [f"{method}, learning rate {rate}" for method, rate in RATES.items()]
    losses = [result.losses for result in expected.values()]
    assert all(map(np.array_equal, curves.values(), losses))
    assert settings == [TITLE, 30, 10]
    assert (folder / "figure.pdf").read_bytes().startswith(b"%PDF")


@pytest.mark.parametrize("method, rate", RATES.items(), ids=RATES)
def test_a_file_for_each_training_explains_itself(every_option, expected, method, rate):
    """No digit of a learning rate is lost, and no two trainings of other settings share a file."""
    _, folder, _ = every_option
    name = f"{method}={rate}_seed_3_dataset_synthetic_images_43_epochs_20_depth_6_activation_tanh.npz"
    with np.load(folder / "new" / "runs" / name, allow_pickle=False) as arrays:
        saved = {name: array.tolist() for name, array in arrays.items()}
    result = expected[method]._asdict()
    assert saved.pop("losses") == result.pop("losses").tolist()
    assert saved == {"method": method, "learning_rate": rate, **SETTINGS, **result}


def test_printed_lines_say_what_is_trained_on_and_what_was_written(every_option):
    _, _, lines = every_option
    assert "(depth 6, tanh)" in lines[0]
    assert [line.split()[0] for line in lines[1:8]] == ["layer", "conv1", "conv2", "fc1", "fc2", "hidden.0", "fc3"]
    assert (lines[-9], lines[-1]) == (TITLE, "wrote figure.pdf")
    assert lines[-8].split() == list(RATES)


@pytest.mark.parametrize("name, cell", [
    ("learning rate", lambda rate, result: f"{rate}"),
    ("loss around epoch 0.1", lambda rate, result: f"{result.losses[:16].mean():.3f}"),  # 30 steps around step 1
    ("loss around epoch 1", lambda rate, result: f"{result.losses[:25].mean():.3f}"),  # 30 steps around step 10
    ("loss over the last tenth", lambda rate, result: f"{result.losses[-20:].mean():.3f}"),
    ("test loss", lambda rate, result: f"{result.test_loss:.3f}"),
    ("test accuracy", lambda rate, result: f"{result.test_accuracy:.1%}")])
def test_printed_table_is_of_what_was_plotted(every_option, expected, name, cell):
    _, _, lines = every_option
    rows = [re.split(r"  +", line) for line in lines[-8:-1]]
    table = {title: cells for title, *cells in rows}
    assert table[name] == list(map(cell, RATES.values(), expected.values()))


@pytest.mark.parametrize("folder, epochs, width, title, name", [
    ("there", 20, 4, "CIFAR-10, seed 0", "default=0.001_seed_0_images_20_epochs_20.npz"),
    ("empty", 2, 1, "synthetic data, not CIFAR-10, seed 0", "default=0.001_seed_0_dataset_synthetic_images_20.npz")])
def test_data_set_is_named_that_was_found(tmp_path, monkeypatch, folder, epochs, width, title, name):
    """Nothing is said of it on the command line. Smoothed is over 4 % of the run, or one step."""
    monkeypatch.chdir(tmp_path)
    write_cifar10(tmp_path / "there", monkeypatch)
    run_main("--data-dir", folder, "--images", "20", "-e", str(epochs), "--save", ".", "-q")
    _, *plotted = main.plot_losses.call_args.args
    assert plotted == [title, width, 5]
    assert Path(name).exists()


@pytest.fixture
def old_figure(tmp_path, monkeypatch):
    """A figure that must stay as it is, and no other file beside it."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "loss.png").write_bytes(b"old")
    yield
    assert [path.name for path in tmp_path.iterdir()] == ["loss.png"]
    assert (tmp_path / "loss.png").read_bytes() == b"old"


@contextlib.contextmanager
def started():
    """Start the long run in a fork of this process, which spares it the imports, as the leader of a process group.

    Yields the process, and its output as a file, which ends when the last process that may write to it has ended.
    """
    def run(output, end):
        os.setpgid(0, 0)
        os.close(output)
        os.dup2(end, 1)
        sys.stdout = open(1, "w")
        run_main(*LONG)

    output, end = os.pipe()
    process = multiprocessing.get_context("fork").Process(target=run, args=(output, end))
    process.start()
    os.close(end)
    with open(output) as lines:
        yield process, lines
    process.join()


@pytest.mark.parametrize("number, send", [(signal.SIGINT, os.killpg), (signal.SIGTERM, os.kill)])
def test_signal_ends_all_at_once(old_figure, capfd, number, send):
    """Ctrl-C goes to all of the group, the other to the main process only."""
    with started() as (process, lines):
        for method in SAVED:
            assert any(line.startswith(method) for line in lines)
        send(process.pid, number)
        rest = lines.read()
    assert process.exitcode == -number
    assert capfd.readouterr().err == ""
    assert "[100," not in rest  # the last epoch


def test_output_that_nobody_reads_any_more_ends_the_run_silently(old_figure, capfd):
    """As in `main.py | head -n 1`."""
    with started() as (process, lines):
        lines.readline()
    assert process.exitcode == -signal.SIGPIPE
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("program", [[PROGRAM], ["-m", "util.study"]], ids=["demo", "study"])
def test_interrupted_imports_end_silently(tmp_path, program):
    """By a signal that comes in place of `import torch`."""
    (tmp_path / "torch.py").write_text("import os, signal\nos.kill(os.getpid(), signal.SIGINT)")
    ended = subprocess.run([sys.executable, *program], env={**os.environ, "PYTHONPATH": str(tmp_path)},
                           cwd=Path(PROGRAM).parent, capture_output=True, text=True)
    assert (ended.returncode, ended.stdout, ended.stderr) == (-signal.SIGINT, "", "")


def test_killed_worker_ends_the_run_after_its_last_progress(old_figure, monkeypatch, capfd):
    def report_and_die(net, images, learning_rate, epochs, seed, report):
        report("[1, 10] loss: 2.303")
        os.kill(os.getpid(), signal.SIGKILL)

    monkeypatch.setattr(main, "default_train", report_and_die)
    with started() as (process, lines):
        assert "default             [1, 10] loss: 2.303\n" in lines.read()
    problem = "the process for default, learning rate 0.001 ended with exit code -9"
    assert capfd.readouterr().err == f"main.py: error: {problem}\n"
    assert process.exitcode == 1


def test_a_training_that_diverges_does_not_discard_the_other(tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    _, losses = trained("preconditioned", synthetic_images(True, 200), seed=0, learning_rate=1e10)
    message = f"the preconditioned training diverged at step {len(losses)}; a lower learning rate may help"
    with pytest.raises(SystemExit, match=rf"^main\.py: error: {message}\Z"):
        run_main(*SHORT, "--preconditioned-lr", "1e10", "--save", ".")
    curves, *_ = main.plot_losses.call_args.args
    assert list(curves) == ["default, learning rate 0.001"]
    assert {path.name for path in tmp_path.iterdir()} == {SAVED["default"], "loss.png"}
    assert re.search(r"^learning rate +0\.001$", capfd.readouterr().out, re.M)


def test_a_figure_is_kept_when_all_trainings_diverge(old_figure, capfd):
    with pytest.raises(SystemExit, match="the default training diverged at step .*, the preconditioned training div"):
        run_main(*SHORT, "--default-lr", "1e10", "--preconditioned-lr", "1e10", "-q")
    assert capfd.readouterr() == ("", "")


def test_a_quiet_run_in_a_notebook_with_threads_is_the_same_and_leaves_its_signals(
        as_a_user, tmp_path, monkeypatch, capfd):
    """A forked process could use no more than one thread."""
    folder, _ = as_a_user
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["main.py", *SHORT, "-q"])
    torch.set_num_threads(2)
    runpy.run_path(PROGRAM, run_name="__main__")
    assert torch.get_num_threads() == 1
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    assert signal.getsignal(signal.SIGPIPE) is signal.SIG_IGN
    assert capfd.readouterr() == ("", "")
    assert Path("loss.png").read_bytes() == (folder / "loss.png").read_bytes()


@pytest.mark.parametrize("option, path, problem", [
    ("--output", "loss.xyz", "-o/--output: 'loss.xyz' does not end in a known figure format ("),
    ("--output", "missing/a.png", "-o/--output: cannot write 'missing/a.png': No such file or directory"),
    ("--save", "loss.png/runs", "--save: cannot write into 'loss.png/runs': Not a directory"),
    ("--save", "/proc", "--save: cannot write into '/proc': ")])  # which even the root user cannot
def test_what_cannot_be_written_is_refused_before_any_work(old_figure, monkeypatch, option, path, problem):
    monkeypatch.setattr(main, "load", None)
    with pytest.raises(SystemExit, match=re.escape(f"main.py: error: {problem}")):
        run_main(*SHORT, option, path)
