"""The loop that all methods share, and what each method adds to it."""
import math

import numpy as np
import pytest
import torch
from torch import nn

from main import METHODS
from util import training
from util.data import Images, minibatches, scale, synthetic_images
from util.dynamic_preconditioned_train import follow_change
from util.network import Net
from util.signal_propagation import STANDARD, gradient_stds, predict, predict_current
from util.static_preconditioned_train import initialize, preconditioner
from util.training import Settings, evaluate, measure_gradients, train


@pytest.fixture(scope="module")
def images():
    return synthetic_images(train=True, count=120)


@pytest.fixture(autouse=True)
def measure_on_a_few_images(monkeypatch):
    monkeypatch.setattr(training, "MEASURED_IMAGES", 8)


def ignore(line):
    pass


def run(method, images, seed=3, learning_rate=0.001, epochs=1, decay=False, moments=STANDARD, report=ignore):
    """Train a network by a method as the demo does; return it and the record."""
    torch.manual_seed(seed)
    net = Net()
    return net, METHODS[method](net, images, learning_rate, seed, Settings(epochs, decay, moments), report)


def plain_loop(net, images, learning_rate_at, epochs, seed, factors_at=lambda step: (1.0,) * 10):
    """SGD with momentum 0.9 on minibatches of 4, written out; `learning_rate_at` and `factors_at` take the step."""
    order = torch.Generator().manual_seed(seed)
    velocity = [torch.zeros_like(parameter) for parameter in net.parameters()]
    losses = []
    for _ in range(epochs):
        for inputs, labels in minibatches(images, 4, order):
            loss = nn.CrossEntropyLoss()(net(inputs), labels)
            gradients = torch.autograd.grad(loss, list(net.parameters()))
            for parameter, v, gradient, factor in zip(net.parameters(), velocity, gradients, factors_at(len(losses))):
                v.mul_(0.9).add_(factor * gradient)
                parameter.data.sub_(learning_rate_at(len(losses)) * v)
            losses.append(loss.item())
    return losses


def assert_equal_training(trained, record, net, losses):
    assert record.losses.dtype == np.float32
    np.testing.assert_allclose(record.losses, losses, rtol=1e-5)
    for parameter, expected in zip(trained.parameters(), net.parameters()):
        torch.testing.assert_close(parameter, expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("decay", [False, True])
def test_default_training_equals_a_plain_loop(images, decay):
    """Two epochs, 60 steps; with decay, the learning rates are 0.001 times 60/60, 59/60, ... 1/60."""
    torch.manual_seed(7)
    net = Net()
    losses = plain_loop(net, images, lambda step: 0.001 * (60 - step) / 60 if decay else 0.001, epochs=2, seed=7)
    assert_equal_training(*run("default", images, seed=7, epochs=2, decay=decay), net, losses)


def test_preconditioned_training_equals_a_plain_loop(images):
    torch.manual_seed(7)
    net = Net()
    statistics = predict(net, input_moments=(0.3, 0.2))
    initialize(net, statistics)
    factors = preconditioner(net, statistics)
    losses = plain_loop(net, images, lambda step: 0.001, epochs=1, seed=7, factors_at=lambda step: factors)
    assert_equal_training(*run("preconditioned", images, seed=7, moments=(0.3, 0.2)), net, losses)


def test_all_methods_see_the_same_minibatches(images, monkeypatch):
    seen = {}

    def spy(outputs, labels):
        seen[method].append(labels.tolist())
        return nn.functional.cross_entropy(outputs, labels)

    monkeypatch.setattr(training, "cross_entropy", spy)
    for method in METHODS:
        seen[method] = []
        run(method, images, epochs=2)
    assert len(seen["default"]) == 60
    assert all(labels == seen["default"] for labels in seen.values())


@pytest.fixture
def recorded(images, monkeypatch):
    """What each method hands to the loop: its parameters at the start, its factors, whether it refreshes them."""
    def loop(net, images, factors, *settings, refresh=None):
        return [parameter.detach().clone() for parameter in net.parameters()], list(factors), refresh, (
            images, *settings)

    for module in ("default_train", "static_preconditioned_train", "ablation_train", "dynamic_preconditioned_train"):
        monkeypatch.setattr(f"util.{module}.train", loop)
    return {method: run(method, images, moments=(0.3, 0.2))[1] for method in METHODS}


def network_of(parameters):
    """Return a network with these parameters."""
    net = Net()
    net.load_state_dict(dict(zip(net.state_dict(), parameters)))
    return net


def test_the_corners_differ_in_just_what_their_table_says(recorded):
    def same_parameters(a, b):
        return all(torch.equal(x, y) for x, y in zip(recorded[a][0], recorded[b][0]))

    assert same_parameters("default", "preconditioner-only")
    assert not same_parameters("default", "preconditioned")
    for method in ("initialization-only", "dynamic", "dynamic-scale", "dynamic-proportions"):
        assert same_parameters("preconditioned", method)
    assert recorded["default"][1] == recorded["initialization-only"][1] == []
    net = Net()
    assert recorded["preconditioned"][1] == preconditioner(net, predict(net, input_moments=(0.3, 0.2)))
    for method in ("preconditioner-only", "dynamic", "dynamic-scale", "dynamic-proportions"):
        net = network_of(recorded[method][0])
        assert recorded[method][1] == preconditioner(net, predict_current(net, input_moments=(0.3, 0.2))), method
    for method in METHODS:
        assert (recorded[method][2] is not None) == method.startswith("dynamic")
        assert recorded[method][3] == recorded["default"][3]


@pytest.mark.parametrize("method", ["dynamic", "dynamic-scale", "dynamic-proportions"])
def test_dynamic_factors_start_as_the_static_ones_and_follow_the_weights(recorded, method):
    """All weights and biases of conv1 doubled: its outputs double, as do the gradients of the weights behind it."""
    parameters, static, refresh, _ = recorded[method]
    net = network_of(parameters)
    assert refresh(net) == pytest.approx(static)
    for parameter in net[0].parameters():
        parameter.data.mul_(2)
    refreshed = preconditioner(net, predict_current(net, input_moments=(0.3, 0.2)))
    common = math.exp(np.mean(np.log(np.divide(refreshed, static))))
    assert common < 0.95
    expected = {"dynamic": refreshed, "dynamic-scale": np.multiply(static, common),
                "dynamic-proportions": np.divide(refreshed, common)}
    assert refresh(net) == pytest.approx(expected[method])


def test_parts_of_a_change():
    """Factors 1 and 1 that become 8 and 2: four times larger in common, and twice and half as large beyond that."""
    assert follow_change([1, 1], [8, 2], "both") == pytest.approx([8, 2])
    assert follow_change([1, 1], [8, 2], "scale") == pytest.approx([4, 4])
    assert follow_change([1, 1], [8, 2], "proportions") == pytest.approx([2, 0.5])


def test_factors_change_at_each_refresh_and_only_there(images, monkeypatch):
    """Two epochs are 60 steps; refreshed every 25, the factors of the steps from 25 and 50 on are 2 and 3, not 1."""
    monkeypatch.setattr(training, "REFRESH_EVERY", 25)
    factors = iter([[2.0] * 10, [3.0] * 10])
    torch.manual_seed(5)
    net = Net()
    record = train(net, images, [1.0] * 10, 0.001, 5, Settings(2, False, STANDARD), ignore, lambda net: next(factors))
    torch.manual_seed(5)
    expected = Net()
    losses = plain_loop(expected, images, lambda step: 0.001, 2, 5, lambda step: [1.0 + step // 25] * 10)
    assert_equal_training(net, record, expected, losses)
    assert next(factors, None) is None


@pytest.mark.parametrize("factors", [(), [2.0] * 10])
def test_frozen_parameters_stay_and_the_others_are_trained_right(images, factors):
    """As if the learning rate of the frozen tensors, conv1.weight and fc2.bias, were zero."""
    torch.manual_seed(7)
    net, expected = Net(), Net()
    expected.load_state_dict(net.state_dict())
    frozen = [0, 7]
    for index in frozen:
        list(net.parameters())[index].requires_grad_(False)
    record = train(net, images, factors, 0.001, 7, Settings(1, False, STANDARD), ignore)
    factor = factors[0] if factors else 1.0
    losses = plain_loop(expected, images, lambda step: 0.001, 1, 7,
                        lambda step: [0.0 if index in frozen else factor for index in range(10)])
    assert_equal_training(net, record, expected, losses)


def test_record_of_the_scales_is_that_of_networks_stopped_after_each_epoch(images):
    _, record = run("preconditioned", images, learning_rate=0.01, epochs=2, moments=(0.3, 0.2))
    torch.manual_seed(3)
    before = Net()
    initialize(before, predict(before, input_moments=(0.3, 0.2)))
    stopped = [before, *(run("preconditioned", images, learning_rate=0.01, epochs=epochs, moments=(0.3, 0.2))[0]
                         for epochs in (1, 2))]
    for row, net in enumerate(stopped):
        weights = [parameter.detach().double() for name, parameter in net.named_parameters() if "weight" in name]
        assert record.weight_rms[row] == pytest.approx([weight.square().mean().sqrt().item() for weight in weights])
        assert record.gradient_rms[row] == pytest.approx(measure_gradients(net, images, seed=3))
        predicted = gradient_stds(net, predict_current(net, input_moments=(0.3, 0.2)))
        assert record.predicted_rms[row] == pytest.approx(predicted)


def test_measured_gradients_are_the_ones_that_are_predicted(monkeypatch):
    """Against all outputs' gradients of each image, whose squares add up for a standard normal gradient at the output.

    Tolerance: 10 %, about three standard errors of the largest one's, since each of 30 images is drawn 30 times.
    """
    monkeypatch.setattr(training, "MEASURED_IMAGES", 900)
    few = synthetic_images(train=True, count=30)
    torch.manual_seed(1)
    net = Net()
    before = [parameter.detach().clone() for parameter in net.parameters()]
    squares = np.zeros(10)
    for pixels in few.pixels:
        for output in net(scale(pixels[None]))[0]:
            gradients = torch.autograd.grad(output, list(net.parameters()), retain_graph=True)
            squares += [gradient.square().mean().item() for gradient in gradients]
    measured = measure_gradients(net, Images(few.pixels.repeat(30, 1, 1, 1), few.labels.repeat(30)), seed=0)
    assert measured == pytest.approx(np.sqrt(squares / 30), rel=0.1)
    assert all(torch.equal(a, b) for a, b in zip(before, net.parameters()))
    assert all(parameter.grad is None for parameter in net.parameters())


@pytest.mark.parametrize("count, epochs, places", [
    (120, 2, [(1, 6), (1, 12), (1, 18), (1, 24), (1, 30), (2, 6), (2, 12), (2, 18), (2, 24), (2, 30)]),
    (8, 1, [(1, 1), (1, 2)]),
    (12, 4, [(1, 2), (2, 1), (2, 3), (3, 2), (4, 1), (4, 3)]),
])
def test_progress_is_reported_at_every_tenth_of_a_small_run(images, count, epochs, places):
    lines = []
    few = images._replace(pixels=images.pixels[:count], labels=images.labels[:count])
    _, record = run("default", few, epochs=epochs, report=lines.append)
    every = math.ceil(len(record.losses) / 10)
    means = [record.losses[start:start + every].mean() for start in range(0, len(record.losses) - every + 1, every)]
    assert lines == [f"[{epoch}, {step:5}] loss: {mean:.3f}" for (epoch, step), mean in zip(places, means)]


def test_progress_is_reported_as_in_the_tutorial_in_a_large_run(images, monkeypatch):
    monkeypatch.setattr(training, "REPORT_EVERY", 2)
    lines = []
    run("default", images, report=lines.append)
    assert [line.split("]")[0] for line in lines] == [f"[1, {step:5}" for step in range(2, 31, 2)]


def test_training_ends_at_the_first_loss_that_is_not_finite(images, monkeypatch):
    calls = []

    def exploding(outputs, labels):
        calls.append(labels)
        return nn.functional.cross_entropy(outputs, labels) * (float("nan") if len(calls) == 33 else 1)

    monkeypatch.setattr(training, "cross_entropy", exploding)
    _, record = run("default", images, epochs=5)
    assert len(calls) == len(record.losses) == 33
    assert np.isfinite(record.losses[:32]).all() and np.isnan(record.losses[32])
    assert record.diverged


def test_diverged_is_also_what_has_no_finite_test_loss(images):
    _, record = run("default", images)
    record.test_loss = 2.3
    assert not record.diverged
    record.test_loss = math.inf
    assert record.diverged


def test_evaluation_is_the_mean_over_all_images():
    net, images = Net(), synthetic_images(train=False, count=600)
    logits = torch.cat([net((pixels[None] / 255 - 0.5) / 0.5) for pixels in images.pixels]).detach()
    loss, accuracy = evaluate(net, images)
    assert loss == pytest.approx(nn.functional.cross_entropy(logits, images.labels).item(), rel=1e-4)
    assert accuracy == pytest.approx((logits.argmax(1) == images.labels).double().mean().item(), abs=1e-3)
