"""The demo from end to end on synthetic images, and whatever may happen to it meanwhile."""
import contextlib
import functools
import io
import multiprocessing
import os
import re
import runpy
import shutil
import signal
import subprocess
import sys
import threading
from pathlib import Path
from unittest.mock import Mock

import numpy as np
import pytest
import torch
from matplotlib.image import imread

import main
from tests.helpers import BATCHES, cifar10_images, trained, write_cifar10
from util import data, training
from util.data import synthetic_images
from util.failure import plain_endings
from util.network import Net
from util.theory import predict
from util.training import evaluate

# pytest-xdist has a thread of its own, which takes no harm when a test forks
pytestmark = pytest.mark.filterwarnings("ignore:.*multi-threaded:DeprecationWarning")

PROGRAM = str(Path(main.__file__).resolve())
TWO = ["default", "preconditioned"]
SHORT = ("--dataset", "synthetic", "--images", "400", "-e", "1")  # 100 steps
SETTINGS = "dataset_synthetic_images_400_epochs_1"  # in the names of what is saved
LONG = ("--dataset", "synthetic", "--images", "400", "-e", "100")  # until it is ended


def test_preconditioned_training_is_ahead():
    """The demo's claim, where few steps show it: while 40 images are learnt by heart.

    The mean lead over the first 200 steps is 1.30 nats. It is 0.78 without the factors, 0.42 with their reciprocals,
    and 0.06 with PyTorch's initialization.
    """
    images = synthetic_images(True, 40)
    leads = []
    for seed in 0, 1:
        _, default = trained("default", images, 20, seed)
        _, preconditioned = trained("preconditioned", images, 20, seed)
        leads.append(np.mean(default - preconditioned))
    assert np.mean(leads) > 1.05


@pytest.fixture(scope="module")
def as_a_user(tmp_path_factory):
    """The folder and the output of a run as a user starts it, on one core and in unpleasant surroundings."""
    def use_one_core():
        if sys.platform == "linux":
            os.sched_setaffinity(0, [min(os.sched_getaffinity(0))])

    folder = tmp_path_factory.mktemp("run")
    (folder / "settings").write_text("text.usetex: True\nfigure.dpi: 50\nfont.size: 30\nsavefig.dpi: 30\n")
    surroundings = {"MATPLOTLIBRC": str(folder / "settings"), "PYTHONIOENCODING": "ascii",
                    "MPLBACKEND": "module://matplotlib_inline.backend_inline", "PYTHONUNBUFFERED": ""}
    ended = subprocess.run([sys.executable, PROGRAM, *SHORT, "--save", "runs"], cwd=folder, preexec_fn=use_one_core,
                           env={**os.environ, **surroundings}, capture_output=True, text=True)
    assert (ended.returncode, ended.stderr) == (0, "")
    return folder, ended.stdout


@pytest.fixture(scope="module")
def saved(as_a_user):
    """What that run saved, by method."""
    folder, _ = as_a_user
    return {method: np.load(folder / "runs" / f"{method}=0.001_seed_0_{SETTINGS}.npz") for method in TWO}


def test_run_writes_its_files_and_prints_what_the_theory_says(as_a_user):
    folder, output = as_a_user
    runs = [path.name for path in (folder / "runs").iterdir()]
    assert sorted(runs) == [f"{method}=0.001_seed_0_{SETTINGS}.npz" for method in TWO]
    others = [path.name for path in folder.iterdir()]
    assert sorted(others) == ["loss.png", "runs", "settings"]
    assert imread(folder / "loss.png").shape == (600, 960, 4)
    assert ("the preconditioned training's initialization (depth 5, relu), on standard normal input; "
            "factor = 1 / gradient std\n") in output
    assert re.search(r"^conv1 +0\.1131 +0\.2000 +0\.7899 +0\.7899 +1\.2660 +1\.2660$", output, re.M)
    assert re.search(r"^fc3 +0\.1512 +0\.2000 +0\.7071 +1\.0000 +1\.4142 +1\.0000$", output, re.M)
    assert "\nspread 3.3: the largest weight gradient std over the smallest" in output


@pytest.mark.parametrize("method", TWO)
def test_printed_progress_and_saved_losses_are_those_of_the_training(as_a_user, saved, method):
    """The losses bit for bit, whatever else a run does."""
    _, output = as_a_user
    _, losses = trained(method, synthetic_images(True, 400), epochs=1, seed=0)
    assert np.array_equal(saved[method]["losses"], losses)
    progress = re.findall(rf"^{method} +\[1, +(\d+)\] loss: (\d\.\d\d\d)$", output, re.M)
    assert progress == [("100", f"{losses.mean():.3f}")]


@pytest.fixture(scope="module", autouse=True)
def quick():
    """What follows runs in this process: images are made once, only a few test the networks, progress is soon printed.

    The function that plots keeps the arguments of its calls.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(training, "REPORT_EVERY", 10)
        patch.setattr(data, "TEST_IMAGES", 100)
        patch.setattr(data, "synthetic_images", functools.lru_cache(None)(synthetic_images))
        patch.setattr(main, "plot_losses", Mock(wraps=main.plot_losses))
        yield


def run_main(*arguments):
    """Run the program in this process; only its trainings have processes of their own."""
    with pytest.MonkeyPatch.context() as patch, plain_endings("main.py"):
        patch.setattr(sys, "argv", ["main.py", *arguments])
        main.main()


@pytest.fixture(scope="module")
def every_option(quick, tmp_path_factory):
    """A run whose every option is another than the default: what was plotted, the folder, and what was printed."""
    folder = tmp_path_factory.mktemp("every_option")
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(io.StringIO()) as output:
        patch.chdir(folder)
        run_main("--dataset", "synthetic", "--images", "43", "-e", "60", "--seed", "3", "--depth", "6", "-s", "30",
                 "--default-lr", "0.005000001", "--preconditioned-lr", "1e-04", "--initialization-only", "0.002",
                 "--save", "runs", "-o", "figure.pdf")
    return main.plot_losses.call_args.args, folder, output.getvalue().splitlines()


RATES = {"default": 0.005000001, "preconditioned": 0.0001, "initialization-only": 0.002}


@pytest.fixture(scope="module")
def expected():
    """The networks, and losses over 600 steps, of the same trainings without the demo."""
    return {method: trained(method, synthetic_images(True, 43), 60, 3, rate, depth=6) for method, rate in RATES.items()}


def test_what_is_plotted_is_what_was_asked_for(every_option, expected):
    """With 10 steps an epoch, three images are left over."""
    (curves, title, width, steps_per_epoch), folder, _ = every_option
    assert list(curves) == [f"{method}, learning rate {rate}" for method, rate in RATES.items()]
    assert all(np.array_equal(curve, losses) for curve, (_, losses) in zip(curves.values(), expected.values()))
    assert (title, width, steps_per_epoch) == ("synthetic data, not CIFAR-10, seed 3, depth 6", 30, 10)
    assert (folder / "figure.pdf").read_bytes().startswith(b"%PDF")


def test_a_file_for_each_training_explains_itself(every_option, expected):
    """No digit of a learning rate is lost, and no two trainings of other settings share a file."""
    _, folder, _ = every_option
    settings = {"seed": 3, "dataset": "synthetic", "images": 43, "epochs": 60, "depth": 6, "activation": "relu"}
    for method, rate in RATES.items():
        path = folder / "runs" / f"{method}={rate}_seed_3_dataset_synthetic_images_43_epochs_60_depth_6.npz"
        with np.load(path, allow_pickle=False) as arrays:
            values = {name: array.tolist() for name, array in arrays.items()}
        net, losses = expected[method]
        assert values.pop("losses") == losses.tolist()
        loss, accuracy = evaluate(net, data.load("synthetic", "", 43).test)
        assert values == {"method": method, "learning_rate": rate, **settings, "test_loss": loss,
                          "test_accuracy": accuracy}


def test_printed_table_is_of_what_was_plotted(every_option, expected):
    """Means over 30 steps around 1 and 10, and over the last 60."""
    _, _, lines = every_option
    head, *table, end = lines[-9:]
    assert (head, end) == ("synthetic data, not CIFAR-10, seed 3, depth 6", "wrote figure.pdf")
    columns = zip(*[re.split(r"  +", line.strip()) for line in table[1:]])
    names, *cells = columns
    assert names == ("learning rate", "loss around epoch 0.1", "loss around epoch 1", "loss over the last tenth",
                     "test loss", "test accuracy")
    assert table[0].split() == list(RATES)
    test = data.load("synthetic", "", 43).test
    for column, (method, rate) in zip(cells, RATES.items()):
        net, losses = expected[method]
        loss, accuracy = evaluate(net, test)
        means = [losses[:16].mean(), losses[:25].mean(), losses[-60:].mean(), loss]
        assert list(column) == [str(rate), *(f"{mean:.3f}" for mean in means), f"{accuracy:.1%}"]


def test_layers_are_those_of_the_network_that_is_trained(every_option):
    _, _, lines = every_option
    assert lines[0].startswith("the preconditioned training's initialization (depth 6, relu), on standard normal input")
    assert [line.split()[0] for line in lines[1:8]] == ["layer", "conv1", "conv2", "fc1", "fc2", "fc3", "fc4"]
    for layer, line in zip(predict(Net(6)), lines[2:8]):
        stds = layer.weight_std, layer.bias_std, layer.weight_gradient_std, layer.bias_gradient_std
        factors = [1 / layer.weight_gradient_std, 1 / layer.bias_gradient_std]
        assert line.split()[1:] == [f"{number:.4f}" for number in (*stds, *factors)]


def test_smoothing_is_over_four_percent_of_the_run(tmp_path, monkeypatch):
    """Of 225 steps."""
    monkeypatch.chdir(tmp_path)
    run_main("--dataset", "synthetic", "--images", "36", "-e", "25", "-q")
    _, _, width, _ = main.plot_losses.call_args.args
    assert width == 9


def test_activation_is_that_of_all_networks(tmp_path, monkeypatch, capsys):
    def net(depth, activation):
        assert (depth, activation) == (5, "tanh")
        return Net()

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(main, "Net", net)
    run_main(*SHORT, "--activation", "tanh", "--save", ".")
    lines = capsys.readouterr().out.splitlines()
    assert "(depth 5, tanh)" in lines[0] and "synthetic data, not CIFAR-10, seed 0, tanh" in lines
    for method in TWO:
        assert np.load(f"{method}=0.001_seed_0_{SETTINGS}_activation_tanh.npz")["activation"] == "tanh"


@pytest.mark.parametrize("found, title, end", [
    (True, "CIFAR-10, seed 0", "images_20_epochs_1"),
    (False, "synthetic data, not CIFAR-10, seed 0", "dataset_synthetic_images_20_epochs_1")])
def test_data_set_is_named_that_was_found(tmp_path, monkeypatch, capsys, found, title, end):
    """Nothing is said of it on the command line. Five steps make the shortest of curves."""
    monkeypatch.chdir(tmp_path)
    write_cifar10(tmp_path / "data", monkeypatch)
    if not found:
        shutil.rmtree("data")
    run_main("--images", "20", "-e", "1", "--save", ".")
    _, *plotted = main.plot_losses.call_args.args
    assert plotted == [title, 1, 5]
    lines = capsys.readouterr().out.splitlines()
    assert title in lines
    images = cifar10_images(BATCHES[:5]) if found else synthetic_images(True, 20)
    for method in TWO:
        saved = np.load(f"{method}=0.001_seed_0_{end}.npz")
        _, losses = trained(method, images, epochs=1, seed=0)
        assert saved["dataset"] == ("cifar10" if found else "synthetic")
        assert np.array_equal(saved["losses"], losses)


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
        for method in TWO:
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


def test_interrupted_imports_end_silently(tmp_path):
    """By a signal that comes in place of `import torch`."""
    (tmp_path / "torch.py").write_text("import os, signal\nos.kill(os.getpid(), signal.SIGINT)")
    ended = subprocess.run([sys.executable, PROGRAM], env={**os.environ, "PYTHONPATH": str(tmp_path)},
                           capture_output=True, text=True)
    assert (ended.returncode, ended.stdout, ended.stderr) == (-signal.SIGINT, "", "")


@pytest.mark.parametrize("killed", TWO)
def test_killed_worker_ends_the_run(old_figure, monkeypatch, capfd, killed):
    def perform(data, options, training):
        if training.method == killed:
            os.kill(os.getpid(), signal.SIGKILL)
        signal.pause()

    monkeypatch.setattr(main, "perform", perform)
    message = rf"^main\.py: error: the process for {killed}, learning rate 0\.001 ended with exit code -9\Z"
    with pytest.raises(SystemExit, match=message):
        run_main(*LONG, "-q")
    assert capfd.readouterr() == ("", "")


def test_progress_is_printed_at_once(old_figure, monkeypatch, tmp_path_factory):
    """So that it is seen even if the worker is killed right after."""
    def report_and_die(net, images, learning_rate, epochs, seed, report):
        report("[1, 10] loss: 2.303")
        os.kill(os.getpid(), signal.SIGKILL)

    monkeypatch.setattr(main, "default_train", report_and_die)
    monkeypatch.setattr(main, "static_preconditioned_train", report_and_die)
    path = tmp_path_factory.mktemp("output") / "output"
    with open(path, "w") as output, contextlib.redirect_stdout(output), pytest.raises(SystemExit, match="exit code -9"):
        run_main(*LONG)
    assert "[1, 10] loss: 2.303\n" in path.read_text()


@pytest.mark.parametrize("method, other", [TWO, TWO[::-1]])
def test_training_that_diverges_does_not_discard_the_other(tmp_path, monkeypatch, capfd, method, other):
    monkeypatch.chdir(tmp_path)
    _, losses = trained(method, synthetic_images(True, 400), epochs=1, seed=0, learning_rate=1e10)
    message = f"the {method} training diverged at step {len(losses)}; a lower learning rate may help"
    with pytest.raises(SystemExit, match=rf"^main\.py: error: {message}\Z"):
        run_main(*SHORT, f"--{method}-lr", "1e10", "--save", ".")
    curves, *_ = main.plot_losses.call_args.args
    assert list(curves) == [f"{other}, learning rate 0.001"]
    assert {path.name for path in tmp_path.iterdir()} == {f"{other}=0.001_seed_0_{SETTINGS}.npz", "loss.png"}
    assert f"\n{'learning rate':24}  {'0.001':>{len(other)}}\n" in capfd.readouterr().out


def test_a_figure_is_kept_when_all_trainings_diverge(old_figure, capfd):
    with pytest.raises(SystemExit, match="the default training diverged at step .*, the preconditioned training div"):
        run_main(*SHORT, "--default-lr", "1e10", "--preconditioned-lr", "1e10", "-q")
    assert capfd.readouterr() == ("", "")


def test_a_run_may_be_started_by_a_thread(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["main.py", "--images", "20", "-e", "1", "-q"])
    write_cifar10(tmp_path / "data", monkeypatch)
    thread = threading.Thread(target=main.main)
    thread.start()
    thread.join()
    assert (tmp_path / "loss.png").exists()


def test_quiet_run_in_other_surroundings_is_the_same(as_a_user, saved, tmp_path, monkeypatch, capfd):
    """With more threads, of which a forked process could use none."""
    folder, _ = as_a_user
    monkeypatch.chdir(tmp_path)
    torch.set_num_threads(2)
    run_main(*SHORT, "--save", ".", "-q")
    assert torch.get_num_threads() == 1
    assert capfd.readouterr() == ("", "")
    for method in TWO:
        assert np.array_equal(np.load(f"{method}=0.001_seed_0_{SETTINGS}.npz")["losses"], saved[method]["losses"])
    assert Path("loss.png").read_bytes() == (folder / "loss.png").read_bytes()


def test_notebook_goes_on_after_the_run(tmp_path, monkeypatch, capfd):
    """With Python's own handlers of signals."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["main.py", *SHORT])
    runpy.run_path(PROGRAM, run_name="__main__")
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    assert signal.getsignal(signal.SIGPIPE) is signal.SIG_IGN
    output, errors = capfd.readouterr()
    assert output.endswith("wrote loss.png\n") and errors == ""


def test_a_smoothing_wider_than_the_run_is_refused_before_any_work(old_figure, monkeypatch, capsys):
    monkeypatch.setattr(main, "load", None)
    with pytest.raises(SystemExit, match="^2$"):
        run_main(*SHORT, "-s", "101")
    assert capsys.readouterr().err.splitlines()[-1].startswith("main.py: error: argument -s/--smoothing: 101 ")


@pytest.mark.parametrize("option, path", [
    ("-o", "missing/loss.png"), ("-o", "file.png/loss.png"), ("-o", "folder.png"), ("-o", "fifo.png"),
    ("-o", "loss.xyz"), ("-o", ""), ("-o", "x" * 252 + ".png"), ("--save", "file.png/runs")])
def test_impossible_outputs_are_refused_before_any_work(tmp_path, monkeypatch, option, path):
    monkeypatch.chdir(tmp_path)
    Path("file.png").touch()
    Path("folder.png").mkdir()
    os.mkfifo("fifo.png")
    monkeypatch.setattr(main, "load", None)
    with pytest.raises(SystemExit, match=rf"^main\.py: error: {option}.*: .*'{path}'"):  # which Python prints
        run_main(*SHORT, option, path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["fifo.png", "file.png", "folder.png"]
