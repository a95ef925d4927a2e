"""The demo from end to end, as a user runs it, on a few synthetic images; and everything that it refuses to do."""
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from matplotlib.image import imread

import main
from tests.processes import all_end_within
from util.plot import draw

ROOT = Path(__file__).parent.parent
QUICK = ["--dataset", "synthetic", "--images", "400"]  # 100 steps an epoch


def start(*arguments, **options):
    return subprocess.Popen([sys.executable, str(ROOT / "main.py"), *arguments], stdout=subprocess.PIPE,
                            stderr=subprocess.PIPE, text=True, start_new_session=True, **options)


def run(*arguments, **options):
    """Run main.py in a process of its own; return its exit code, output and error output."""
    process = start(*arguments, **options)
    output, errors = process.communicate(timeout=90)
    return process.returncode, output, errors


@pytest.fixture(scope="module")
def first_run(tmp_path_factory):
    """One seed, two trainings side by side."""
    folder = tmp_path_factory.mktemp("first")
    code, output, errors = run(*QUICK, "--jobs", "2", "--save-losses", "losses.npz", cwd=folder)
    return folder, code, output, errors, np.load(folder / "losses.npz")


def test_run_succeeds_and_writes_its_files_and_no_others(first_run):
    folder, code, output, errors, _ = first_run
    assert (code, errors) == (0, "")
    assert sorted(path.name for path in folder.iterdir()) == ["loss.png", "losses.npz"]
    assert imread(folder / "loss.png").shape == (600, 960, 4)


def test_output_tells_preconditioner_results_drift_and_files(first_run):
    _, _, output, _, losses = first_run
    assert re.search(r"^conv1 +0\.1131 +0\.2000 +0\.7899 +0\.7899 +1\.2660 +1\.2660$", output, re.M)
    assert re.search(r"^fc3 +0\.1512 +0\.2000 +0\.7071 +1\.0000 +1\.4142 +1\.0000$", output, re.M)
    for method in ("default", "preconditioned"):
        row = re.search(rf"^{method} +(\d\.\d\d\d) +\d\.\d\d\d +\d+\.\d %.* \d+$", output, re.M)
        assert row[1] == f"{losses[f'losses_{method}_seed_0'][-20:].mean():.3f}"
    assert re.search(r"^preconditioned .* (not overtaken|never ahead|\d\.\d\d) ", output, re.M)
    assert re.search(r"^fc1( +\d\.\d\d\d){2}$", output, re.M)
    assert output.endswith("wrote loss.png\nwrote losses.npz\n")


def test_saved_losses_explain_themselves(first_run):
    losses = first_run[-1]
    names = {"losses_default_seed_0", "losses_preconditioned_seed_0", "learning_rate_default",
             "learning_rate_preconditioned", "dataset", "images", "epochs", "minibatch", "momentum"}
    assert set(losses.files) == names
    for name in ("losses_default_seed_0", "losses_preconditioned_seed_0"):
        assert losses[name].dtype == np.float32 and losses[name].shape == (200,)
        assert 1.5 < losses[name].mean() < 3
    settings = {name: losses[name].item() for name in names if not name.startswith("losses_")}
    assert settings == {"learning_rate_default": 0.001, "learning_rate_preconditioned": 0.001, "dataset": "synthetic",
                        "images": 400, "epochs": 2, "minibatch": 4, "momentum": 0.9}


def test_quiet_run_one_at_a_time_repeats_every_loss(first_run, tmp_path):
    assert run(*QUICK, "--jobs", "1", "--quiet", "--save-losses", "again.npz", cwd=tmp_path) == (0, "", "")
    again = np.load(tmp_path / "again.npz")
    for name in first_run[-1].files:
        assert np.array_equal(again[name], first_run[-1][name]), name
    assert (tmp_path / "loss.png").read_bytes() == (first_run[0] / "loss.png").read_bytes()


def test_seed_among_others_repeats_every_loss(first_run, tmp_path):
    """More trainings than processes, and the ablation."""
    code, output, errors = run(*QUICK, "--seeds", "2", "--ablation", "--jobs", "2",
                               "-o", "figure.svg", "--save-losses", "losses.npz", cwd=tmp_path)
    assert (code, errors) == (0, "")
    losses = np.load(tmp_path / "losses.npz")
    for name in first_run[-1].files:
        assert np.array_equal(losses[name], first_run[-1][name]), name
    runs = [losses[name] for name in losses.files if name.startswith("losses_")]
    assert len(runs) == 6 and len({run.tobytes() for run in runs}) == 6
    number = r"\d+\.\d+ ± \d+\.\d+"
    for method in ("default", "preconditioned", "initialization only"):
        assert re.search(rf"^{method} +{number} +{number} +{number} %.* \d+ ± \d+$", output, re.M)
    assert re.search(r"^fc1( +\d\.\d\d\d ± \d\.\d\d\d){2}$", output, re.M)
    assert (tmp_path / "figure.svg").read_text().startswith("<?xml")


def test_divergence_stops_everything(tmp_path):
    (tmp_path / "loss.png").write_bytes(b"old")
    code, output, errors = run(*QUICK, "-e", "1000", "--preconditioned-lr", "1e9", "-q", cwd=tmp_path)
    assert (code, output) == (1, "")
    assert re.fullmatch(r"main\.py: error: preconditioned: the loss became (nan|inf) at step \d+ of epoch 1, "
                        r"with learning rate 1e\+09 and seed 0; a lower learning rate may help\n", errors)
    assert (tmp_path / "loss.png").read_bytes() == b"old"


@pytest.mark.parametrize("moment", ["import", "training"])
@pytest.mark.parametrize("whole_group", [True, False], ids=["from the terminal", "to the main process only"])
def test_interrupt(tmp_path, moment, whole_group):
    (tmp_path / "loss.png").write_bytes(b"old")
    process = start("--dataset", "synthetic", "--images", "8000", "--epochs", "1000", cwd=tmp_path)
    if moment == "training":
        next(line for line in process.stdout if line.startswith("fc3"))  # the end of the table before the training
        time.sleep(3)
    else:
        time.sleep(0.5)
    (os.killpg if whole_group else os.kill)(process.pid, signal.SIGINT)
    assert all_end_within(2, process.pid)
    _, errors = process.communicate()
    assert (process.returncode, errors) == (130, "main.py: error: interrupted\n")
    assert [path.name for path in tmp_path.iterdir()] == ["loss.png"]
    assert (tmp_path / "loss.png").read_bytes() == b"old"


@pytest.fixture
def refusal(monkeypatch, capsys, tmp_path):
    """Call main() in this process with arguments that it refuses; return its exit code and the one line it prints."""
    def training(*_):
        raise AssertionError("the training began")

    monkeypatch.setattr("main.run_parallel", training)
    monkeypatch.chdir(tmp_path)
    handler = signal.getsignal(signal.SIGINT)

    def refuse(*arguments):
        monkeypatch.setattr(sys, "argv", ["main.py", *arguments])
        code = main.main()
        output, errors = capsys.readouterr()
        assert output == ""
        assert re.fullmatch(r"main\.py: error: .+\n", errors)
        return code, errors

    yield refuse
    signal.signal(signal.SIGINT, handler)


@pytest.mark.parametrize("value", ["0", "-1", "1.5", "nan", "inf", "two", ""])
@pytest.mark.parametrize("option", ["--epochs", "--images", "--smoothing", "--jobs", "--seeds"])
def test_counts_must_be_positive_whole_numbers(refusal, option, value):
    code, error = refusal(option + "=" + value)
    assert code == 2
    assert option in error and f"'{value}' is not a whole number" in error


@pytest.mark.parametrize("value", ["0", "-0.001", "nan", "inf", "-inf", "1e999", "fast", ""])
def test_learning_rate_must_be_positive_and_finite(refusal, value):
    code, error = refusal("--preconditioned-lr=" + value)
    assert code == 2
    assert "--preconditioned-lr" in error and f"'{value}' is not a positive, finite number" in error


@pytest.mark.parametrize("value", ["-1", "0.5", "x", str(2**32)])
def test_seed_must_be_a_whole_number(refusal, value):
    code, error = refusal("--seed=" + value)
    assert code == 2 and "--seed" in error


@pytest.mark.parametrize("arguments, error", [
    (["--dataset", "mnist"], "invalid choice: 'mnist'"),
    (["--colour"], "unrecognized arguments: --colour"),
    (["--images", "50001"], "--images: 50001 is not from 4 .* to 50000"),
    (["--images", "3"], "--images: 3 is not from 4 .* to 50000"),
    (["--images", "400", "--smoothing", "201"], "--smoothing: 201 is wider than the run, which has 200 steps"),
    (["--output", "missing/loss.png"], "--output: cannot write 'missing/loss.png': No such file or directory"),
    (["--output", "loss.jpeg2000"], "--output: 'loss.jpeg2000' does not end in a known figure format"),
    (["--output", "loss"], "--output: 'loss' does not end in a known figure format"),
    (["--output", "folder.png"], "--output: cannot write 'folder.png': it is a folder"),
    (["--save-losses", "missing/losses.npz"], "--save-losses: cannot write .*: No such file or directory"),
    (["--save-losses", "folder.png"], "--save-losses: cannot write 'folder.png': it is a folder"),
    (["--save-losses", "./loss.png"], "--save-losses: './loss.png' is the figure's file"),
])
def test_wrong_usage(refusal, tmp_path, arguments, error):
    (tmp_path / "folder.png").mkdir()
    (tmp_path / "loss.png").write_bytes(b"old")
    code, line = refusal("--dataset", "synthetic", *arguments)
    assert code == 2
    assert re.search(error, line)
    assert (tmp_path / "loss.png").read_bytes() == b"old"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["folder.png", "loss.png"]


@pytest.fixture
def unreachable(monkeypatch):
    monkeypatch.setattr("torchvision.datasets.CIFAR10.url", "http://127.0.0.1:9/cifar-10-python.tar.gz")


def test_cifar10_that_cannot_be_had_is_a_failure(refusal, unreachable):
    code, error = refusal("--dataset", "cifar10")
    assert code == 1
    assert "cannot be downloaded" in error


def test_fallback_is_loud(unreachable, monkeypatch, tmp_path, capsys):
    """Also when quiet: a warning, and the figure's title."""
    titles = []

    def draw_and_note_title(curves, title, *rest):
        titles.append(title)
        return draw(curves, title, *rest)

    monkeypatch.setattr("util.plot.draw", draw_and_note_title)
    monkeypatch.setattr("main.run_parallel", lambda perform, experiments, jobs: [perform(e) for e in experiments])
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["main.py", "--images", "40", "--quiet"])
    assert main.main() == 0
    output, errors = capsys.readouterr()
    assert output == ""
    assert re.fullmatch(r"main\.py: warning: CIFAR-10 is not in 'data' and cannot be downloaded .*\n", errors)
    assert titles == ["synthetic stand-in, not CIFAR-10, seed 0"]


def test_help_shows_every_default():
    code, output, errors = run("--help")
    assert (code, errors) == (0, "")
    options = re.findall(r"^  (?:-\w[^-]*, )?(--[\w-]+)", output, re.M)
    assert len(options) == 14
    assert output.count("(default:") == len(options) - 1  # all but --help
