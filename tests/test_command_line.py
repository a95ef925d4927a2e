"""The command line: what it may say, and everything that is refused, by name and before anything runs."""
import os
import re
import sys

import pytest

import main
from tests.processes import forked
from util import program
from util.command_line import parse_arguments
from util.comparison import Contender

MANY_DIGITS = pytest.param("9" * 5000, id="5,000 digits")


@pytest.fixture
def parse(monkeypatch):
    def parse(line):
        monkeypatch.setattr(sys, "argv", ["main.py", *line.split()])
        return parse_arguments(main.METHODS)
    return parse


@pytest.fixture
def refusal(monkeypatch, capsys, tmp_path):
    """Call main() with arguments that it refuses; return the one line that it prints."""
    def work(*_):
        raise AssertionError("something runs")

    monkeypatch.setattr("main.load", work)
    monkeypatch.setattr("main.run_parallel", work)
    monkeypatch.chdir(tmp_path)

    def refuse(*arguments):
        monkeypatch.setattr(sys, "argv", ["main.py", *arguments])
        assert program.run(main.main) == 2
        output, errors = capsys.readouterr()
        assert output == ""
        assert re.fullmatch(r"main\.py: error: .+\n", errors) and len(errors) < 500
        return errors

    return refuse


def test_defaults(parse):
    arguments = parse("")
    assert arguments.contenders == [Contender("default", 0.001), Contender("preconditioned", 0.001)]
    assert (arguments.epochs, arguments.smoothing, arguments.images) == (2, 1000, 50000)
    assert (arguments.seed, arguments.seeds, arguments.input_moments) == (0, 1, "standard")
    assert (arguments.output, arguments.save_losses, arguments.decay) == ("loss.png", None, False)
    assert (arguments.dataset, arguments.data_dir) == ("auto", "data")


def test_methods_and_options_come_in_any_order(parse):
    arguments = parse("-q default=0.01 --epochs 1 preconditioned=1e-4,1e-3 --decay dynamic -o figure.pdf")
    assert list(map(str, arguments.contenders)) == ["default=0.01", "preconditioned=0.0001", "preconditioned=0.001",
                                                    "dynamic=0.001"]
    assert (arguments.quiet, arguments.epochs, arguments.decay, arguments.output) == (True, 1, True, "figure.pdf")


def test_all_methods_have_a_name(parse):
    arguments = parse("default preconditioned initialization-only preconditioner-only dynamic dynamic-scale "
                      "dynamic-proportions")
    assert arguments.contenders == [Contender(method, 0.001) for method in main.METHODS]


def test_short_run_is_smoothed_less(parse):
    assert parse("--images 400 -e 1").smoothing == 4
    assert parse("--images 4 -e 1").smoothing == 1
    assert parse("--images 400 -e 1 -s 100").smoothing == 100


@pytest.mark.parametrize("method", ["sgd", "Default", "", "=0.001"])
def test_unknown_method(refusal, method):
    name = method.partition("=")[0]
    assert f"METHOD[=RATE[,RATE...]]: there is no method '{name}', only default, precond" in refusal(method)


@pytest.mark.parametrize("rate", ["0", "-0.001", "nan", "inf", "-inf", "1e999", "1e300", "1e-300", "fast", ""])
@pytest.mark.parametrize("others", ["", "0.001,"])
def test_wrong_learning_rate(refusal, rate, others):
    error = refusal(f"default={others}{rate}")
    assert f"METHOD[=RATE[,RATE...]]: '{rate}' is not a number from 1e-30 to 1e+30" in error


@pytest.mark.parametrize("contenders", ["default=0.001,1e-3", "default default=0.001", "default dynamic default",
                                        "default=0.001,0.00100000001"])
def test_contender_named_twice(refusal, contenders):
    assert "argument METHOD: default=0.001 is named twice" in refusal(*contenders.split())


@pytest.mark.parametrize("value", ["0", "-1", "1.5", "nan", "inf", "two", "", MANY_DIGITS])
@pytest.mark.parametrize("option", ["--epochs", "--images", "--smoothing", "--jobs", "--seeds"])
def test_counts_must_be_positive_whole_numbers(refusal, option, value):
    error = refusal(f"{option}={value}")
    assert option in error and f"'{value[:20]}' is not a whole number" in error


@pytest.mark.parametrize("value", ["-1", "0.5", "x", str(2**32), MANY_DIGITS])
def test_seed_must_be_a_whole_number(refusal, value):
    error = refusal(f"--seed={value}")
    assert "--seed" in error and f"'{value[:20]}' is not a whole number" in error


@pytest.mark.parametrize("arguments, error", [
    (["--dataset", "mnist"], "--dataset: invalid choice: 'mnist'"),
    (["--input-moments", "mine"], "--input-moments: invalid choice: 'mine'"),
    (["--colour"], "unrecognized arguments: --colour"),
    (["--images", "50001"], "--images: '50001' is not a whole number from 4 to 50000"),
    (["--images", "3"], "--images: '3' is not a whole number from 4 to 50000"),
    (["--images", "400", "--smoothing", "201"], "--smoothing: 201 is wider than the run, which has 200 steps"),
    (["--output", "missing/loss.png"], "--output: cannot write 'missing/loss.png': No such file or directory"),
    (["--output", "loss"], "--output: 'loss' does not end in a known figure format"),
    (["--save-losses", ""], "--save-losses: cannot write '': the name is empty"),
    (["--save-losses", "/dev/null"], "--save-losses: cannot write '/dev/null': it is not a regular file"),
    (["--save-losses", "./loss.png"], "--save-losses: './loss.png' is the figure's file"),
    (["--save-losses", "two\nlines/a.npz"], "--save-losses: cannot write 'two lines/a.npz': No such file"),
])
def test_wrong_usage(refusal, tmp_path, arguments, error):
    (tmp_path / "loss.png").write_bytes(b"old")
    assert re.search(error, refusal(*arguments))
    assert (tmp_path / "loss.png").read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["loss.png"]


def test_help_shows_every_default(parse, capsys):
    with pytest.raises(SystemExit, match="0"):
        parse("-q --help default")
    output, errors = capsys.readouterr()
    options = re.findall(r"^  (?:-\w[^-]*, )?(--[\w-]+)", output, re.M)
    assert len(options) == 14
    assert output.count("(default:") == len(options)  # all but --help, and the methods
    assert errors == ""


def print_help_into(descriptor):
    os.dup2(descriptor, 1)
    sys.argv = ["main.py", "--help"]
    return program.run(main.main)


def test_help_that_cannot_be_printed(unwritable):
    descriptor, problem = unwritable
    with forked(print_help_into, descriptor) as process:
        _, errors = process.communicate()
    assert (process.returncode, errors) == (1, f"main.py: error: cannot write to the standard output: {problem}\n")
