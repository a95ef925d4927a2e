"""The study: its methods against plain loops, its statistics by hand, and its command on a few synthetic images."""
import csv
import functools
import hashlib
import math
import multiprocessing
import pickle
import re
import resource
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torchvision.datasets import CIFAR10

from tests.helpers import IMAGES, METHODS as DEMO, random_images, trained
from util import data
from util.data import DataSet, minibatches, scale
from util.failure import Failure
from util.network import Net
from util.static_preconditioned_train import preconditioner
from util.study import __main__ as command, methods, report, results
from util.study.methods import METHODS
from util.study.results import (COLUMNS, Conditions, Configuration, Trial, TrialResult, append, check_appendable,
                                read_results, reduce_losses, write_row)
from util.study.statistics import Results, good_rates, holm, interval, outcomes, overtaking_epoch
from util.study.theory import Ends
from util.theory import initialize, input_moments, predict, predict_current
from util.training import evaluate, train

DATA = DataSet("synthetic", IMAGES, random_images(40))
SETTINGS = ["--images", "120", "--epochs", "1", "--dataset", "synthetic"]  # 30 steps an epoch, as with DATA
SWEEP = ["default=0.001,0.01", "preconditioned=0.001,1e10", "--seeds", "0:2"]
TRIAL = Trial("default", 0.001, False, 5, 0, "synthetic", 120, 1)
RESULT = TrialResult(TRIAL, "2.0.0", 2.25, 0.125, (2.3026, 2.0) * 15, (1.5,) * 5, (2.5,) * 5, (3.5,) * 5)
UNMEASURED = dict(weight_growth=(), measured_gradient_growth=(), predicted_gradient_growth=())
RELU = Conditions("relu", False, 5)
RESULTS = Path(report.__file__).parent / "results"
PAGES = sorted(RESULTS.glob("*.md"))
BIAS_VARIANCES = {"variance-preserving": 0.04, "zero bias": 0.0, "fifth bias": 0.2, "half bias": 0.5,
                  "for the images": 0.04}


def rms(tensor):
    return tensor.detach().square().mean().sqrt().item()


def network(name):
    """Return the network of seed 7 as a method must begin to train it, and the statistics that go with it."""
    torch.manual_seed(7)
    net = Net()
    initialization = METHODS[name].initialization
    if initialization == "PyTorch":
        return net, predict_current(net)
    if initialization == "He":
        for layer, module in net.named_children():
            if layer.startswith(("conv", "fc")):
                module.weight.data.normal_(std=(2 / module.weight[0].numel()) ** 0.5)
                module.bias.data.fill_(0)
        return net, predict_current(net)
    moments = input_moments(scale(IMAGES.pixels)) if initialization == "for the images" else (1, 0)
    statistics = predict(net, bias_variance=BIAS_VARIANCES[initialization], input_moments=moments)
    initialize(net, statistics)
    return net, statistics


@pytest.mark.parametrize("name", [name for name, method in METHODS.items()
                                  if method.gradient in ("plain", "fixed factors")])
def test_trainings_equal_a_plain_loop(name):
    """To 0.1 %, since a ReLU or max pool may switch over by rounding. Decay ends with a 60th of the learning rate."""
    net, statistics = network(name)
    decay = name in ("default", "adam")
    factors = preconditioner(net, statistics) if METHODS[name].gradient == "fixed factors" else [1] * 10
    adam, sgd = torch.optim.Adam, functools.partial(torch.optim.SGD, momentum=0.9)
    optimizer = (adam if METHODS[name].optimizer == "Adam" else sgd)(net.parameters(), lr=0.001)
    order, losses = torch.Generator().manual_seed(7), []
    for inputs, labels in [*minibatches(IMAGES, 4, order), *minibatches(IMAGES, 4, order)]:
        optimizer.param_groups[0]["lr"] = 0.001 * (60 - len(losses)) / 60 if decay else 0.001
        loss = torch.nn.functional.cross_entropy(net(inputs), labels)
        losses.append(loss.item())
        optimizer.zero_grad()
        loss.backward()
        for parameter, factor in zip(net.parameters(), factors):
            parameter.grad *= factor
        optimizer.step()
    result = command.perform(DATA, Trial(name, 0.001, decay, 5, 7, "synthetic", 122, 2))
    assert result.losses == pytest.approx(losses, rel=1e-3)
    start = network(name)[0]
    growth = [rms(net.get_submodule(name).weight) / rms(start.get_submodule(name).weight) for name in report.LAYERS]
    assert result.weight_growth == pytest.approx(growth, rel=1e-3)


def test_moments_of_the_images():
    """To a relative 1e-5, since pixels are scaled in float32."""
    images = random_images(130)
    images.pixels[100:, :, :, 16:] = 200  # so that neighbours have something in common, and the last images more
    x = images.pixels.double().numpy() / 127.5 - 1
    across = x[:, :, :, 1:] * x[:, :, :, :-1]
    down = x[:, :, 1:] * x[:, :, :-1]
    expected = np.mean(x**2), (across.mean() + down.mean()) / 2
    assert input_moments(scale(images.pixels)) == pytest.approx(expected, rel=1e-5)


def test_a_deeper_network_is_trained():
    torch.manual_seed(3)
    net = Net(7)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.01, momentum=0.9)
    losses = train(net, IMAGES, optimizer, epochs=1, seed=3, report=lambda line: None)
    result = command.perform(DATA, Trial("default", 0.01, False, 7, 3, "synthetic", 122, 1))
    assert result.losses == pytest.approx(losses.tolist(), rel=1e-3)
    assert result.test_loss == pytest.approx(evaluate(net, DATA.test)[0], rel=1e-4) and result.weight_growth == ()


@pytest.mark.parametrize("method", DEMO)
def test_a_training_of_the_study_is_that_of_the_demo(method):
    """Whatever is measured before and after it; growth is last over first."""
    result = command.perform(DATA, Trial(method, 0.001, False, 5, 7, "synthetic", 122, 2))
    net, losses = trained(method)
    assert (result.test_loss, result.test_accuracy) == evaluate(net, DATA.test)
    assert result.losses == reduce_losses(losses, 60)
    first, last = (methods.measure(each, IMAGES, 7) for each in (network(method)[0], net))
    growth = [after.weight_gradient_std / before.weight_gradient_std for before, after in zip(first, last)]
    assert result.measured_gradient_growth == pytest.approx(growth, rel=1e-4)  # five digits


def write_rows(path, *runs):
    for run in runs:
        append(run, path)


def test_a_network_has_the_depth_and_activation_of_its_trial(monkeypatch):
    made_of = []

    def record(*arguments):
        made_of.append(arguments)
        return Net()

    monkeypatch.setattr(command, "Net", record)
    command.perform(DATA, Trial("default", 0.001, False, 7, 3, "synthetic", 122, 1, "tanh"))
    assert made_of == [(7, "tanh")]


def test_growth_is_measured_with_the_seed_of_the_training(monkeypatch):
    seeds = []

    def record(net, images, seed):
        seeds.append(seed)
        return predict_current(net)

    monkeypatch.setattr(command, "measure", record)
    command.perform(DATA, Trial("default", 0.001, False, 5, 3, "synthetic", 122, 1))
    assert seeds == [3, 3]


def test_losses_are_averaged_over_parts_of_the_run():
    """Of 400 steps, two in each of 200 parts; a training that ended early lacks the rest."""
    assert reduce_losses(np.arange(400), 400) == tuple(np.arange(200) * 2 + 0.5)
    assert reduce_losses(np.array([1.0, 2.0, 4.0]), 3) == (1, 2, 4)
    ended = reduce_losses(np.array([1.0, 3.0, 2.0]), 400)
    assert ended[0] == 2 and len(ended) == 200 and np.isnan(ended[1:]).all()
    assert reduce_losses(np.array([1.2345678]), 1) == (1.2346,)


@pytest.mark.parametrize("run", [
    RESULT, RESULT._replace(losses=(8e17, math.inf) * 15, **UNMEASURED),
    RESULT._replace(trial=TRIAL._replace(learning_rate=1 / 3, decay=True, activation="tanh"))])
def test_rows_are_read_as_they_were_written(tmp_path, run):
    path = tmp_path / "results.csv"
    other = run._replace(trial=TRIAL._replace(seed=1))
    write_rows(path, run, other)
    assert read_results(path) == [run, other]
    joined = path.read_text() * 2  # as by cat
    path.write_text(joined)
    append(run._replace(test_loss=9.0), path)  # of what stands there twice, the first counts
    assert read_results(path) == [run, other]


def without_activation(path):
    """Make an older file of a new one, which holds ReLU networks only."""
    path.write_text(path.read_text().replace("activation,", "").replace("relu,", ""))


def test_older_files_have_no_column_for_the_activation(tmp_path):
    path = tmp_path / "results.csv"
    write_rows(path, RESULT)
    without_activation(path)
    assert read_results(path) == [RESULT]
    other = RESULT._replace(trial=TRIAL._replace(seed=1))
    append(other, path)
    assert read_results(path) == [RESULT, other] and "relu" not in path.read_text()
    tanh = TRIAL._replace(activation="tanh")
    for refused in lambda: append(RESULT._replace(trial=tanh), path), lambda: check_appendable(tanh, path):
        with pytest.raises(Failure, match="no column for activation tanh"):
            refused()
    assert len(read_results(path)) == 2


@pytest.mark.parametrize("name", ["tuning", "result", "cause", "depth"])
def test_files_that_exist_are_written_as_they_stand(name):
    path = RESULTS / f"{name}.csv"
    header, *rows = path.read_text().splitlines(keepends=True)
    results = read_results(path)
    assert [write_row(result, header.strip().split(",")) for result in results] == rows


def test_columns_may_stand_in_any_order_below_a_byte_order_mark(tmp_path):
    path = tmp_path / "results.csv"
    write_rows(path, RESULT)
    with open(path) as file:
        (row,) = csv.DictReader(file)
    with open(path, "w", encoding="utf-8-sig", newline="") as file:
        writer = csv.DictWriter(file, sorted(row))
        writer.writeheader()
        writer.writerow(row)
    other = RESULT._replace(trial=TRIAL._replace(seed=1))
    append(other, path)
    assert read_results(path) == [RESULT, other]


@pytest.mark.parametrize("settings", [dict(epochs=2), dict(images=240), dict(dataset="cifar10")])
def test_rows_of_other_settings_are_not_appended(tmp_path, settings):
    path = tmp_path / "results.csv"
    write_rows(path, RESULT)
    before = path.read_bytes()
    other = TRIAL._replace(seed=1, **settings)
    with pytest.raises(Failure, match=f"{next(iter(settings))} is"):
        append(RESULT._replace(trial=other, losses=RESULT.losses * 2), path)
    assert path.read_bytes() == before


def test_rows_are_compared_with_what_another_study_appended_before(tmp_path, monkeypatch):
    """It had the lock until now."""
    path, another = tmp_path / "results.csv", tmp_path / "another.csv"
    write_rows(another, RESULT)
    monkeypatch.setattr(results.fcntl, "flock", lambda file, operation: path.write_bytes(another.read_bytes()))
    with pytest.raises(Failure, match="images is 120, not 122"):
        append(RESULT._replace(trial=TRIAL._replace(images=122)), path)
    assert read_results(path) == [RESULT]


def test_half_a_row_is_taken_back(tmp_path):
    """The limit is 10 bytes more than the file has."""
    path = tmp_path / "results.csv"
    write_rows(path, RESULT)
    before = path.read_bytes()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(before) + 10, limits[1]))
    try:
        with pytest.raises(Failure, match="no room for a whole row"):
            append(RESULT._replace(trial=TRIAL._replace(seed=1)), path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert path.read_bytes() == before


@pytest.mark.parametrize("change, problem", [
    (lambda text: text.replace("method,", "methods,"), ":1: the header"),
    (lambda text: text[:-1], ":2: the last line is not finished; delete it"),
    (lambda text: text.replace("test_loss,", ""), ":1: the header"),
    (lambda text: text.replace(",synthetic,", ",cifar,"), ":2: .*no dataset 'cifar'"),
    (lambda text: text.replace(",relu,", ",gelu,"), ":2: .*no activation 'gelu'"),
    (lambda text: text.replace("default", "none"), ":2: .*no method 'none'"),
    (lambda text: text.replace("False,5", "False,4"), ":2: .*depth is 4"),
    (lambda text: text.replace("False", "no"), ":2: .*'no' is neither True nor False"),
    (lambda text: text.replace("0.125,", ""), ":2: .*columns"),
    (lambda text: text.replace("2.3026 2.0", "2.3026 two"), ":2: .*'two'"),
    (lambda text: text.replace("2.3026 2.0", "2.3026 2.\udcff"), ":2: this row cannot be read"),
    (lambda text: text.replace("2.3026 2.0", "2.0", 1), ":2: .*29 losses instead of 30"),
    (lambda text: text.replace("2.5 2.5", "2.5"), ":2: .*growths are not of 5 layers"),
    (lambda text: text.replace("0.125", "12.5"), ":2: .*test_accuracy is 12.5"),
    (lambda text: text.replace("False,5,0", "False,5,-1"), ":2: .*too small"),
    (lambda text: text.replace("0.001", "inf"), ":2: .*learning_rate is inf"),
    (lambda text: text.replace("False,5", "False,401"), ":2: .*depth is 401"),
    (lambda text: text + text.splitlines()[1].replace(",120,", ",121,") + "\n", ":3: images is 121, not 120"),
    (lambda text: text + text.splitlines()[1].replace("synthetic", "cifar10") + "\n", ":3: dataset is cifar10"),
])
def test_what_cannot_be_read_is_refused_by_line(tmp_path, change, problem):
    path = tmp_path / "results.csv"
    write_rows(path, RESULT)
    path.write_text(change(path.read_text()), errors="surrogateescape")
    before = path.read_bytes()
    with pytest.raises(Failure, match=f"^{path}{problem}"):
        read_results(path)
    assert path.read_bytes() == before


@pytest.mark.parametrize("change, diverged", [
    ({}, False), ({"test_loss": math.nan}, True), ({"losses": (1.0, math.nan)}, True),
    ({"losses": (1.0, 10.0)}, False), ({"losses": (1.0, 11.0)}, True), ({"losses": (1.0, 8e17)}, True),
    ({"losses": (1.0,) * 18 + (19.0, 2.0)}, True)])
def test_divergence(change, diverged):
    assert RESULT._replace(**change).diverged == diverged


def made(method, rate, *losses, seeds=None, decay=False, depth=5, activation="relu"):
    """Return a run of two epochs for each loss, a number or 200 of them, with the seeds 0, 1, ... or others."""
    return [TrialResult(Trial(method, rate, decay, depth, seed, "synthetic", 400, 2, activation), "2.0.0", 2.0, 0.5,
                tuple(np.broadcast_to(np.float64(loss), 200).tolist()))
            for seed, loss in zip(seeds or range(len(losses)), losses)]


def test_rows_of_other_epochs_are_refused(tmp_path):
    """Both have 200 losses."""
    path, second = tmp_path / "results.csv", tmp_path / "second.csv"
    (run,) = made("default", 0.001, 1.0)
    write_rows(path, run)
    write_rows(second, run._replace(trial=run.trial._replace(epochs=3)))
    path.write_text(path.read_text() + second.read_text())
    with pytest.raises(Failure, match=":4: epochs is 3, not 2$"):
        read_results(path)


def test_statistics():
    """Student's t with two degrees of freedom has its 97.5 % point at 4.302653. Rates: to one step of 0.1 %."""
    assert interval(np.array([1.0, 2.0, 3.0])) == pytest.approx((2, 4.302653 / 3**0.5, 1 - (6 / 7) ** 0.5))
    assert holm([0.6, 0.01, 0.031, 0.03, 0.005, 0.9]) == pytest.approx([1, 0.05, 0.12, 0.12, 0.03, 1])
    low, high = good_rates([1e-4, 1e-3, 1e-2], [1.4, 1.0, 1.2])
    assert (low, high) == pytest.approx((10**-3.25, 10**-2.5), rel=1e-3)
    low, high = good_rates([1e-3, 1e-2], [1.0, np.inf])
    assert (low, high) == pytest.approx((1e-3, 10 ** (-3 + 0.1 / 9)), rel=1e-3)


def test_outcomes_of_losses_that_change():
    """Of 0 to 199 over two epochs: means of eight around 10 and around 100, and of the last twenty."""
    (run,) = made("default", 0.001, np.arange(200))
    assert list(outcomes(run)) == [9.5, 99.5, 189.5, 2, 50]


def test_around_an_epoch_are_eight_parts():
    """Of the squares of 0 to 199: the mean of 6 to 13, squared, and of 96 to 103."""
    (run,) = made("default", 0.001, np.arange(200) ** 2)
    assert list(outcomes(run))[:2] == [95.5, 9905.5]


def rows_of(text):
    """Return the rows of the table in a section of the page, without its head."""
    return [line for line in text.splitlines() if line.startswith("| ")][2:]


def test_best_rate_is_chosen_on_the_seeds_that_it_was_tuned_on_and_reported_on_the_others():
    """With all rates on seed 0 alone, 0.2 were best; 0.05 and 1.0 have not all seeds of the others."""
    runs = made("adam", 0.1, 1.5, 5.0, 7.0, 1.0, seeds=[0, 1, 2, 20])
    runs += made("adam", 0.2, 1.4, 2.0, seeds=[0, 20])
    runs += made("adam", 0.5, 2.0, 2.0, seeds=[0, 20])
    runs += made("adam", 0.05, 1.0, seeds=[20]) + made("adam", 1.0, math.nan, seeds=[0])
    results = Results(runs)
    best = Configuration("adam", RELU, 0.1)
    assert results.best == {("adam", RELU): best} and results.tuning_seeds(best.sweep) == {0, 20}
    assert results.seeds(best) == [1, 2] and results.outcomes(best)[:, 2].tolist() == [5, 7]
    table = report.outcome_table(results)
    assert "| **`adam=0.1`** | 5 | 2 | 6.000 ± 1.414 | 6.000 ± 1.414 | 6.000 ± 1.414 |" in table
    assert "| `adam=1.0` | 5 | 1 | diverged: 1 of 1 |" in table
    assert rows_of(report.rate_table(results))[0].startswith("| `adam=0.1` | 5 | 0, 20 | 1.250 |")


def test_two_rates_are_no_tuning():
    """All seeds count, and all are reported."""
    results = Results([*made("adam", 0.1, 1.0, 5.0), *made("adam", 0.01, 2.0, 3.0)])
    best = Configuration("adam", RELU, 0.01)
    assert results.best == {("adam", RELU): best} and results.tuning_seeds(best.sweep) == set()
    assert results.seeds(best) == [0, 1]
    assert rows_of(report.rate_table(results))[0].startswith("| `adam=0.01` | 5 | 0, 1 | 2.500 |")


def test_a_seed_that_no_rate_shares_does_not_keep_a_rate_from_being_the_best():
    runs = [run for rate in (0.1, 0.2, 0.3) for run in made("adam", rate, rate, seeds=[0])]
    runs += [run for rate in (0.4, 0.5, 0.6) for run in made("adam", rate, rate, seeds=[1])]
    assert Results(runs).best["adam", RELU].learning_rate == 0.1


def test_comparisons_are_paired_by_seed_under_the_same_conditions():
    """Of seeds 1 and 2: mean -0.3, and 12.706 standard errors of 0.2."""
    runs = made("default", 0.001, 1, 2, 3)
    runs += made("default", 0.01, 0, 0, 0, decay=True)
    runs += made("default", 0.001, 9, 9, 9, depth=7)
    runs += made("default", 0.001, 8, 8, 8, activation="tanh")
    runs += made("adam", 0.001, 2.9, 1.5, 9, seeds=[2, 1, 3])
    runs += made("measured", 0.001, 0, 1.001, 1.999)
    results = Results(runs)
    reference = Configuration("default", RELU, 0.001)
    measured, adam = rows_of(report.difference_table(results, reference, best_only=True))
    assert adam.startswith("| `adam=0.001` | 2 | -0.300 ± 2.541 | -0.300 ± 2.541 | -0.300 ± 2.541 |")
    assert measured.startswith("| `measured=0.001` | 3 | -1.000 ± 0.002 | -1.000 ± 0.002 | -1.000 ± 0.002 * |")
    assert len(results.references("default", None)) == 4 and len(results.references("default", 0.01)) == 1


BEFORE, AFTER = np.repeat([1.0, 0.0], 100), np.repeat([0.0, 1.0], 100)  # the first epoch, and the second


@pytest.mark.parametrize("leads, gains, epoch", [
    ([1, 2, 3], [1, 2, 3], 1.0),  # t = 3.46 by 2.92, p = 0.037
    ([0, 2, 4], [1, 2, 3], None),  # t = 1.73, p = 0.113
    ([1, 2, 3], [0, 2, 4], None),
    ([1, 2, 3], [-1, -2, -3], None)])
def test_overtaking_is_judged_over_seeds(leads, gains, epoch):
    runs = made("default", 0.001, 5, 5, 5)
    runs += made("he", 0.001, *[5 - lead * BEFORE + gain * AFTER for lead, gain in zip(leads, gains)])
    assert Results(runs).overtaken(Configuration("he", RELU, 0.001)) == epoch


def test_the_overtaking_is_where_the_sum_is_least_on_average():
    """One seed turns after 90 parts, two with twice the differences after 100."""
    early, late = np.repeat([-1.0, 1.0], [90, 110]), np.repeat([-2.0, 2.0], 100)
    assert overtaking_epoch(np.array([early, late, late]), 100) == 1.0


def test_the_default_training_that_overtakes_is_the_best_one_under_the_same_conditions():
    """At another rate, with another seed, depth or activation it does not."""
    runs = made("default", 0.001, 5, 5, 5, depth=7) + made("default", 0.01, 9, 9, 9, depth=7)
    runs += made("default", 0.001, 1, 1, 1) + made("default", 0.001, 1, 1, 1, activation="tanh", depth=7)
    runs += made("he", 0.001, *[5 - size * BEFORE + size * AFTER for size in (1, 2, 3)], 0, depth=7)
    results = Results(runs)
    assert results.overtaken(Configuration("he", RELU._replace(depth=7), 0.001)) == 1.0
    (row,) = [row for row in rows_of(report.outcome_table(results)) if "he" in row]
    assert row.endswith(" | 1.00 |")
    assert results.overtaken(Configuration("default", RELU, 0.001)) is None
    assert Results(made("he", 0.001, 1.0, 2.0)).overtaken(Configuration("he", RELU, 0.001)) is None


def test_chance_overtakes_in_a_few_of_a_hundred_comparisons():
    """Of 1,000 with five seeds of independent noise, 2.5 % in the long run; three standard errors are 1.5 %."""
    rng = np.random.default_rng(0)
    overtaken = sum(overtaking_epoch(rng.standard_normal((5, 200)), 100) is not None for _ in range(1000))
    assert 0 < overtaken < 50


def test_no_training_is_compared_with_one_under_other_conditions():
    runs = []
    for method in "default", "he":
        runs += made(method, 0.001, 1, 2)
        runs += made(method, 0.001, 3, 5, decay=True)
        runs += made(method, 0.001, 6, 9, depth=7)
        runs += made(method, 0.001, 7, 9, activation="tanh")
    held = Results(runs)
    for rate in None, 0.001:
        parts = [report.difference_table(held, reference, rate is None)
                 for reference in held.references("default", rate)]
        compared = {part.splitlines()[0]: rows_of(part) for part in parts}
        assert {head: [row.split("`")[1] for row in rows] for head, rows in compared.items()} == {
            "## Differences from `default=0.001`": ["he=0.001"],
            "## Differences from `default=0.001`, depth 7": ["he=0.001"],
            "## Differences from `default-decay=0.001`": ["he-decay=0.001"],
            "## Differences from `default-tanh=0.001`": ["he-tanh=0.001"]}


def test_tables_without_what_diverged_or_has_one_depth():
    diverged = Results([*made("default", 0.001, math.nan, 1.0), *made("preconditioner-only", 0.001, 1.0, 1.0)])
    assert report.pair_table(diverged, False) == ""
    assert not any("at depth" in part for part in report.sections(diverged))
    swapped = Results([*made("default", 0.001, 1.0, 1.0), *made("preconditioner-only", 0.001, math.nan, 1.0)])
    assert report.pair_table(swapped, False) == ""


def test_where_no_rate_trains_none_is_good():
    results = Results([*made("adam", 0.1, 2.3, 2.3), *made("adam", 0.01, 2.31)])
    assert rows_of(report.rate_table(results)) == ["| `adam=0.1` | 5 | 0, 1 | 2.300 | none | none |"]


def test_the_edge_of_small_rates_is_that_of_the_rates():
    """Between 1e-9 and 4e-9 the loss rises by 0.1 up to 2e-9, where nobody tried."""
    held = Results([*made("adam", 1e-9, 1.0), *made("adam", 4e-9, 1.2)])
    assert rows_of(report.rate_table(held)) == ["| `adam=1e-09` | 5 | 0 | 1.000 | 1e-09 (edge) | 2e-09 |"]


def test_stars_are_those_of_the_last_tenth():
    """One is early apart for certain and ends anyhow, the other the other way round."""
    runs = made("default", 0.001, 0, 0, 0)
    runs += made("adam", 0.001, AFTER - 3 * BEFORE, -AFTER - 3.1 * BEFORE, 0.5 * AFTER - 3 * BEFORE)
    runs += made("he", 0.001, BEFORE - 3 * AFTER, -BEFORE - 3.1 * AFTER, 0.5 * BEFORE - 3 * AFTER)
    reference = Configuration("default", RELU, 0.001)
    he, adam = rows_of(report.difference_table(Results(runs), reference, best_only=True))
    assert "| -3.033 ± 0.143 * |" in he and he.count("*") == 1
    assert "| -3.033 ± 0.143 |" in adam and adam.count("*") == 0


def test_depth_tables():
    """Three of the default trainings have learnt nothing; the preconditioner adds -1.3 on average."""
    results = Results([*made("default", 0.001, 2.0, 2.3, 2.3, depth=7), *made("default", 0.001, 1.5),
                       *made("preconditioner-only", 0.001, 1.0, 1.0, 0.7, depth=7)])
    assert "| `default` | 1.500 | 2.200 ± 0.173, trained: 1 of 3 |" in report.depth_table(results, "relu", False)
    (row,) = rows_of(report.pair_table(results, False))
    assert row.startswith("| 14.8 | `preconditioner-only=0.001` | `default=0.001` | 7 | 3 | -1.300 ±")
    assert "| He | 2.1 | 2.1 |" in report.gradient_table([5, 7], "relu")
    assert "| zero bias | 0.089 |" in report.difference_left_table([5], "relu")


def test_the_theory_is_told_the_activation(monkeypatch):
    """Here it says 1 for tanh and 2 for ReLU."""
    says = {"tanh": 1.0, "relu": 2.0}
    monkeypatch.setattr(report, "ends", lambda name, depth, activation: Ends(says[activation], says[activation]))
    monkeypatch.setattr(report, "spread", lambda name, depth, activation: says[activation])
    runs = []
    for method in "default", "preconditioner-only":
        runs += made(method, 0.001, 1.0, 1.1, depth=7, activation="tanh") + made(method, 0.001, 1.0, 1.1)
    sections = {part.splitlines()[0][3:]: rows_of(part)[0] for part in report.sections(Results(runs)) if part}
    assert sections["First gradient by depth"] == "| PyTorch | 2 | 2 |"
    assert sections["First gradient by depth, tanh"] == "| PyTorch | 1 | 1 |"
    assert sections["Difference between inputs by depth, tanh"] == "| PyTorch | 1 | 1 |"
    assert sections["What the preconditioner adds, constant learning rate"].startswith(
        "| 1 | `preconditioner-only-tanh=0.001` | `default-tanh=0.001` | 7 | 2 |")
    assert sections["Final loss by depth, constant learning rate, tanh"] == "| `default` |  | 1.050 ± 0.071 |"


def test_pairs_are_sorted_by_the_spread_of_the_gradients():
    """It is 3.95 and 14.8 for PyTorch's initialization, 3.30 for the demo's; only one difference is significant."""
    runs = []
    for depth in 7, 5:
        runs += made("default", 0.001, 2.0, 2.0, 2.0, depth=depth)
        runs += made("preconditioner-only", 0.001, 1.0, 2.0, 3.0, depth=depth)
    runs += made("initialization-only", 0.001, 2.0, 2.0, 2.0, depth=7)
    runs += made("preconditioned", 0.001, 1.0, 1.01, 1.02, depth=7)
    rows = [row.split(" | ") for row in rows_of(report.pair_table(Results(runs), False))]
    assert [row[0] for row in rows] == ["| 3.3", "| 3.95", "| 14.8"]
    assert [row[3] for row in rows] == ["7", "5", "7"]
    assert [row[-1] for row in rows] == ["-0.990 ± 0.025 * |", "+0.000 ± 2.484 |", "+0.000 ± 2.484 |"]


@pytest.mark.parametrize("path", PAGES, ids=[path.stem for path in PAGES])
def test_pages_beside_the_files_are_what_is_printed(path, capsys):
    name, _, reference = path.stem.partition("-minus-")
    study(RESULTS / f"{name}.csv", *(["--reference", reference] if reference else []))
    assert capsys.readouterr().out == path.read_text(encoding="utf-8")


def test_each_section_has_a_heading_of_its_own():
    for path in PAGES:
        headings = [line for line in path.read_text(encoding="utf-8").splitlines() if line.startswith("#")]
        assert len(set(headings)) == len(headings) > 1


def test_what_is_left_of_a_difference_by_monte_carlo():
    """Two inputs of white noise, 1,000 networks; half the squared difference is 1 - rho, as variances are 1.

    To 6 %, three standard errors in the last layer, and more in the others.
    """
    torch.manual_seed(0)
    net = Net(7)
    statistics = predict(net)
    left = {layer.name: [] for layer in statistics}

    def recorder(name):
        def record(module, inputs, output):
            left[name].append((output[0] - output[1]).square().mean().item() / 2)
        return record

    for name in left:
        net.get_submodule(name).register_forward_hook(recorder(name))
    for _ in range(1000):
        initialize(net, statistics)
        with torch.no_grad():
            net(torch.randn(2, 3, 32, 32))
    measured = [np.mean(values) for values in left.values()]
    assert [1 - layer.correlation for layer in statistics] == pytest.approx(measured, rel=0.06)


@pytest.mark.filterwarnings("error")
def test_studies_that_diverged_are_reported():
    for loss in math.nan, 8e17, math.inf:
        results = Results([*made("default", 0.001, loss, loss), *made("adam", 0.001, loss, loss, depth=7)])
        text = report.page("name", results, report.sections(results))
        assert text.count("| diverged: 2 of 2 |") == text.count("| trained: 0 of 2, diverged: 2 |") == 2
        assert "| minus" not in text


SYNTHETIC = functools.lru_cache(None)(data.synthetic_images)  # made once, also for forked processes


def study(path, *arguments):
    """Call the command in this process, without pictures."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["study", str(path), *arguments])
        patch.setattr(data, "TEST_IMAGES", 100)
        patch.setattr(data, "synthetic_images", SYNTHETIC)
        command.main()


def test_an_interrupted_study_is_completed_by_two_at_once(tmp_path, capfd):
    """Nothing is rewritten, and nothing is trained again."""
    path = tmp_path / "results.csv"
    study(path, *SWEEP, *SETTINGS, "--seeds", "0:1")
    before = path.read_text()
    fork = multiprocessing.get_context("fork").Process
    both = [fork(target=study, args=(path, *SWEEP, "--seeds", seeds)) for seeds in ("0:2", "1:3")]
    for process in both:
        process.start()
    for process in both:
        process.join()
        assert process.exitcode == 0
    assert path.read_text().startswith(before)
    assert {(run.trial.seed, run.trial.method) for run in read_results(path)} == {
        (seed, method) for seed in range(3) for method in ("default", "preconditioned")}
    assert len(read_results(path)) == 12
    assert path.read_text().count(",5,0,synthetic") == 4  # seed 0 was not trained again
    complete = path.read_bytes()
    capfd.readouterr()
    study(path, *SWEEP, "--seeds", "0:3")
    study(path, "--dataset", "auto")  # which is the file's
    output = capfd.readouterr().out
    assert path.read_bytes() == complete and " left" not in output
    assert output.count("| `preconditioned=10000000000.0` | 5 | 3 | diverged: 3 of 3 |") == 2


@pytest.mark.parametrize("arguments, problem", [
    (["--epochs", "2"], "epochs is 1, not 2"), (["--images", "124"], "images is 120, not 124"),
    (["--dataset", "cifar10"], "dataset is synthetic, not cifar10"),
    (["--reference", "adam"], "adam was not trained"),
    (["--reference", "default=0.5"], "default was not trained at 0.5")])
def test_what_does_not_fit_the_file_is_refused_before_any_work(tmp_path, monkeypatch, arguments, problem):
    path = tmp_path / "results.csv"
    write_rows(path, RESULT)
    before = path.read_bytes()
    monkeypatch.setattr(command, "load", pytest.fail)
    with pytest.raises(Failure, match=problem):
        study(path, "he", *arguments)
    assert path.read_bytes() == before and COLUMNS[0] == "method"


def test_what_is_named_is_trained(tmp_path, monkeypatch):
    """Into a file whose folder is made."""
    called = []

    def record(function, tasks, processes):
        called.append((tasks, processes))
        return [(tasks[0], RESULT)]

    monkeypatch.setattr(command, "run_parallel", record)
    path = tmp_path / "new" / "results.csv"
    study(path, "he", "--depth", "5,6,5", "--seeds", "1:3", "--decay", "--activation", "tanh", "--jobs", "3",
          "--images", "120", "--dataset", "synthetic")
    ((tasks, processes),) = called
    assert [(task.depth, task.seed) for task in tasks] == [(5, 1), (5, 2), (6, 1), (6, 2)]
    assert set(task[:3] + task[5:] for task in tasks) == {("he", 0.001, True, "synthetic", 120, 2, "tanh")}
    assert processes == 3 and read_results(path) == [RESULT]


def test_progress_is_told_in_minutes(tmp_path, monkeypatch, capsys):
    """After one of three trainings in 90 s, two are left, which will take 180 s."""
    clock = iter([1000, 1090])
    monkeypatch.setattr(command.time, "monotonic", lambda: next(clock))
    monkeypatch.setattr(command, "run_parallel", lambda function, tasks, processes: [(TRIAL, RESULT)])
    study(tmp_path / "results.csv", "he", "--seeds", "0:3", *SETTINGS)
    assert "; 2 left, about 3 min\n" in capsys.readouterr().out


def test_a_file_that_cannot_be_appended_to_is_noticed_before_any_training(tmp_path, monkeypatch):
    """It is a link into a folder that is not there."""
    path = tmp_path / "results.csv"
    path.symlink_to(tmp_path / "none" / "results.csv")
    monkeypatch.setattr(command, "run_parallel", pytest.fail)
    with pytest.raises(FileNotFoundError):
        study(path, "he", *SETTINGS)


def test_an_older_file_is_not_trained_for_with_another_activation(tmp_path, monkeypatch):
    path = tmp_path / "results.csv"
    write_rows(path, RESULT)
    without_activation(path)
    monkeypatch.setattr(command, "run_parallel", pytest.fail)
    with pytest.raises(Failure, match="no column for activation tanh"):
        study(path, "he", "--activation", "tanh", "--dataset", "synthetic")


@pytest.fixture
def small_cifar10(tmp_path, monkeypatch):
    """Make a folder with 120 training and 20 test images in torchvision's layout, which it takes for CIFAR-10."""
    folder = tmp_path / CIFAR10.base_folder
    folder.mkdir()
    files = {name: dict(data=np.random.default_rng(0).integers(0, 256, (count, 3072), dtype=np.uint8),
                        labels=[number % 10 for number in range(count)])
             for name, count in (("training", 120), ("test", 20))}
    files["names"] = dict(label_names=list("0123456789"))
    sums = {}
    for name, content in files.items():
        (folder / name).write_bytes(pickle.dumps(content))
        sums[name] = hashlib.md5(pickle.dumps(content)).hexdigest()
    monkeypatch.setattr(CIFAR10, "train_list", [["training", sums["training"]]])
    monkeypatch.setattr(CIFAR10, "test_list", [["test", sums["test"]]])
    monkeypatch.setattr(CIFAR10, "meta", dict(filename="names", key="label_names", md5=sums["names"]))
    return tmp_path


@pytest.mark.parametrize("holds_cifar10, name", [(True, "cifar10"), (False, "synthetic")])
def test_a_data_set_that_was_chosen_by_itself_is_recorded_by_its_name(tmp_path, small_cifar10, monkeypatch,
                                                                      holds_cifar10, name):
    """Without `--dataset`, in a new file; and again, when the name is the file's."""
    monkeypatch.setattr(CIFAR10, "url", "http://127.0.0.1:1/")
    path = tmp_path / "results.csv"
    folder = small_cifar10 if holds_cifar10 else tmp_path / "empty"
    for method in "default", "he":
        study(path, method, "--images", "120", "--epochs", "1", "--data-dir", str(folder))
    assert [(result.trial.method, result.trial.dataset) for result in read_results(path)] == [
        ("default", name), ("he", name)]


OF_HE = RESULT._replace(trial=TRIAL._replace(method="he"))


def test_pictures_are_drawn_with_the_reference(tmp_path, monkeypatch, capsys):
    path, folder = tmp_path / "results.csv", tmp_path / "new"
    monkeypatch.setenv("HOME", str(tmp_path))
    write_rows(path, RESULT, OF_HE)
    drawn = []
    monkeypatch.setattr(command, "draw_all", lambda results, *arguments: drawn.append(arguments))
    study(path, "--reference", "he=0.001", "--pictures", "~/new")
    assert f"drawing pictures into '{folder}'" in capsys.readouterr().err
    assert drawn == [("he", 0.001, str(folder))] and folder.is_dir()
    study(path)
    assert len(drawn) == 1


def test_folder_that_cannot_be_made_is_refused_before_any_work(tmp_path, monkeypatch):
    path = tmp_path / "results.csv"
    write_rows(path, RESULT)
    monkeypatch.setattr(command, "load", pytest.fail)
    with pytest.raises(OSError):
        study(path, "he", "--pictures", str(path))


def test_reference_is_subtracted_and_no_other_table_is_printed(tmp_path, capsys):
    path = tmp_path / "results.csv"
    write_rows(path, RESULT, RESULT._replace(trial=TRIAL._replace(seed=1)), OF_HE, OF_HE._replace(
        trial=OF_HE.trial._replace(seed=1)))
    study(path, "--reference", "he")
    printed = capsys.readouterr().out
    assert re.findall("^## (.*)", printed, re.M) == ["Differences from `he=0.001`"]
    assert "| `default=0.001` | 2 |" in printed


def test_reference_that_diverged_is_named(tmp_path):
    path = tmp_path / "results.csv"
    write_rows(path, RESULT, OF_HE._replace(test_loss=math.nan))
    with pytest.raises(Failure, match="all trainings of he in '.*' diverged"):
        study(path, "--reference", "he")


def test_default_that_was_not_trained_is_refused_only_by_name(tmp_path, capsys):
    path = tmp_path / "results.csv"
    write_rows(path, OF_HE)
    with pytest.raises(Failure, match="default was not trained"):
        study(path, "--reference", "default")
    assert capsys.readouterr().out == ""
    study(path)
    assert "`he=0.001`" in capsys.readouterr().out


def test_progress_says_what_came_out():
    """Of 30 losses, the last three."""
    assert command.describe(RESULT) == "training loss 2.101, test loss 2.250, accuracy 12.5%"


def test_a_report_of_nothing_is_refused(tmp_path):
    with pytest.raises(Failure, match="holds no results"):
        study(tmp_path / "none.csv")


def test_as_many_jobs_as_cores_are_allowed(monkeypatch):
    monkeypatch.setattr("os.sched_getaffinity", lambda process: {2, 3, 5}, raising=False)
    monkeypatch.setattr(sys, "argv", ["study", "file"])
    options = command.parse_options()
    assert (options.jobs, list(options.seeds), options.depths, options.reference) == (3, [0], [5], None)


def test_command_line(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["study", "file", "he=1e-3,0.002", "adam", "he=0.001", "--depth", "5,7", "--decay",
                                      "--seeds", "3:5", "--reference", "he=2e-3"])
    options = command.parse_options()
    assert options.methods == [("he", 0.001), ("he", 0.002), ("adam", 0.001)]
    assert (options.depths, list(options.seeds), options.decay) == ([5, 7], [3, 4], True)
    assert options.reference == ("he", 0.002)


@pytest.mark.parametrize("argument, message", [
    ("none", "there is no method 'none'"), ("default=0", "0 is not from"),
    ("default=1,fast", "'fast' is no learning rate"), ("--reference=he=fast", "'fast' is no learning rate"),
    ("--depth=5,x", "'x' is no number of layers"), ("--activation=gelu", "gelu"),
    ("--seeds=3", "'3' is no range FIRST:END"), ("--seeds=a:3", "'a' is no seed"),
    ("--seeds=0:b", "'b' is no seed"), ("--seeds=-1:1", "-1 is not from"),
    ("--seeds=2:2", "the range 2:2 is empty"), ("--seeds=3:2", "the range 3:2 is empty"),
    ("--reference=none", "there is no method 'none'"), ("--depth=4", "4 is not from 5"),
    ("--depth=401", "401 is not from 5 to 400"), ("--images=3", "3 is not from 4")])
def test_wrong_usage(tmp_path, capsys, argument, message):
    with pytest.raises(SystemExit, match="^2$"):
        study(tmp_path / "file", argument)
    assert message in capsys.readouterr().err
