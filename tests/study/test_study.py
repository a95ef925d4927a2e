"""The study's command: the pages beside the files, trainings that equal others, what is trained, what is refused."""
import re
from itertools import count
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.helpers import METHODS as DEMO, random_images, trained, write_cifar10
from tests.study.helpers import BRIEF, holding, rows_of, study, tables, trainings
from util import data
from util.failure import Failure
from util.network import Net
from util.study import __main__ as command
from util.study.methods import measure
from util.study.networks import lenet5
from util.theory import predict_current, predict_for, weight_gradient_spread
from util.theory.initializations import pytorch
from util.training import evaluate, train

RESULTS = Path(command.__file__).parent / "results"
PAGES = sorted(RESULTS.glob("*.md"))
HELD = trainings("default", 0.001, 1.0, 1.1) + trainings("he", 0.001, 1.2, 1.4)
IMAGES, TEST = random_images(120), random_images(40)
NAMED = ["he=1e-3,0.002", "adam", "he=0.001", "--depth", "6,7,6", "--seeds", "1:3", "--decay"]
TRAINED = [f"{method}, depth {depth}, seed {seed}" for depth in (6, 7) for seed in (1, 2)
           for method in ("he-decay=0.001", "he-decay=0.002", "adam-decay=0.001")]


@pytest.mark.parametrize("page", PAGES, ids=[page.stem for page in PAGES])
def test_the_page_beside_each_file_is_what_is_printed(page):
    name, _, reference = page.stem.partition("-minus-")
    arguments = ["--reference", reference] if reference else []
    printed = study(RESULTS / f"{name}.csv", *arguments)
    assert printed == page.read_text(encoding="utf-8")
    headings = re.findall("^#+ .*", printed, re.M)
    assert len(set(headings)) == len(headings)  # as links need


def numbers(row, column):
    return np.array(row[column].split(), dtype=float)


def scales_of(net):
    """Return root mean squares of each layer: of weights, and of gradients measured and predicted."""
    measured, predicted = measure(net, IMAGES, 7), predict_current(net)
    gradients = [[layer.weight_gradient_std for layer in layers] for layers in (measured, predicted)]
    return np.array([[layer.weight_std for layer in measured], *gradients])


@pytest.mark.parametrize("method", DEMO)
def test_a_training_of_the_study_is_that_of_the_demo(path, method):
    """Whatever is measured before and after it. Growth is last over first; numbers have five digits."""
    printed = study(path, method, "--seeds", "7:8", *BRIEF, "--images", "120")
    (row,) = rows_of(path)
    net, losses = trained(method, IMAGES, epochs=1)
    first, _ = trained(method, IMAGES, epochs=1, learning_rate=0.0)
    test_loss, accuracy = evaluate(net, TEST)
    said = f"training loss {losses[-3:].mean():.3f}, test loss {test_loss:.3f}, accuracy {accuracy:.1%}; "
    assert said in printed
    assert (row["test_loss"], row["test_accuracy"]) == (repr(test_loss), repr(accuracy))
    assert numbers(row, "losses") == pytest.approx(losses, rel=1e-4)
    growth = [numbers(row, f"{name}_growth") for name in ("weight", "measured_gradient", "predicted_gradient")]
    np.testing.assert_allclose(growth, scales_of(net) / scales_of(first), rtol=1e-4)


def test_a_deep_tanh_network_is_trained_at_a_rate_that_falls_linearly_to_zero(path):
    """Over two epochs, with the minibatches of its seed."""
    study(path, "default=0.01", "--depth", "7", "--activation", "tanh", "--decay", "--seeds", "3:4", *BRIEF,
          "--images", "120", "--epochs", "2")
    torch.manual_seed(3)
    net = Net(7, "tanh")
    optimizer = torch.optim.SGD(net.parameters(), lr=0.01, momentum=0.9)
    decay = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.0, total_iters=60)
    optimizer.register_step_post_hook(lambda *_: decay.step())
    losses = train(net, IMAGES, optimizer, epochs=2, seed=3, report=lambda line: None)
    (row,) = rows_of(path)
    assert numbers(row, "losses") == pytest.approx(losses, rel=1e-3)
    assert float(row["test_loss"]) == pytest.approx(evaluate(net, TEST)[0], rel=1e-3)
    assert (row["weight_growth"], row["torch"]) == ("", torch.__version__)


def test_a_row_has_the_losses_of_200_parts_of_a_training(path):
    """Of 201 steps, the first part has two."""
    study(path, "default", *BRIEF, "--images", "804", "--seeds", "7:8")
    _, losses = trained("default", random_images(804), epochs=1)
    (row,) = rows_of(path)
    assert numbers(row, "losses") == pytest.approx([losses[:2].mean(), *losses[2:]], rel=1e-4)


def test_a_row_lacks_the_losses_and_the_growth_of_a_training_that_diverged(path):
    study(path, "default=1e20", *BRIEF, "--images", "120")
    (row,) = rows_of(path)
    assert row["losses"].endswith(" nan" * 20)
    assert len(numbers(row, "losses")) == 30
    assert row["weight_growth"] == ""


def test_what_is_named_is_trained_once(tmp_path):
    """Into a file whose folder is made."""
    printed = study(tmp_path / "new" / "results.csv", *NAMED, *BRIEF)
    assert sorted(re.findall("^(.*): training loss", printed, re.M)) == sorted(TRAINED)
    assert "images: 8; epochs: 1; trainings: 12." in printed


def test_one_relu_network_of_the_tutorials_depth_is_trained_at_a_constant_rate_if_nothing_else_is_said(path):
    assert study(path, "he", *BRIEF).startswith("he=0.001, depth 5, seed 0: ")


@holding(HELD)
@pytest.mark.parametrize("jobs, at_a_time", [([], 3), (["--jobs", "2"], 2)])
def test_as_many_trainings_at_a_time_as_cores_or_as_are_wanted(path, monkeypatch, jobs, at_a_time):
    called = []
    monkeypatch.setattr("os.sched_getaffinity", lambda process: {2, 3, 5}, raising=False)
    monkeypatch.setattr(command, "run_parallel", lambda function, tasks, processes: called.append(processes) or [])
    study(path, "adam", *jobs)
    assert called == [at_a_time]


def test_progress_is_told_in_minutes_by_the_time_that_trainings_took(path, monkeypatch):
    """90 s, as the clock says whenever it is asked."""
    clock = count(0, 90)
    monkeypatch.setattr("time.monotonic", lambda: next(clock))
    printed = study(path, "he", "--seeds", "0:3", "--jobs", "1", *BRIEF)
    left = re.findall("; (. left, about . min)$", printed, re.M)
    assert left == ["2 left, about 3 min", "1 left, about 2 min", "0 left, about 0 min"]


@pytest.mark.parametrize("folder, dataset", [("cifar10", "cifar10"), ("empty", "synthetic")])
def test_a_data_set_that_was_chosen_by_itself_is_recorded_by_its_name(path, tmp_path, monkeypatch, folder, dataset):
    """In a new file; and again, when the name is the file's."""
    write_cifar10(tmp_path / "cifar10", monkeypatch)
    for method in "default", "he":
        study(path, method, "--images", "20", "--epochs", "1", "--data-dir", str(tmp_path / folder))
    assert [row["dataset"] for row in rows_of(path)] == [dataset, dataset]


@holding(HELD)
@pytest.mark.parametrize("arguments, problem", [
    (["--epochs", "1"], "epochs is 2, not 1"), (["--images", "124"], "images is 400, not 124"),
    (["--dataset", "cifar10"], "dataset is synthetic, not cifar10"),
    (["--reference", "adam"], "--reference: adam was not trained$"),
    (["--reference", "default=0.5"], "--reference: default was not trained at 0.5"),
    (["--pictures", __file__], "File exists|no folder")])
def test_what_does_not_fit_the_file_is_refused_before_any_work(path, monkeypatch, arguments, problem):
    before = path.read_text()
    monkeypatch.setattr(data, "synthetic_images", pytest.fail)
    with pytest.raises((Failure, OSError), match=problem):
        study(path, "he=0.01", *arguments)
    assert path.read_text() == before


def test_a_reference_may_be_what_is_yet_to_be_trained(path):
    page = tables(study(path, "he", "default", "--seeds", "0:2", *BRIEF, "--reference", "he=0.001"))
    (compared,) = page["Differences from `he=0.001`"]
    assert compared.startswith("| `default=0.001` | 2 |")


@holding(HELD, trainings("adam", 0.001, float("nan")))
def test_a_reference_that_diverged_is_named(path):
    with pytest.raises(Failure, match=f"all trainings of adam in '{path}' diverged"):
        study(path, "--reference", "adam")


@holding(trainings("he", 0.001, 1.0))
def test_a_file_without_the_default_training_is_reported(page):
    assert list(page) == ["Outcomes"]


def test_a_report_of_nothing_is_refused(path):
    with pytest.raises(Failure, match=f"'{path}' holds no results, and no method is named"):
        study(path)


@pytest.mark.parametrize("argument, message", [
    ("none", "there is no method 'none'"), ("default=0", "0 is not from"),
    ("default=1,fast", "'fast' is no learning rate"), ("--reference=he=fast", "'fast' is no learning rate"),
    ("--reference=none", "there is no method 'none'"), ("--depth=5,x", "'x' is no number of layers"),
    ("--depth=4", "4 is not from 5 to 400"), ("--depth=401", "401 is not from 5 to 400"),
    ("--activation=gelu", "gelu"), ("--network=vgg", "vgg"), ("--images=3", "3 is not from"),
    ("--images=50001", "50001 is not from"), ("--epochs=0", "0 is not from 1"), ("--jobs=0", "0 is not from 1"),
    ("--dataset=mnist", "mnist"), ("--seeds=3", "'3' is no range FIRST:END"), ("--seeds=a:3", "'a' is no seed"),
    ("--seeds=0:b", "'b' is no seed"), ("--seeds=-1:1", "-1 is not from 0"), ("--seeds=2:2", "the range 2:2 is empty"),
    ("--seeds=0:4294967297", "4294967297 is not from")])
def test_what_cannot_be_meant_is_refused(path, capsys, argument, message):
    with pytest.raises(SystemExit, match="^2$"):
        study(path, argument)
    assert message in capsys.readouterr().err


def test_a_network_by_name_is_trained_and_compared_by_its_name(path):
    """It has no depth and no activation."""
    page = tables(study(path, "default", "--network", "lenet5", *BRIEF))
    spread = weight_gradient_spread(predict_for(pytorch, lenet5()))
    assert page["Spread by network"][0] == f"| PyTorch | {spread:.3g} |"
    assert page["Final loss by network, constant learning rate"][0].startswith("| `default` | 2.")
    (row,) = rows_of(path)
    assert (row["depth"], row["activation"], row["network"]) == ("", "", "lenet5")


def test_a_network_by_name_has_no_depth_that_could_be_chosen(path, capsys):
    with pytest.raises(SystemExit, match="^2$"):
        study(path, "default", "--network", "lenet5", "--depth", "7")
    assert "argument --network: --depth and --activation" in capsys.readouterr().err
