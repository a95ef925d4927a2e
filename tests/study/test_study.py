"""The study's command: the pages beside the files, trainings that equal others, what is trained, what is refused."""
import re
from itertools import count
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn.functional import cross_entropy

from tests.helpers import METHODS as DEMO, random_images, trained, write_cifar10
from tests.study.helpers import BRIEF, HEADER, rows_of, study, tables, trainings
from util import data
from util.data import minibatches
from util.failure import Failure
from util.network import Net
from util.study import __main__ as command
from util.study.methods import measure
from util.theory import predict_current
from util.training import evaluate

RESULTS = Path(command.__file__).parent / "results"
PAGES = sorted(RESULTS.glob("*.md"))
HELD = HEADER + trainings("default", 0.001, 1.0, 1.1) + trainings("he", 0.001, 1.2, 1.4)
IMAGES, TEST = random_images(120), random_images(40)


@pytest.mark.parametrize("page", PAGES, ids=[page.stem for page in PAGES])
def test_the_page_beside_each_file_is_what_is_printed(page):
    name, _, reference = page.stem.partition("-minus-")
    printed = study(RESULTS / f"{name}.csv", *(["--reference", reference] if reference else []))
    assert printed == page.read_text(encoding="utf-8")
    headings = re.findall("^#+ .*", printed, re.M)
    assert len(set(headings)) == len(headings) > 1  # as links need


def numbers(row, column):
    return list(map(float, row[column].split()))


def test_a_training_of_the_study_is_that_of_the_demo(path):
    """Whatever is measured before and after it. Growth is last over first; numbers have five digits."""
    printed = study(path, *DEMO, "--seeds", "7:8", *BRIEF)
    for row in rows_of(path):
        net, losses = trained(row["method"], IMAGES, epochs=1)
        first, _ = trained(row["method"], IMAGES, epochs=1, learning_rate=0.0)
        assert numbers(row, "losses") == pytest.approx(losses.tolist(), rel=1e-4)
        assert (float(row["test_loss"]), float(row["test_accuracy"])) == evaluate(net, TEST)
        after, before = ([[layer[:4] for layer in layers] for layers in (measure(each, IMAGES, 7), predict_current(each))]
                         for each in (net, first))
        growth = np.array([[a[3] / b[3] for a, b in zip(*pair)] for pair in zip(after, before)])
        assert numbers(row, "measured_gradient_growth") == pytest.approx(growth[0], rel=1e-4)
        assert numbers(row, "predicted_gradient_growth") == pytest.approx(growth[1], rel=1e-4)
        weights = [a[1] / b[1] for a, b in zip(after[0], before[0])]
        assert numbers(row, "weight_growth") == pytest.approx(weights, rel=1e-4)
        said = f"training loss {losses[-3:].mean():.3f}, test loss {float(row['test_loss']):.3f}, accuracy "
        assert said + f"{float(row['test_accuracy']):.1%}; " in printed


def test_a_deep_tanh_network_is_trained_at_a_rate_that_falls_linearly_to_zero(path):
    """Over two epochs, with the minibatches of its seed."""
    study(path, "default=0.01", "--depth", "7", "--activation", "tanh", "--decay", "--seeds", "3:4", *BRIEF,
          "--epochs", "2")
    torch.manual_seed(3)
    net, order, losses = Net(7, "tanh"), torch.Generator().manual_seed(3), []
    optimizer = torch.optim.SGD(net.parameters(), momentum=0.9)
    for inputs, labels in [*minibatches(IMAGES, 4, order), *minibatches(IMAGES, 4, order)]:
        optimizer.param_groups[0]["lr"] = 0.01 * (60 - len(losses)) / 60
        loss = cross_entropy(net(inputs), labels)
        losses.append(loss.item())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    (row,) = rows_of(path)
    assert numbers(row, "losses") == pytest.approx(losses, rel=1e-3)
    assert float(row["test_loss"]) == pytest.approx(evaluate(net, TEST)[0], rel=1e-3)
    assert row["weight_growth"] == "" and row["torch"] == torch.__version__


def test_a_row_has_the_losses_of_200_parts_and_nan_for_what_a_diverged_training_lacks(path):
    """Of 201 steps, the first part has two."""
    study(path, "default=0.001,1e20", *BRIEF, "--images", "804", "--seeds", "7:8")
    whole, diverged = sorted(rows_of(path), key=lambda row: float(row["learning_rate"]))
    _, losses = trained("default", random_images(804), epochs=1)
    assert numbers(whole, "losses") == pytest.approx([losses[:2].mean(), *losses[2:]], rel=1e-4)
    assert len(numbers(diverged, "losses")) == 200 and diverged["losses"].endswith(" nan" * 190)
    assert diverged["weight_growth"] == ""


def test_what_is_named_is_trained(tmp_path):
    """Into a file whose folder is made."""
    printed = study(tmp_path / "new" / "results.csv", "he=1e-3,0.002", "adam", "he=0.001", "--depth", "6,7,6",
                    "--seeds", "1:3", "--decay", "--activation", "tanh", *BRIEF, "--images", "8")
    trained_ones = re.findall(r"^(.*): training loss", printed, re.M)
    assert sorted(trained_ones) == sorted(
        f"{method}, depth {depth}, seed {seed}" for depth in (6, 7) for seed in (1, 2)
        for method in ("he-tanh-decay=0.001", "he-tanh-decay=0.002", "adam-tanh-decay=0.001"))
    assert "images: 8; epochs: 1; trainings: 12." in printed


def test_one_relu_network_of_the_tutorials_depth_is_trained_at_a_constant_rate_if_nothing_else_is_said(path):
    assert study(path, "he", *BRIEF).startswith("he=0.001, depth 5, seed 0: ")


def test_as_many_trainings_at_a_time_as_cores_or_as_are_wanted(path, monkeypatch):
    at_a_time = []
    monkeypatch.setattr("os.sched_getaffinity", lambda process: {2, 3, 5}, raising=False)
    monkeypatch.setattr(command, "run_parallel", lambda function, tasks, processes: at_a_time.append(processes) or [])
    path.write_text(HELD)
    for jobs in [], ["--jobs", "2"]:
        study(path, "adam", *jobs)
    assert at_a_time == [3, 2]


def test_progress_is_told_in_minutes_by_the_time_that_trainings_took(path, monkeypatch):
    """90 s, as the clock says whenever it is asked."""
    clock = count(0, 90)
    monkeypatch.setattr("time.monotonic", lambda: next(clock))
    printed = study(path, "he", "--seeds", "0:3", "--jobs", "1", "--depth", "6", *BRIEF, "--images", "8")
    left = re.findall("; (. left, about . min)$", printed, re.M)
    assert left == ["2 left, about 3 min", "1 left, about 2 min", "0 left, about 0 min"]


@pytest.mark.parametrize("folder, dataset", [("cifar10", "cifar10"), ("empty", "synthetic")])
def test_a_data_set_that_was_chosen_by_itself_is_recorded_by_its_name(path, tmp_path, monkeypatch, folder, dataset):
    """In a new file; and again, when the name is the file's."""
    write_cifar10(tmp_path / "cifar10", monkeypatch)
    for method in "default", "he":
        study(path, method, "--images", "20", "--epochs", "1", "--data-dir", str(tmp_path / folder))
    assert [(row["method"], row["dataset"]) for row in rows_of(path)] == [("default", dataset), ("he", dataset)]


@pytest.mark.parametrize("arguments, problem", [
    (["--epochs", "1"], "epochs is 2, not 1"), (["--images", "124"], "images is 400, not 124"),
    (["--dataset", "cifar10"], "dataset is synthetic, not cifar10"),
    (["--reference", "adam"], "--reference: adam was not trained$"),
    (["--reference", "default=0.5"], "--reference: default was not trained at 0.5"),
    (["--pictures", "{path}"], "File exists")])
def test_what_does_not_fit_the_file_is_refused_before_any_work(path, monkeypatch, arguments, problem):
    path.write_text(HELD)
    monkeypatch.setattr(data, "synthetic_images", pytest.fail)
    with pytest.raises((Failure, OSError), match=problem):
        study(path, "adam=0.01" if "adam" not in arguments else "he=0.01", *[word.format(path=path) for word in arguments])
    assert path.read_text() == HELD


def test_a_reference_may_be_what_is_yet_to_be_trained(path):
    page = study(path, "he", "default", "--seeds", "0:2", *BRIEF, "--reference", "he=0.001")
    ((compared, seeds, *_),) = tables(page)["Differences from `he=0.001`"]
    assert (compared, seeds) == ("`default=0.001`", "2")


def test_a_reference_that_diverged_is_named(path):
    path.write_text(HELD + trainings("adam", 0.001, float("nan")))
    with pytest.raises(Failure, match=f"all trainings of adam in '{path}' diverged"):
        study(path, "--reference", "adam")


def test_a_file_without_the_default_training_is_reported(path):
    path.write_text(HEADER + trainings("he", 0.001, 1.0))
    assert list(tables(study(path))) == ["Outcomes"]


def test_a_report_of_nothing_is_refused(path):
    with pytest.raises(Failure, match=f"'{path}' holds no results, and no method is named"):
        study(path)


@pytest.mark.parametrize("argument, message", [
    ("none", "there is no method 'none'"), ("default=0", "0 is not from"),
    ("default=1,fast", "'fast' is no learning rate"), ("--reference=he=fast", "'fast' is no learning rate"),
    ("--reference=none", "there is no method 'none'"), ("--depth=5,x", "'x' is no number of layers"),
    ("--depth=4", "4 is not from 5 to 400"), ("--depth=401", "401 is not from 5 to 400"),
    ("--activation=gelu", "gelu"), ("--images=3", "3 is not from 8 to 50000"), ("--epochs=0", "0 is not from 1"),
    ("--jobs=0", "0 is not from 1"), ("--dataset=mnist", "mnist"), ("--seeds=3", "'3' is no range FIRST:END"),
    ("--seeds=a:3", "'a' is no seed"), ("--seeds=0:b", "'b' is no seed"), ("--seeds=-1:1", "-1 is not from 0"),
    ("--seeds=2:2", "the range 2:2 is empty"), ("--seeds=0:4294967297", "4294967297 is not from")])
def test_what_cannot_be_meant_is_refused(path, capsys, argument, message):
    with pytest.raises(SystemExit, match="^2$"):
        study(path, argument)
    assert message in capsys.readouterr().err
