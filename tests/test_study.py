"""The study: what its methods do, what it says of their results, and its command on a few synthetic images."""
import functools
import io
import multiprocessing
import shutil
import sys
from contextlib import redirect_stdout

import numpy as np
import pytest
import torch

from tests.test_training import IMAGES, METHODS as DEMO, random_images, run
from util import data, training
from util.data import DataSet, Images, minibatches, scale
from util.network import Net
from util.runs import Run, Training, save_run
from util.signal_propagation import gradient_stds, input_moments, predict, predict_current
from util.static_preconditioned_train import initialize, preconditioner
from util.study import __main__ as command, methods, pictures, report
from util.study.statistics import Contender, Results, good_rates, holm, interval, outcomes

DATA = DataSet("synthetic", IMAGES, random_images(40))
SETTINGS = ["--images", "120", "--epochs", "1", "--dataset", "synthetic"]  # 30 steps an epoch, as with DATA
SWEEP = ["default=0.001,0.01", "preconditioned=0.001,1e10", "--seeds", "0:2"]
REFRESHED = ("dynamic", "measured")
BIAS_VARIANCES = {"zero-bias": 0.0, "half-bias": 0.5}


def measured_stds(net, images, seed):
    return gradient_stds(net, methods.measure(net, images, seed))


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
    result = command.perform(DATA, Training(method, 0.001, 7, "synthetic", 122, 2, decay))
    assert result.losses == pytest.approx(losses, rel=1e-3)
    assert result.scales[-1, 0] == pytest.approx([p.square().mean().item() ** 0.5 for p in net.parameters()], rel=1e-3)


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
    neighbours = (x[:, :, :, 1:] * x[:, :, :, :-1]).mean(), (x[:, :, 1:] * x[:, :, :-1]).mean()
    assert input_moments(scale(images.pixels)) == pytest.approx((np.mean(x**2), np.mean(neighbours)), rel=1e-5)


@pytest.mark.parametrize("method", DEMO)
def test_a_training_of_the_study_is_that_of_the_demo(method):
    """Bit for bit, whatever is measured meanwhile: of the networks at the start, after an epoch, and at the end."""
    result = command.perform(DATA, Training(method, 0.001, 7, "synthetic", 122, 2))
    trained = [run(DEMO[method], epochs=epochs) for epochs in (1, 2)]
    assert (result.test_loss, result.test_accuracy) == training.evaluate(trained[1][0], DATA.test)
    assert np.array_equal(result.losses, trained[1][1]) and result.scales.shape == (3, 3, 10)
    for scales, net in zip(result.scales, (network(method)[0], trained[0][0], trained[1][0])):
        assert scales[0] == pytest.approx([p.square().mean().item() ** 0.5 for p in net.parameters()])
        assert np.array_equal(scales[1], measured_stds(net, IMAGES, 7))
        assert np.array_equal(scales[2], gradient_stds(net, predict_current(net)))


def made(method, rate, *losses, seeds=None, decay=False, scales=np.empty(0)):
    """Return a run of 100 steps for each loss, which is a number or 100 of them, with the seeds 0, 1, ... or others."""
    return [Run(Training(method, rate, seed, "synthetic", 400, 1, decay), np.broadcast_to(np.float32(loss), 100),
                2.0, 0.5, scales) for seed, loss in zip(seeds or range(len(losses)), losses)]


def test_statistics():
    """Student's t with two degrees of freedom has its 97.5 % point at 4.302653. Rates: to one step of 0.1 %."""
    assert interval(np.array([1.0, 2.0, 3.0])) == pytest.approx((2, 4.302653 / 3**0.5, 1 - (6 / 7) ** 0.5))
    assert holm([0.6, 0.01, 0.031, 0.03, 0.005, 0.9]) == pytest.approx([1, 0.05, 0.12, 0.12, 0.03, 1])
    assert good_rates([1e-4, 1e-3, 1e-2], [1.4, 1.0, 1.2]) == pytest.approx((10**-3.25, 10**-2.5), rel=1e-3)
    assert good_rates([1e-3, 1e-2], [1.0, np.inf]) == pytest.approx((1e-3, 10 ** (-3 + 0.1 / 9)), rel=1e-3)
    short = Training("default", 0.001, 0, "synthetic", 80, 1)
    assert list(outcomes(Run(short, np.ones(20), 2.0, 0.5))) == [1, 1, 1, 2, 50]


def test_best_rates_and_divergence():
    """A contender of which one training diverges is a row, and never the best."""
    results = Results([*made("adam", 0.1, 0.1, [0.1] * 99 + [np.nan]), *made("adam", 0.01, 0.5),
                       *made("adam", 0.001, 1), *made("default", 0.01, 1.5, 1.5), *made("default", 0.001, 0.5, 1.5)])
    assert "| diverged at step 100 |\n| `default=0.001` * | 2 | 1.000 ± 0.707 |" in report.results_table(results)
    assert report.rates_table(results).splitlines()[2:] == [
        "| `adam=0.01` | 0.500 | 0.0063 | 0.01 |", "| `default=0.001` | 1.000 | 0.001 (edge) | 0.0016 |"]


def test_comparisons_are_paired_by_seed():
    """Of seeds 1 and 2: mean -0.3, and 12.706 standard errors of 0.2. One contender is overtaken in mid-epoch."""
    default, adam, dynamic = (Contender(method, False, 0.001) for method in ("default", "adam", "dynamic"))
    results = Results([*made("default", 0.001, 1, 2, 3), *made("adam", 0.001, 2.9, 1.5, 9, seeds=[2, 1, 3]),
                       *made("dynamic", 0.001, [0] * 50 + [2.5] * 50, 2, 9, seeds=[0, 1, 3]),
                       *made("measured", 0.001, 0, 1.001, 1.999), *made("default", 0.01, 0, decay=True)])
    assert results.differences(adam, default)[:, 2] == pytest.approx([-0.5, -0.1])
    table = report.difference_table(results, default, results.best_of(False)).splitlines()
    assert table[2].startswith("| `adam=0.001` | 2 | -0.300 ± 2.541 | -0.300 ± 2.541 | -0.300 ± 2.541 | ")
    assert table[4].startswith("| `measured=0.001` | 3 | -1.000 ± 0.002 * |") and len(table) == 5
    assert results.overtakings(dynamic) == [0.5, None]
    assert "| 1 | 0.50 |\n| `measured=0.001` * |" in report.results_table(results)


def test_growth_is_of_the_runs_with_scales():
    """The geometric mean of weights that grow 2 and 8 times, and of a dead network; the biases do not count."""
    twice, eightfold = np.ones((2, 2, 3, 10))
    twice[1, 0, ::2], eightfold[1, 0, ::2], eightfold[1, 1] = 2, 8, 0
    results = Results([*made("adam", 1.0, 3), *made("adam", 1.0, 4, seeds=[1], scales=twice),
                       *made("adam", 1.0, 5, seeds=[2], scales=eightfold), *made("default", 1.0, 3)])
    assert "weights | 4.00 | 4.00 | 4.00 | 4.00 | 4.00 |\n" in report.growth_table(results)
    assert "gradients, measured | 0.00 | 0.00 | 0.00 | 0.00 | 0.00 |\n" in report.growth_table(results)
    assert results.final[Contender("adam", False, 1.0)] == 4 and "default" not in report.growth_table(results)
    pictures.growth(pictures.Figure(), Results(made("adam", 1.0, 3)), "default")  # also without the default method


def study(folder, *arguments, **patches):
    """Call the command in this process, without pictures unless they are patched in; return what it prints."""
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(io.StringIO()) as output:
        patch.setattr(sys, "argv", ["study", str(folder), *SETTINGS, *arguments])
        for name, value in {"draw_all": lambda *_: None, **patches}.items():
            patch.setattr(command, name, value)
        command.main()
    return output.getvalue()


def contents(folder):
    return {path.name: (path.read_bytes(), path.stat().st_mtime_ns) for path in folder.glob("*.npz")}


@pytest.fixture(scope="module")
def sweep(tmp_path_factory):
    """Return the folder of a study, what it printed, and its runs as they were trained; images are made once."""
    folder, runs = tmp_path_factory.mktemp("sweep") / "new", []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(data, "TEST_IMAGES", 100)
        patch.setattr(data, "synthetic_images", functools.lru_cache(None)(data.synthetic_images))
        output = study(folder, *SWEEP, draw_all=pictures.draw_all,
                       save_run=lambda run, place: runs.append(run) or save_run(run, place))
        yield folder, output, runs


@pytest.fixture
def folder(sweep, tmp_path):
    return shutil.copytree(sweep[0], tmp_path / "copy")


def test_a_study_prints_what_was_trained_and_draws(sweep):
    """And trains nothing when it is called again, or without a method."""
    folder, output, runs = sweep
    reported = "".join(f"\n\n{table}" for table in report.tables(Results(runs), "default")) + "\n"
    assert output.endswith("; 0 left, about 0 min\n" + reported) and output.count(" left") == 8
    assert "| `preconditioned=1e+10` | 2 | diverged at step 2 |" in reported and "| minus `default=" in reported
    before = contents(folder)
    assert study(folder, *SWEEP) == study(folder, "--epochs", "2") == reported and contents(folder) == before
    assert "| minus `default=0.01` |" in study(folder, "--reference", "default=1e-2")
    for name in "curves", "differences", "growth", "learning_rates", "scales":
        assert (folder / f"{name}.png").stat().st_size > 10_000


def test_an_interrupted_sweep_is_completed_by_two_studies_at_once(sweep, folder):
    for path in sorted(folder.glob("*.npz"))[1:]:
        path.unlink()
    fork = multiprocessing.get_context("fork").Process
    both = [fork(target=study, args=(folder, *SWEEP, "--seeds", seeds)) for seeds in ("0:1", "1:2")]
    for process in both:
        process.start()
    assert [process.join() or process.exitcode for process in both] == [0, 0]
    assert all(contents(folder)[name][0] == content for name, (content, _) in contents(sweep[0]).items())


def test_other_schedules_and_runs_of_the_demo_have_their_place(sweep, folder):
    """The demo saves no scales; its training of seed 2 is not done again."""
    run = next(run for run in sweep[2] if str(run.training) == "default=0.001_seed_0")
    save_run(run._replace(training=run.training._replace(seed=2), scales=np.empty(0)), str(folder))
    before = contents(folder)
    output = study(folder, "default", "--seeds", "2:3") + study(folder, "default", "--decay")
    assert output.count(" left") == 1 and output.replace("` *", "`").count("| `default=0.001` | 3 | ") == 2
    after = contents(folder)
    assert after == {**after, **before} and set(after) - set(before) == {"default-decay=0.001_seed_0.npz"}


@pytest.mark.parametrize("arguments, change", [
    (["--epochs", "2", "default"], None), (["--images", "124", "default"], None),
    (["--dataset", "cifar10"], None), (["--dataset", "auto", "default"], None),
    ([], lambda path: path.rename(path.with_name("default=0.0001_seed_0.npz"))),
    ([], lambda path: path.write_bytes(path.read_bytes()[:999])), ([], lambda path: path.write_text("text"))])
def test_files_that_do_not_fit_are_refused(folder, arguments, change):
    if change:
        change(folder / "default=0.001_seed_0.npz")
    before = contents(folder)
    with pytest.raises(command.Failure, match=r"^'.*/default=0.0+1_seed_0.npz' (has other settings|cannot be read)"):
        study(folder, *arguments, "--seeds", "0:9", train_all=pytest.fail,
              load=lambda name, *_: DATA._replace(name=name.replace("auto", "cifar10")))
    assert contents(folder) == before


def test_as_many_jobs_as_cores_are_allowed(monkeypatch):
    monkeypatch.setattr("os.sched_getaffinity", lambda process: {3}, raising=False)
    monkeypatch.setattr(sys, "argv", ["study", "folder"])
    assert command.parse_options().jobs == 1


def test_an_empty_range_of_seeds_is_named(tmp_path, capsys):
    with pytest.raises(SystemExit, match="^2$"):
        study(tmp_path, "--seeds", "3:2")
    assert capsys.readouterr().err.endswith("argument --seeds: the range 3:2 is empty\n")


@pytest.mark.parametrize("argument", ["none", "default=fast", "default=0", "--seeds=3", "--seeds=a:b", "--seeds=-1:1",
                                      "--seeds=2:2", "--reference=none"])
def test_wrong_usage(tmp_path, argument):
    with pytest.raises(SystemExit, match="^2$"):
        study(tmp_path, argument)
