"""The demo from end to end on a few synthetic images, and whatever may happen to it meanwhile."""
import functools
import os
import re
import signal
import sys

import numpy as np
import pytest
from matplotlib.image import imread

import main
import util.data
from tests.processes import ROOT, all_end_within, end_by, forked, live_processes, started
from util import program
from util.program import Failure

TINY = ["--dataset", "synthetic", "--images", "8", "--epochs", "1"]  # 2 steps
QUICK = ["--dataset", "synthetic", "--images", "80"]  # 20 steps an epoch
LONG = ["--dataset", "synthetic", "--images", "4000", "-e", "2"]  # 2,000 steps, with a line of progress every 200
NUMBER = r"\d+\.\d+ [±?] \d+\.\d+"


def call_main(*arguments):
    sys.argv = ["main.py", *arguments]
    return program.run(main.main)


@pytest.fixture(scope="module", autouse=True)
def few_test_images():
    """They are made once. All of them are in the run as a user starts it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(util.data, "TEST_IMAGES", 100)
        patch.setattr(util.data, "synthetic_images", functools.lru_cache(None)(util.data.synthetic_images))
        yield


@pytest.fixture
def run(monkeypatch, tmp_path, capfd):
    """Run main() in this process, in a folder of its own; return the exit code, output and error output."""
    def run(*arguments):
        return (call_main(*arguments), *capfd.readouterr())

    monkeypatch.setattr(sys, "argv", [])
    monkeypatch.chdir(tmp_path)
    return run


@pytest.fixture
def old_figure(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "loss.png").write_bytes(b"old")
    yield
    assert (tmp_path / "loss.png").read_bytes() == b"old"
    assert {path.name for path in tmp_path.iterdir()} <= {"loss.png", "losses.npz"}


TWO_SEEDS = [*QUICK, "--seeds", "2", "--save-losses"]


@pytest.fixture(scope="module", autouse=True)
def process(tmp_path_factory):
    """A run as a user starts it, in the most unpleasant surroundings; it goes on while other tests run."""
    folder = tmp_path_factory.mktemp("first")
    (folder / "matplotlibrc").write_text("text.usetex: True\nfigure.dpi: 50\nfont.size: 30\nsavefig.dpi: 30\n")
    unpleasant = {"PYTHONIOENCODING": "ascii", "MPLBACKEND": "module://matplotlib_inline.backend_inline"}
    with started(sys.executable, str(ROOT / "main.py"), *TWO_SEEDS, "losses.npz", "--jobs", "4", cwd=folder,
                 env={**os.environ, **unpleasant}) as process:
        yield folder, process


def result(folder, process):
    output, errors = process.communicate()
    return folder, process.returncode, output, errors, np.load(folder / "losses.npz")


@pytest.fixture(scope="module")
def first_run(process):
    return result(*process)


@pytest.fixture(scope="module")
def second_run(tmp_path_factory):
    """The same in the surroundings of these tests, and one training after the other."""
    folder = tmp_path_factory.mktemp("second")
    with forked(call_main, *TWO_SEEDS, str(folder / "losses.npz"), "-o", str(folder / "loss.png"),
                "--jobs", "1") as process:
        return result(folder, process)


def test_learning_rate_that_diverges_is_a_row_in_a_sweep(run, second_run, tmp_path):
    """And nothing beside a training changes its losses."""
    code, output, errors = run(*QUICK, "preconditioned", "default=1e9,0.001", "--seed", "1", "initialization-only",
                               "--jobs", "2", "-o", "sweep.png", "--save-losses", "sweep.npz")
    assert (code, errors) == (0, "")
    assert re.search(r"^default=1e\+09 +diverged at step \d+ *$", output, re.M)
    assert re.search(r"^default=0\.001 \* +\d\.\d\d\d ", output, re.M)
    losses = np.load(tmp_path / "sweep.npz")
    assert not np.isfinite(losses["losses_default=1e+09_seed_1"][-1])
    for name, same in (("preconditioned", "preconditioned"), ("default=0.001", "default")):
        assert np.array_equal(losses[f"losses_{name}_seed_1"], second_run[-1][f"losses_{same}_seed_1"])
    assert imread(tmp_path / "sweep.png").shape == (600, 1680, 4)


def test_decay_and_moments_of_the_images(run, second_run, tmp_path):
    code, output, errors = run(*QUICK, "default", "preconditioned", "--decay", "--input-moments", "images",
                               "--save-losses", "losses.npz")
    assert (code, errors) == (0, "")
    second, cross = map(float, re.match(r"input moments: (\d\.\d{4}), (\d\.\d{4})\n", output).groups())
    assert 0.01 < cross < second < 0.5
    losses = np.load(tmp_path / "losses.npz")
    assert losses["decay"].item() is True and losses["input_moments"].item() == "images"
    decayed, constant = (each["losses_default_seed_0"] for each in (losses, second_run[-1]))
    assert np.array_equal(decayed[:2], constant[:2]) and not np.isclose(decayed[2], constant[2], atol=0, rtol=1e-7)
    assert losses["losses_preconditioned_seed_0"][0] != second_run[-1]["losses_preconditioned_seed_0"][0]


def test_training_that_diverges_ends_the_run(run, old_figure):
    code, output, errors = run(*LONG, "default", "preconditioned=1e9", "--jobs", "2", "-q")
    assert (code, output) == (1, "")
    assert re.fullmatch(r"main\.py: error: preconditioned=1e\+09 seed 0: the training diverged at step \d+; a lower "
                        r"learning rate may help\n", errors)


@pytest.mark.parametrize("broken", ["save_losses", "draw", "result_tables"])
def test_each_result_is_delivered_whatever_becomes_of_the_others(run, tmp_path, monkeypatch, broken):
    def fail(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(main, broken, fail)
    code, output, errors = run(*TINY, "--save-losses", "losses.npz")
    assert (code, errors) == (1, "main.py: error: OSError: [Errno 28] No space left on device\n")
    assert ("test accuracy" in output) == (broken != "result_tables")
    delivered = {"save_losses": ["loss.png"], "draw": ["losses.npz"], "result_tables": ["loss.png", "losses.npz"]}
    assert sorted(path.name for path in tmp_path.iterdir()) == delivered[broken]


def test_fault_in_the_drawing_takes_no_other_result(run, tmp_path, monkeypatch, capfd):
    monkeypatch.setattr(main, "draw", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        run(*TINY, "--save-losses", "losses.npz")
    assert "test accuracy" in capfd.readouterr().out
    assert [path.name for path in tmp_path.iterdir()] == ["losses.npz"]


@pytest.mark.parametrize("number, send", [(signal.SIGINT, os.killpg), (signal.SIGTERM, os.kill)])
def test_signals_during_training(old_figure, number, send):
    with forked(call_main, *LONG) as process:
        next(line for line in process.stdout if "] loss:" in line)
        assert len(live_processes(process.pid)) > 1
        end_by(number, process, 5, send)


def test_killed_worker(old_figure):
    with forked(call_main, *LONG) as process:
        next(line for line in process.stdout if "] loss:" in line)
        os.kill(max(set(live_processes(process.pid)) - {process.pid}), signal.SIGKILL)
        _, errors = process.communicate()
        assert all_end_within(2, process.pid)
    assert process.returncode == 1
    assert re.fullmatch(r"main\.py: error: a worker process was killed from outside by signal 9, .*\n", errors)


@pytest.mark.parametrize("step, number_of_call", [("save_losses", 3), ("draw", 1), ("render", 1)])
def test_interrupt_while_results_are_written(old_figure, monkeypatch, tmp_path, step, number_of_call):
    """Losses are first written as each of the two trainings ends."""
    calls = []
    original = getattr(main, step)

    def interrupt(*arguments):
        calls.append(arguments)
        if len(calls) == number_of_call:
            for _ in range(3):
                os.kill(os.getpid(), signal.SIGINT)
        return original(*arguments)

    monkeypatch.setattr(main, step, interrupt)
    with forked(call_main, *TINY, "--save-losses", "losses.npz") as process:
        output, errors = process.communicate()
    assert (process.returncode, errors) == (130, "main.py: error: interrupted\n")
    assert "test accuracy" not in output
    assert {"losses_default_seed_0", "losses_preconditioned_seed_0"} < set(np.load(tmp_path / "losses.npz").files)


def test_interrupted_sweep_keeps_what_is_finished(old_figure, tmp_path):
    with forked(call_main, *TINY, "default", "--seeds", "10000", "--jobs", "1", "--save-losses",
                "losses.npz") as process:
        finished = [line for line, _ in zip((line for line in process.stdout if " left" in line), range(2))]
        end_by(signal.SIGINT, process, 1, os.killpg)
    assert [line.split(":")[0] for line in finished] == ["default=0.001 seed 0", "default=0.001 seed 1"]
    losses = np.load(tmp_path / "losses.npz")
    assert {"losses_default_seed_0", "losses_default_seed_1"} < set(losses.files)
    assert losses["losses_default_seed_1"].shape == (2,)


def test_finished_training_is_saved_before_it_is_told(run, monkeypatch, tmp_path):
    """Even if nobody reads the output any more."""
    def say(text):
        if " left" in text:
            raise Failure("cannot write")

    monkeypatch.setattr(program, "say", say)
    assert run(*TINY, "--jobs", "1", "--save-losses", "losses.npz") == (1, "", "main.py: error: cannot write\n")
    assert "losses_default_seed_0" in np.load(tmp_path / "losses.npz").files


@pytest.fixture
def unreachable(monkeypatch):
    monkeypatch.setattr("torchvision.datasets.CIFAR10.url", "http://127.0.0.1:9/cifar-10-python.tar.gz")


def test_cifar10_that_cannot_be_had_is_a_failure(run, unreachable):
    code, output, errors = run("--dataset", "cifar10", "-q")
    assert (code, output) == (1, "")
    assert re.fullmatch(r"main\.py: error: CIFAR-10 is not in 'data' and cannot be downloaded .*\n", errors)


def test_fallback_is_loud(run, unreachable, monkeypatch):
    """Also when quiet: a warning, and the figure's title."""
    titles = []

    def draw_and_note_title(runs, title, *rest):
        titles.append(title)
        return draw(runs, title, *rest)

    draw = main.draw
    monkeypatch.setattr(main, "draw", draw_and_note_title)
    code, output, errors = run("--images", "8", "--quiet")
    assert (code, output) == (0, "")
    assert re.fullmatch(r"main\.py: warning: CIFAR-10 is not in 'data' and cannot be downloaded .*\n", errors)
    assert titles == ["synthetic data, not CIFAR-10, seed 0"]


def test_run_succeeds_and_writes_its_files_and_no_others(first_run):
    folder, code, output, errors, _ = first_run
    assert (code, errors) == (0, "")
    assert sorted(path.name for path in folder.iterdir()) == ["loss.png", "losses.npz", "matplotlibrc"]
    assert imread(folder / "loss.png").shape == (600, 960, 4)


def test_output_tells_preconditioner_progress_results_and_files(first_run):
    output = first_run[2]
    assert output.startswith("input moments: 1.0000, 0.0000\n")
    assert re.search(r"^conv1 +0\.1131 +0\.2000 +0\.7899 +0\.7899 +1\.2660 +1\.2660$", output, re.M)
    assert re.search(r"^fc3 +0\.1512 +0\.2000 +0\.7071 +1\.0000 +1\.4142 +1\.0000$", output, re.M)
    for method in ("default", "preconditioned"):
        for seed in (0, 1):
            progress = re.findall(rf"^{method}=0\.001 seed {seed}  \[(\d), +(\d+)\] loss: \d\.\d\d\d$", output, re.M)
            assert progress == [(epoch, step) for epoch in "12" for step in ("4", "8", "12", "16", "20")]
        assert re.search(rf"^{method}=0\.001( +{NUMBER}){{6}} % .*\d$", output, re.M)
    assert " left" not in output
    assert output.endswith("wrote loss.png\nwrote losses.npz\n")


def test_saved_losses_explain_themselves(first_run):
    losses = first_run[-1]
    curves = {f"losses_{method}_seed_{seed}" for method in ("default", "preconditioned") for seed in (0, 1)}
    for name in curves:
        assert losses[name].dtype == np.float32 and losses[name].shape == (40,)
        assert 1.5 < losses[name].mean() < 3
    assert len({losses[name].tobytes() for name in curves}) == 4
    assert {name: losses[name].item() for name in set(losses.files) - curves} == {
        "learning_rate_default": 0.001, "learning_rate_preconditioned": 0.001, "dataset": "synthetic", "images": 80,
        "epochs": 2, "decay": False, "input_moments": "standard", "minibatch": 4, "momentum": 0.9}


def test_surroundings_do_not_matter(first_run, second_run):
    """Nor does the number of jobs. A terminal that knows ASCII only shows what it can."""
    folder, code, output, errors, losses = second_run
    assert (code, errors) == (0, "")
    assert first_run[2].isascii() and " ± " in output
    assert sorted(losses.files) == sorted(first_run[-1].files)
    for name in losses.files:
        assert np.array_equal(losses[name], first_run[-1][name]), name
    assert (folder / "loss.png").read_bytes() == (first_run[0] / "loss.png").read_bytes()


def test_more_trainings_than_jobs_have_a_line_each_when_they_are_finished(second_run):
    lines = re.findall(r"^(\S+) seed (\d): training loss \d\.\d{3}, test loss \d\.\d{3}, test accuracy \d+\.\d%; "
                       r"(\d) left, about \d+ min$", second_run[2], re.M)
    assert lines == [("default=0.001", "0", "3"), ("preconditioned=0.001", "0", "2"), ("default=0.001", "1", "1"),
                     ("preconditioned=0.001", "1", "0")]
    assert "] loss:" not in second_run[2]
