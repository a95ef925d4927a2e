"""The study's command: the pages beside the files, trainings that equal others, what is trained, what is refused."""
import math
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
from util.study.results import reduce_losses
from util.theory import predict_current
from util.training import evaluate, train

RESULTS = Path(command.__file__).parent / "results"
PAGES = sorted(RESULTS.glob("*.md"))
HELD = trainings("default", 0.001, 1.0, 1.1) + trainings("he", 0.001, 1.2, 1.4)
IMAGES, TEST = random_images(120), random_images(40)
NAMED = ["he=1e-3,0.002", "he=0.001", "--depth", "6,7,6", "--seeds", "1:3", "--decay"]
TRAINED = [
    "he-decay=0.001, depth 6, seed 1", "he-decay=0.001, depth 6, seed 2",
    "he-decay=0.001, depth 7, seed 1", "he-decay=0.001, depth 7, seed 2",
    "he-decay=0.002, depth 6, seed 1", "he-decay=0.002, depth 6, seed 2",
    "he-decay=0.002, depth 7, seed 1", "he-decay=0.002, depth 7, seed 2"]
SCALES = {  # of each layer, in a network as it is
    "weight_growth": lambda net: [layer.weight_std for layer in measure(net, IMAGES, 7)],
    "measured_gradient_growth": lambda net: [layer.weight_gradient_std for layer in measure(net, IMAGES, 7)],
    "predicted_gradient_growth": lambda net: [layer.weight_gradient_std for layer in predict_current(net)],
}


@pytest.mark.parametrize("page", PAGES, ids=[page.stem for page in PAGES])
def test_the_page_beside_each_file_is_what_is_printed(page):
    name, _, reference = page.stem.partition("-minus-")
    arguments = ["--reference", reference] if reference else []
    printed = study(RESULTS / f"{name}.csv", *arguments)
    assert printed == page.read_text(encoding="utf-8")


def numbers(row, column):
    return [float(number) for number in row[column].split()]


@pytest.mark.parametrize("method", DEMO)
def test_a_training_of_the_study_is_that_of_the_demo(path, method):
    """Whatever is measured before and after it. Growth is last over first; numbers have five digits."""
    printed = study(path, method, "--seeds", "7:8", *BRIEF, "--images", "120")
    (row,) = rows_of(path)
    net, losses = trained(method, IMAGES, epochs=1)
    test_loss, accuracy = evaluate(net, TEST)
    last_tenth = losses[-3:].mean()
    assert f"loss {last_tenth:.3f}, test loss {test_loss:.3f}, accuracy {accuracy:.1%}; " in printed
    assert (row["test_loss"], row["test_accuracy"]) == (repr(test_loss), repr(accuracy))
    assert numbers(row, "losses") == pytest.approx(losses, rel=1e-4)
    first, _ = trained(method, IMAGES, epochs=1, learning_rate=0.0)
    for column, scales in SCALES.items():
        growth = np.divide(scales(net), scales(first))
        assert numbers(row, column) == pytest.approx(growth, rel=1e-4)


def test_a_deep_tanh_network_is_trained_at_a_rate_that_falls_linearly_to_zero(path):
    """Over two epochs, with the minibatches of its seed, the last one that there is."""
    seed = 2**32 - 1
    study(path, "default=0.01", "--depth", "7", "--activation", "tanh", "--decay", "--seeds", f"{seed}:{seed + 1}",
          *BRIEF, "--images", "120", "--epochs", "2")
    torch.manual_seed(seed)
    net = Net(7, "tanh")
    optimizer = torch.optim.SGD(net.parameters(), lr=0.01, momentum=0.9)
    decay = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.0, total_iters=60)
    optimizer.register_step_post_hook(lambda *_: decay.step())
    losses = train(net, IMAGES, optimizer, epochs=2, seed=seed, report=lambda line: None)
    (row,) = rows_of(path)
    assert numbers(row, "losses") == pytest.approx(losses, rel=1e-3)
    assert (row["weight_growth"], row["torch"]) == ("", torch.__version__)


@pytest.mark.parametrize("losses, steps, parts", [
    ([1.23456], 1, [1.2346]), (np.arange(201), 201, [0.5, *range(2, 201)]),
    ([1.0, 5.0], 4, [1.0, 5.0, math.nan, math.nan])], ids=["five digits", "two in the first part", "diverged"])
def test_a_row_has_the_mean_losses_of_200_parts_of_a_training(losses, steps, parts):
    np.testing.assert_array_equal(reduce_losses(np.array(losses), steps), parts)


def test_a_training_that_diverged_has_a_row_without_growth(path):
    study(path, "default=1e20", *BRIEF, "--images", "120")
    (row,) = rows_of(path)
    assert row["losses"].endswith(" nan")
    assert row["weight_growth"] == ""


def test_what_is_named_is_trained_once(tmp_path):
    """Into a file whose folder is made."""
    printed = study(tmp_path / "new" / "results.csv", *NAMED, *BRIEF)
    assert sorted(re.findall("^(.*): training loss", printed, re.M)) == sorted(TRAINED)
    assert "images: 8; epochs: 1; trainings: 8." in printed


def test_one_relu_network_of_the_tutorials_depth_is_trained_at_a_constant_rate_if_nothing_else_is_said(path):
    assert study(path, "he", *BRIEF).startswith("he=0.001, depth 5, seed 0: ")


@holding(HELD)
@pytest.mark.parametrize("jobs, at_a_time", [([], 3), (["--jobs", "2"], 2)])
def test_as_many_trainings_at_a_time_as_pytorchs_threads_or_as_are_wanted(path, monkeypatch, jobs, at_a_time):
    called = []
    monkeypatch.setattr(torch, "get_num_threads", lambda: 3)
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


@pytest.mark.parametrize("held, arguments, problem", [
    ("", "", "results.csv' holds no results, and no method is named"),
    (HELD, "he --images 124", "images is 400, not 124"),
    (HELD, "--reference adam", "--reference: adam was not trained$"),
    (HELD, "he=0.002 --reference default=0.001,0.5", "--reference: default was not trained at 0.5"),
    (HELD, f"he --pictures {__file__}", "File exists|no folder"),
    (trainings("adam", 0.001, math.nan), "--reference adam", "--reference: all trainings .* diverged")])
def test_what_does_not_fit_the_file_is_refused_before_any_training(path, monkeypatch, arguments, problem):
    monkeypatch.setattr(data, "synthetic_images", pytest.fail)
    with pytest.raises((Failure, OSError), match=problem):
        study(path, *arguments.split())


def test_a_reference_may_be_what_is_yet_to_be_trained(path):
    page = tables(study(path, "he", "default", "--seeds", "0:2", *BRIEF, "--reference", "he=0.001"))
    assert list(page) == ["Differences from `he=0.001`"]


@pytest.mark.parametrize("arguments, message", [
    ("none", "there is no method 'none'"), ("default=1,fast", "invalid method value: 'default=1,fast'"),
    ("default=0", "0 is not from"), ("--reference=none", "there is no method 'none'"),
    ("--depth=5,x", "invalid depths value: '5,x'"),
    ("--depth=4", "4 is not from 5 to 400"), ("--depth=401", "401 is not from 5 to 400"),
    ("--jobs=0", "0 is not from 1"), ("--seeds=3", "invalid seeds value: '3'"),
    ("--seeds=-1:1", "'-1:1' is no range of seeds from 0 to 4294967295"), ("--seeds=2:2", "'2:2' is no range of seeds"),
    ("--seeds=0:4294967297", "'0:4294967297' is no range of seeds"),
    ("default --network=lenet5 --depth=7", "argument --network: --depth and --activation"),
    ("default --network=lenet5 --activation=tanh", "argument --network: --depth and --activation")])
def test_what_cannot_be_meant_is_refused(path, capsys, arguments, message):
    with pytest.raises(SystemExit, match="^2$"):
        study(path, *arguments.split())
    assert message in capsys.readouterr().err


def test_a_network_by_name_is_recorded_without_a_depth_and_an_activation(path):
    study(path, "default", "--network", "lenet5", *BRIEF)
    (row,) = rows_of(path)
    assert (row["depth"], row["activation"], row["network"]) == ("", "", "lenet5")
