"""The study: its methods against plain loops, its statistics by hand, and its command on a few synthetic images."""
import functools
import math
import multiprocessing
import sys

import numpy as np
import pytest
import torch
from torch import nn

from tests.test_training import IMAGES, METHODS as DEMO, random_images, run
from util import data
from util.data import DataSet, Images, minibatches, scale
from util.failure import Failure
from util.network import Net
from util.signal_propagation import gradient_stds, input_moments, predict, predict_current
from util.static_preconditioned_train import initialize, preconditioner
from util.study import __main__ as command, methods, report, theory
from util.study.results import COLUMNS, Run, Training, append, create, read_runs, reduce_losses
from util.study.statistics import Contender, Results, good_rates, holm, interval, outcomes
from util.training import evaluate, train

DATA = DataSet("synthetic", IMAGES, random_images(40))
SETTINGS = ["--images", "120", "--epochs", "1", "--dataset", "synthetic"]  # 30 steps an epoch, as with DATA
SWEEP = ["default=0.001,0.01", "preconditioned=0.001,1e10", "--seeds", "0:2"]
TRAINING = Training("default", 0.001, False, 5, 0, "synthetic", 120, 1)
RUN = Run(TRAINING, "2.0.0", 2.25, 0.125, (2.3026, 2.0) * 15, (1.5,) * 5, (2.5,) * 5, (3.5,) * 5)
UNMEASURED = dict(weight_growth=(), measured_gradient_growth=(), predicted_gradient_growth=())
REFRESHED = ("dynamic", "measured")
BIAS_VARIANCES = {"zero-bias": 0.0, "half-bias": 0.5}


def measured_stds(net, images, seed):
    return gradient_stds(net, methods.measure(net, images, seed))


def rms(tensor):
    return tensor.detach().square().mean().sqrt().item()


def network(method):
    """Return the network of seed 7 as a method must begin to train it, and the statistics that go with it."""
    torch.manual_seed(7)
    net = Net()
    if method in ("default", "preconditioner-only", "adam"):
        return net, predict_current(net)
    if method == "he":
        for name, module in net.named_children():
            if name.startswith(("conv", "fc")):
                module.weight.data.normal_(std=(2 / module.weight[0].numel()) ** 0.5)
                module.bias.data.fill_(0)
        return net, predict_current(net)
    moments = input_moments(scale(IMAGES.pixels)) if method == "preconditioned-images" else (1, 0)
    bias_variance = BIAS_VARIANCES.get(method.split("-", 1)[-1], 0.04)
    statistics = predict(net, bias_variance=bias_variance, input_moments=moments)
    initialize(net, statistics)
    return net, statistics


@pytest.mark.parametrize("method", [method for method in methods.METHODS if method not in REFRESHED])
def test_trainings_equal_a_plain_loop(method):
    """To 0.1 %, since a ReLU or max pool may switch over by rounding. Decay ends with a 60th of the learning rate."""
    net, statistics = network(method)
    decay = method in ("default", "adam")
    factors = preconditioner(net, statistics) if method.startswith("precond") else [1] * 10
    adam, sgd = torch.optim.Adam, functools.partial(torch.optim.SGD, momentum=0.9)
    optimizer = (adam if method.endswith("adam") else sgd)(net.parameters(), lr=0.001)
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
    result = command.perform(DATA, Training(method, 0.001, decay, 5, 7, "synthetic", 122, 2))
    assert result.losses == pytest.approx(losses, rel=1e-3)
    start = network(method)[0]
    growth = [rms(net.get_submodule(name).weight) / rms(start.get_submodule(name).weight) for name in report.LAYERS]
    assert result.weight_growth == pytest.approx(growth, rel=1e-3)


@pytest.mark.parametrize("method", REFRESHED)
def test_factors_are_refreshed(monkeypatch, method):
    """After every third step, for a network of which one layer grows; to a relative 1e-5, in single precision."""
    monkeypatch.setattr(methods, "REFRESH_EVERY", 3)
    torch.manual_seed(7)
    net = Net()
    statistics = methods.METHODS[method].initialize(net, IMAGES)
    assert all(map(torch.equal, net.parameters(), network("preconditioned")[0].parameters()))
    optimizer = torch.optim.SGD(net.parameters(), lr=0)
    methods.METHODS[method].precondition(optimizer, net, statistics, IMAGES, 7)
    for step in range(8):
        if step % 3 == 0:
            current = predict_current(net) if method == "dynamic" else methods.measure(net, IMAGES, 7)
            expected = preconditioner(net, current)
        for parameter in net.parameters():
            parameter.grad = torch.ones_like(parameter)
        if step % 3 == 2:
            net.conv2.weight.data.mul_(1.2)
        optimizer.step()
        assert [parameter.grad.mean().item() for parameter in net.parameters()] == pytest.approx(expected, rel=1e-5)


def test_factors_are_not_refreshed_when_the_training_has_diverged(monkeypatch):
    """The theory would refuse it; the next loss is not finite, and ends the training."""
    monkeypatch.setattr(methods, "REFRESH_EVERY", 1)
    net = Net()
    optimizer = torch.optim.SGD(net.parameters(), lr=0)
    methods.by_theory(optimizer, net, [], IMAGES, 7)
    net.conv1.weight.data.fill_(math.nan)
    optimizer.step()


def test_refreshing_and_measuring_are_what_the_readme_says():
    assert (methods.REFRESH_EVERY, methods.MEASURED_IMAGES) == (500, 500)


def test_a_dead_layer_is_no_reason_to_end():
    """Its gradients, which are zero, stay zero; the last layer's bias is still trained."""
    torch.manual_seed(7)
    net = Net()
    net.fc2.bias.data.fill_(-1e6)
    optimizer = torch.optim.SGD(net.parameters(), lr=0)
    methods.by_measurement(optimizer, net, [], IMAGES, 7)
    for parameter in net.parameters():
        parameter.grad = torch.ones_like(parameter)
    optimizer.step()
    assert torch.equal(net.conv1.weight.grad, torch.ones_like(net.conv1.weight))
    assert net.fc3.bias.grad.mean().item() == pytest.approx(1, rel=0.1)


def test_measured_gradients_are_those_of_single_images(monkeypatch):
    """To 10 %, about three standard errors: each image is drawn 30 times, and its outputs' squared gradients add up."""
    monkeypatch.setattr(methods, "MEASURED_IMAGES", 600)
    few, squares, net = random_images(20), np.zeros(10), network("default")[0]
    for output in [output for pixels in few.pixels for output in net(scale(pixels[None]))[0]]:
        gradients = torch.autograd.grad(output, list(net.parameters()), retain_graph=True)
        squares += [gradient.square().mean().item() for gradient in gradients]
    measured = measured_stds(net, Images(few.pixels.repeat(30, 1, 1, 1), few.labels.repeat(30)), seed=0)
    assert measured == pytest.approx(np.sqrt(squares / 20), rel=0.1)


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
    result = command.perform(DATA, Training("default", 0.01, False, 7, 3, "synthetic", 122, 1))
    assert result.losses == pytest.approx(losses.tolist(), rel=1e-3)
    assert result.test_loss == pytest.approx(evaluate(net, DATA.test)[0], rel=1e-4) and result.weight_growth == ()


@pytest.mark.parametrize("method", DEMO)
def test_a_training_of_the_study_is_that_of_the_demo(method):
    """Whatever is measured before and after it; growth is last over first."""
    result = command.perform(DATA, Training(method, 0.001, False, 5, 7, "synthetic", 122, 2))
    net, losses = run(DEMO[method])
    assert (result.test_loss, result.test_accuracy) == evaluate(net, DATA.test)
    assert result.losses == reduce_losses(losses, 60)
    first, last = (methods.measure(each, IMAGES, 7) for each in (network(method)[0], net))
    growth = [after.weight_gradient_std / before.weight_gradient_std for before, after in zip(first, last)]
    assert result.measured_gradient_growth == pytest.approx(growth, rel=1e-4)  # five digits


def write_rows(path, *runs):
    create(path)
    for run in runs:
        append(run, path)


def test_growth_is_measured_with_the_seed_of_the_training(monkeypatch):
    seeds = []

    def record(net, images, seed):
        seeds.append(seed)
        return predict_current(net)

    monkeypatch.setattr(command, "measure", record)
    command.perform(DATA, Training("default", 0.001, False, 5, 3, "synthetic", 122, 1))
    assert seeds == [3, 3]


def test_losses_are_averaged_over_parts_of_the_run():
    """Of 400 steps, two in each of 200 parts; a training that ended early lacks the rest."""
    assert reduce_losses(np.arange(400), 400) == tuple(np.arange(200) * 2 + 0.5)
    assert reduce_losses(np.array([1.0, 2.0, 4.0]), 3) == (1, 2, 4)
    ended = reduce_losses(np.array([1.0, 3.0, 2.0]), 400)
    assert ended[0] == 2 and len(ended) == 200 and np.isnan(ended[1:]).all()
    assert reduce_losses(np.array([1.2345678]), 1) == (1.2346,)


@pytest.mark.parametrize("run", [
    RUN, RUN._replace(losses=(8e17, math.inf) * 15, **UNMEASURED),
    RUN._replace(training=TRAINING._replace(learning_rate=1 / 3, decay=True))])
def test_rows_are_read_as_they_were_written(tmp_path, run):
    path = tmp_path / "results.csv"
    write_rows(path, run, run._replace(training=TRAINING._replace(seed=1)))
    create(path)
    assert read_runs(path) == [run, run._replace(training=TRAINING._replace(seed=1))]
    joined = path.read_text() * 2  # as by cat
    path.write_text(joined)
    append(run._replace(test_loss=9.0), path)  # of what stands there twice, the first counts
    assert read_runs(path) == [run, run._replace(training=TRAINING._replace(seed=1))]


@pytest.mark.parametrize("change, problem", [
    (lambda text: text.replace("method,", "methods,"), ":1: the header"),
    (lambda text: text[:-1], ":2: the last line is not finished"),
    (lambda text: text.replace("default", "none"), ":2: .*no method 'none'"),
    (lambda text: text.replace("False,5", "False,4"), ":2: .*depth is 4"),
    (lambda text: text.replace("False", "no"), ":2: .*decay is 'no'"),
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
    write_rows(path, RUN)
    path.write_text(change(path.read_text()), errors="surrogateescape")
    before = path.read_bytes()
    with pytest.raises(Failure, match=f"^{path}{problem}"):
        read_runs(path)
    assert path.read_bytes() == before


@pytest.mark.parametrize("change, diverged", [
    ({}, False), ({"test_loss": math.nan}, True), ({"losses": (1.0, math.nan)}, True),
    ({"losses": (1.0, 10.0)}, False), ({"losses": (1.0, 11.0)}, True), ({"losses": (1.0, 8e17)}, True),
    ({"losses": (1.0,) * 18 + (19.0, 2.0)}, True)])
def test_divergence(change, diverged):
    assert RUN._replace(**change).diverged == diverged


def made(method, rate, *losses, seeds=None, decay=False, depth=5):
    """Return a run of two epochs for each loss, a number or 200 of them, with the seeds 0, 1, ... or others."""
    return [Run(Training(method, rate, decay, depth, seed, "synthetic", 400, 2), "2.0.0", 2.0, 0.5,
                tuple(np.broadcast_to(np.float64(loss), 200).tolist()))
            for seed, loss in zip(seeds or range(len(losses)), losses)]


def test_rows_of_other_epochs_are_refused(tmp_path):
    """Both have 200 losses."""
    path = tmp_path / "results.csv"
    (run,) = made("default", 0.001, 1.0)
    write_rows(path, run, run._replace(training=run.training._replace(epochs=3)))
    with pytest.raises(Failure, match=":3: epochs is 3, not 2$"):
        read_runs(path)


OVERTAKEN = np.repeat([0.0, 2.5], 100)  # by a default training of loss 1 or 2, after an epoch


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


def test_best_rate_is_chosen_on_the_seeds_that_all_rates_have_and_reported_on_the_others():
    results = Results([*made("adam", 0.1, 1.0, 5.0, 7.0), *made("adam", 0.01, 2.0), *made("adam", 1.0, math.nan)])
    best = Contender("adam", False, 5, 0.1)
    assert results.best == {("adam", False, 5): best}
    assert results.seeds(best) == [1, 2] and results.outcomes(best)[:, 2].tolist() == [5, 7]
    table = report.outcome_table(results)
    assert "| `adam=0.1` * | 5 | 2 | 6.000 ± 1.414 | 6.000 ± 1.414 | 6.000 ± 1.414 |" in table
    assert "| `adam=1.0` | 5 | 1 | diverged: 1 of 1 |" in table
    assert report.rate_table(results).splitlines()[2].startswith("| `adam=0.1` | 5 | 0 | 1.000 |")


def test_comparisons_are_paired_by_seed_within_schedule_and_depth():
    """Of seeds 1 and 2: mean -0.3, and 12.706 standard errors of 0.2."""
    default = Contender("default", False, 5, 0.001)
    runs = made("default", 0.001, 1, 2, 3)
    runs += made("default", 0.01, 0, 0, 0, decay=True)
    runs += made("default", 0.001, 9, 9, 9, depth=7)
    runs += made("adam", 0.001, 2.9, 1.5, 9, seeds=[2, 1, 3])
    runs += made("dynamic", 0.001, OVERTAKEN, 2, 9, seeds=[0, 1, 3])
    runs += made("measured", 0.001, 0, 1.001, 1.999)
    results = Results(runs)
    table = report.difference_table(results, default, results.best_of(False, 5)).splitlines()
    rows = {line.split("`")[1]: line for line in table[2:]}
    assert rows["adam=0.001"].startswith("| `adam=0.001` | 2 | -0.300 ± 2.541 | -0.300 ± 2.541 | -0.300 ± 2.541 |")
    assert rows["measured=0.001"].startswith("| `measured=0.001` | 3 | -1.000 ± 0.002 | -1.000 ± 0.002 | "
                                             "-1.000 ± 0.002 * |")
    assert results.overtakings(Contender("dynamic", False, 5, 0.001)) == [1.0, None]
    runs = made("default", 0.001, 2.0, depth=7)
    runs += made("default", 0.001, 9.0)
    runs += made("adam", 0.001, OVERTAKEN, depth=7)
    late = Results(runs)
    assert late.overtakings(Contender("adam", False, 7, 0.001)) == [1.0]
    assert len(results.references("default", None)) == 3 and len(results.references("default", 0.01)) == 1


def test_no_training_is_compared_with_one_of_another_schedule_or_depth():
    runs = []
    for method in "default", "he":
        runs += made(method, 0.001, 1, 2)
        runs += made(method, 0.001, 3, 5, decay=True)
        runs += made(method, 0.001, 6, 9, depth=7)
    for rate in None, 0.001:
        tables = [table.splitlines() for table in report.tables(Results(runs), "default", rate)]
        compared = {table[0].split(" | ")[0]: table[2:] for table in tables if table[0].startswith("| minus")}
        assert list(compared) == ["| minus `default=0.001`", "| minus `default=0.001`, depth 7",
                                  "| minus `default-decay=0.001`"]
        for head, rows in compared.items():
            method = "`he-decay=0.001`" if "decay" in head else "`he=0.001`"
            assert [row.split(" | ")[0] for row in rows] == [f"| {method}"]


def test_tables_without_what_diverged_or_has_one_depth():
    diverged = Results([*made("default", 0.001, math.nan, 1.0), *made("preconditioner-only", 0.001, 1.0, 1.0)])
    assert report.pair_table(diverged, False) == ""
    assert diverged.overtakings(Contender("preconditioner-only", False, 5, 0.001)) == [None]
    assert not any("at depth" in table for table in report.tables(diverged, "default", None))
    swapped = Results([*made("default", 0.001, 1.0, 1.0), *made("preconditioner-only", 0.001, math.nan, 1.0)])
    assert report.pair_table(swapped, False) == ""


def test_where_no_rate_trains_none_is_good():
    results = Results([*made("adam", 0.1, 2.3, 2.3), *made("adam", 0.01, 2.31)])
    assert report.rate_table(results).splitlines()[2] == "| `adam=0.1` | 5 | 0 | 2.300 | none | none |"


def test_stars_are_those_of_the_last_tenth():
    """One is early apart for certain and ends anyhow, the other the other way round."""
    late, early = np.repeat([0.0, 1.0], 100), np.repeat([1.0, 0.0], 100)
    runs = made("default", 0.001, 0, 0, 0)
    runs += made("adam", 0.001, late - 3 * early, -late - 3.1 * early, 0.5 * late - 3 * early)
    runs += made("he", 0.001, early - 3 * late, -early - 3.1 * late, 0.5 * early - 3 * late)
    results = Results(runs)
    reference = Contender("default", False, 5, 0.001)
    he, adam = report.difference_table(results, reference, results.best_of(False, 5)).splitlines()[2:]
    assert "| -3.033 ± 0.143 * |" in he and he.count("*") == 1
    assert "| -3.033 ± 0.143 |" in adam and adam.count("*") == 0


def test_depth_tables():
    """Three of the default trainings have learnt nothing; the preconditioner adds -1.3 on average."""
    results = Results([*made("default", 0.001, 2.0, 2.3, 2.3, depth=7), *made("default", 0.001, 1.5),
                       *made("preconditioner-only", 0.001, 1.0, 1.0, 0.7, depth=7)])
    assert "| `default` | 1.500 | 2.200 ± 0.173, trained: 1 of 3 |" in report.depth_table(results, False)
    row = report.pair_table(results, False).splitlines()[2]
    assert row.startswith("| `preconditioner-only=0.001` | `default=0.001` | 7 | 3 | -1.300 ±")
    assert "| He | 2.1 | 2.1 |" in report.gradient_table([5, 7])
    assert "| the same, zero bias | 0.089 |" in report.difference_left_table([5])


@pytest.mark.parametrize("name, draw", [
    ("He", nn.init.kaiming_normal_), ("Glorot", nn.init.xavier_normal_), ("PyTorch", lambda weight: None)])
def test_initializations_of_the_theory_are_those_of_torch(name, draw):
    """To 15 %, over four standard errors of the smallest layer's 450 weights."""
    torch.manual_seed(0)
    net = Net(6)
    for layer in theory.INITIALIZATIONS[name](Net(6)):
        weight = net.get_submodule(layer.name).weight
        draw(weight)
        assert rms(weight) == pytest.approx(layer.weight_std, rel=0.15)


def test_biases_of_the_theory_are_those_of_torch():
    for name, share in ("He", 0), ("Glorot", 0), ("PyTorch", 1):
        for layer in theory.INITIALIZATIONS[name](Net(6)):
            assert layer.bias_std == pytest.approx(share * layer.weight_std)


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
    assert theory.differences_left(Net(7), statistics) == pytest.approx(measured, rel=0.06)


@pytest.mark.filterwarnings("error")
def test_studies_that_diverged_are_reported():
    for loss in math.nan, 8e17, math.inf:
        results = Results([*made("default", 0.001, loss, loss), *made("adam", 0.001, loss, loss, depth=7)])
        text = "\n".join(report.tables(results, "default", None))
        assert text.count("diverged: 2 of 2") == 4 and "minus" not in text


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
    assert {(run.training.seed, run.training.method) for run in read_runs(path)} == {
        (seed, method) for seed in range(3) for method in ("default", "preconditioned")}
    assert len(read_runs(path)) == 12
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
    write_rows(path, RUN)
    before = path.read_bytes()
    monkeypatch.setattr(command, "load", pytest.fail)
    with pytest.raises(Failure, match=problem):
        study(path, "he", *arguments)
    assert path.read_bytes() == before and COLUMNS[0] == "method"


def test_what_is_named_is_trained(tmp_path, monkeypatch):
    called = []

    def record(function, tasks, processes):
        called.append((tasks, processes))
        return []

    monkeypatch.setattr(command, "run_parallel", record)
    study(tmp_path / "results.csv", "he", "--depth", "5,6,5", "--seeds", "1:3", "--jobs", "3", "--images", "120",
          "--dataset", "synthetic")
    ((tasks, processes),) = called
    assert [(task.depth, task.seed, task.epochs) for task in tasks] == [(5, 1, 2), (5, 2, 2), (6, 1, 2), (6, 2, 2)]
    assert processes == 3


OF_HE = RUN._replace(training=TRAINING._replace(method="he"))


def test_pictures_are_drawn_with_the_reference(tmp_path, monkeypatch):
    path, folder = tmp_path / "results.csv", tmp_path / "new"
    write_rows(path, RUN, OF_HE)
    drawn = []
    monkeypatch.setattr(command, "draw_all", lambda results, *arguments: drawn.append(arguments))
    study(path, "--reference", "he=0.001", "--pictures", str(folder))
    assert drawn == [("he", 0.001, str(folder))] and folder.is_dir()
    study(path)
    assert len(drawn) == 1


def test_folder_that_cannot_be_made_is_refused_before_any_work(tmp_path, monkeypatch):
    path = tmp_path / "results.csv"
    write_rows(path, RUN)
    monkeypatch.setattr(command, "load", pytest.fail)
    with pytest.raises(OSError):
        study(path, "he", "--pictures", str(path))


def test_reference_that_diverged_is_named_after_the_tables(tmp_path, capsys):
    path = tmp_path / "results.csv"
    write_rows(path, RUN, OF_HE._replace(test_loss=math.nan))
    with pytest.raises(Failure, match="all trainings of he in '.*' diverged"):
        study(path, "--reference", "he")
    assert "| `he=0.001` * | 5 | 1 | diverged: 1 of 1 |" in capsys.readouterr().out


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
    assert command.describe(RUN) == "training loss 2.101, test loss 2.250, accuracy 12.5%"


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
    ("none", "there is no method 'none'"), ("default=fast", "fast"), ("default=0", "0 is not from"),
    ("--seeds=3", "'3' is no range FIRST:END"), ("--seeds=a:b", "invalid"), ("--seeds=-1:1", "-1 is not from"),
    ("--seeds=2:2", "the range 2:2 is empty"), ("--seeds=3:2", "the range 3:2 is empty"),
    ("--reference=none", "there is no method 'none'"), ("--depth=4", "4 is not from 5"),
    ("--depth=401", "401 is not from 5 to 400")])
def test_wrong_usage(tmp_path, capsys, argument, message):
    with pytest.raises(SystemExit, match="^2$"):
        study(tmp_path / "file", argument)
    assert message in capsys.readouterr().err
