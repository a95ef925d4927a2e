"""The command line: its defaults, and what it refuses."""
import pytest

from util.options import parse_options


@pytest.fixture
def parse(monkeypatch):
    def parse(*arguments):
        monkeypatch.setattr("sys.argv", ["main.py", *arguments])
        return parse_options()
    return parse


def test_defaults(parse):
    assert vars(parse()) == {
        "initialization_only": None, "default_lr": 0.001, "preconditioned_lr": 0.001, "depth": 5, "activation": "relu",
        "epochs": 2, "images": 50000, "seed": 0,
        "smoothing": None, "dataset": "auto", "data_dir": "data", "output": "loss.png", "save": None, "quiet": False}


def test_every_option_says_what_it_does(parse, capsys):
    with pytest.raises(SystemExit, match="^0$"):
        parse("--help")
    text = " ".join(capsys.readouterr().out.split())
    for name, value in vars(parse()).items():
        option = "--" + name.replace("_", "-")
        assert option in text
        assert not value or f"(default: {value})" in text
    assert "None" not in text


@pytest.mark.parametrize("option, values", [
    ("--epochs", ["0", "-1", "1.5", "nan", "two", ""]),
    ("--images", ["7", "50001"]),
    ("--smoothing", ["0"]),
    ("--depth", ["4", "1001", "5.5"]),
    ("--seed", ["-1", str(2**32), "0.5"]),
    ("--default-lr", ["0", "-0.001", "nan", "inf", "1e300", "fast", ""]),
    ("--preconditioned-lr", ["0"]),
    ("--initialization-only", ["0"]),
    ("--dataset", ["mnist"]),
    ("--activation", ["sigmoid"]),
    ("--colour", ["red"]),
])
def test_wrong_usage(parse, capsys, option, values):
    for value in values:
        with pytest.raises(SystemExit, match="^2$"):
            parse(f"{option}={value}")
        error = capsys.readouterr().err.splitlines()[-1]
        assert option in error and value in error
        assert "invalid parse value" not in error  # but "invalid int value"


@pytest.mark.parametrize("option, name", [("--output", "output"), ("--save", "save"), ("--data-dir", "data_dir")])
def test_a_tilde_is_the_home(parse, monkeypatch, option, name):
    monkeypatch.setenv("HOME", "/somewhere")
    assert getattr(parse(f"{option}=~/there"), name) == "/somewhere/there"


@pytest.mark.parametrize("option", ["--save", "--data-dir"])
@pytest.mark.parametrize("path", [__file__, ""])
def test_what_is_no_folder_is_refused_by_the_option(parse, capsys, option, path):
    with pytest.raises(SystemExit, match="^2$"):
        parse(option, path)
    assert capsys.readouterr().err.endswith(f"argument {option}: '{path}' is not a folder\n")


def test_a_smoothing_wider_than_the_run_is_refused(parse, capsys):
    assert parse("--images", "43", "-e", "3", "-s", "30").smoothing == 30
    with pytest.raises(SystemExit, match="^2$"):
        parse("--images", "43", "-e", "3", "-s", "31")
    assert capsys.readouterr().err.endswith("argument -s/--smoothing: 31 steps are more than the run's 30\n")
