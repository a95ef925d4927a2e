"""The command line: its defaults, and what it refuses."""
import pytest

from util.options import parse_options

DEFAULTS = {
    "dataset": "auto", "data_dir": "data", "images": 50000, "epochs": 2, "seed": 0,
    "depth": 5, "activation": "relu",
    "default_lr": 0.001, "preconditioned_lr": 0.001, "initialization_only": None,
    "smoothing": None, "output": "loss.png", "save": None, "quiet": False,
}


@pytest.fixture
def parse(monkeypatch):
    def parse(*arguments):
        monkeypatch.setattr("sys.argv", ["main.py", *arguments])
        return parse_options()
    return parse


def test_a_run_without_options_is_the_one_that_the_figure_shows(parse):
    assert vars(parse()) == DEFAULTS


def test_help_names_each_option_and_its_default(parse, capsys):
    with pytest.raises(SystemExit, match="^0$"):
        parse("--help")
    text = " ".join(capsys.readouterr().out.split())
    for name, value in DEFAULTS.items():
        assert "--" + name.replace("_", "-") in text
        assert not value or f"(default: {value})" in text
    assert "None" not in text


@pytest.mark.parametrize("argument, problem", [
    ("--epochs=0", "0 is not from 1 to 1000000"), ("--epochs=two", "invalid int value: 'two'"),
    ("--images=7", "7 is not from 8 to 50000"), ("--images=50001", "50001 is not from 8 to 50000"),
    ("--smoothing=0", "0 is not from 1 to 1000000"), ("--smoothing=25001", "25001 steps are more than the run's 25000"),
    ("--depth=4", "4 is not from 5 to 1000"), ("--depth=1001", "1001 is not from 5 to 1000"),
    ("--seed=-1", "-1 is not from 0 to 4294967295"), ("--seed=4294967296", "4294967296 is not from 0 to 4294967295"),
    ("--default-lr=0", "0 is not from 1e-30 to 1e+30"), ("--default-lr=nan", "nan is not from 1e-30 to 1e+30"),
    ("--preconditioned-lr=0", "0 is not from 1e-30 to 1e+30"),
    ("--initialization-only=0", "0 is not from 1e-30 to 1e+30"),
    ("--save=", "'' is not a folder"), (f"--data-dir={__file__}", f"'{__file__}' is not a folder")])
def test_what_cannot_be_meant_is_refused_by_its_option(parse, capsys, argument, problem):
    with pytest.raises(SystemExit, match="^2$"):
        parse(argument)
    option, _ = argument.split("=")
    error = capsys.readouterr().err
    assert f"{option}: {problem}\n" in error


def test_a_smoothing_as_wide_as_the_run_is_accepted(parse):
    assert parse("--smoothing=25000").smoothing == 25000


@pytest.mark.parametrize("option", ["output", "save", "data_dir"])
def test_a_tilde_is_the_home(parse, monkeypatch, option):
    monkeypatch.setenv("HOME", "/somewhere")
    path = vars(parse("--output=~/there", "--save=~/there", "--data-dir=~/there"))[option]
    assert path == "/somewhere/there"
