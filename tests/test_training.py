"""The loop that all methods share, and what each method adds to it."""
import itertools
import math

import numpy as np
import pytest
import torch
from torch import nn

from tests.helpers import IMAGES, METHODS, random_images, trained
from util import training
from util.data import scale
from util.network import Net
from util.static_preconditioned_train import preconditioner
from util.theory import initialize, predict
from util.training import evaluate, train


def plain_minibatches(order):
    """An epoch of IMAGES in minibatches of 4, written out."""
    shuffled = torch.randperm(122, generator=order)
    for first in range(0, 120, 4):
        chosen = shuffled[first:first + 4]
        pixels = IMAGES.pixels[chosen].double() / 255
        yield (2 * pixels - 1).float(), IMAGES.labels[chosen]


def plain_loop(net, factors):
    """Two epochs of SGD on minibatches of 4, written out."""
    order = torch.Generator().manual_seed(7)
    velocity = [torch.zeros_like(parameter) for parameter in net.parameters()]
    losses = []
    for _ in range(2):
        for inputs, labels in plain_minibatches(order):
            parameters = list(net.parameters())
            loss = nn.CrossEntropyLoss()(net(inputs), labels)
            losses.append(loss.item())
            gradients = torch.autograd.grad(loss, parameters)
            for parameter, v, gradient, factor in zip(parameters, velocity, gradients, factors):
                v.mul_(0.9).add_(factor * gradient)
                parameter.data.sub_(0.001 * v)
    return net, losses


def assert_equal_trainings(one, other, **tolerance):
    (net, losses), (other_net, other_losses) = one, other
    assert losses.shape == (60,) and losses.dtype == np.float32
    np.testing.assert_allclose(losses, other_losses, **tolerance)
    for parameter, expected in zip(net.parameters(), other_net.parameters()):
        np.testing.assert_allclose(parameter.detach(), expected.detach(), **tolerance)


@pytest.mark.parametrize("method", METHODS)
def test_training_equals_a_plain_loop_and_its_repetition_bit_for_bit(method):
    torch.manual_seed(7)
    net, factors = Net(), [1.0] * 10
    if method != "default":
        statistics = predict(net)
        initialize(net, statistics)
    if method == "preconditioned":
        factors = preconditioner(net, statistics).values()
    expected = plain_loop(net, factors)
    once = trained(method)
    assert_equal_trainings(once, expected, rtol=1e-4, atol=1e-6)
    assert_equal_trainings(once, trained(method), rtol=0)


@pytest.mark.parametrize("method", METHODS)
def test_a_frozen_layer_stays_as_it_is(method):
    torch.manual_seed(7)
    net = Net()
    net.conv1.requires_grad_(False)
    losses = METHODS[method](net, IMAGES, 0.001, 1, 7, report=lambda line: None)
    torch.manual_seed(7)
    start = Net()
    if method != "default":
        initialize(start, predict(start))
    assert len(losses) == 30 and torch.equal(net.conv1.weight, start.conv1.weight)
    assert not torch.equal(net.conv2.weight, start.conv2.weight)


@pytest.mark.parametrize("limit, ends", [(2000, [30]), (30, [30]), (12, [12, 24])])
def test_progress_is_of_an_epoch(monkeypatch, limit, ends):
    """As in the tutorial; a smaller epoch has a line at its end."""
    monkeypatch.setattr(training, "REPORT_EVERY", limit)
    lines = []
    _, losses = trained("default", report=lines.append)
    every = ends[0]
    expected = []
    for epoch, of_epoch in enumerate(np.split(losses, 2), start=1):
        for end in ends:
            mean = of_epoch[end - every:end].mean()
            expected.append(f"[{epoch}, {end:5}] loss: {mean:.3f}")
    assert lines == expected


def test_progress_is_reported_as_often_as_in_the_tutorial():
    assert training.REPORT_EVERY == 2000


def explode_to_nan(net, optimizer):
    optimizer.param_groups[0]["lr"] = math.inf


def explode_to_infinity(net, optimizer):
    nn.init.constant_(net.fc3.bias, -3e38)
    net.fc3.bias.data[0] = 3e38


@pytest.mark.parametrize("explode, last", [(explode_to_nan, math.nan), (explode_to_infinity, math.inf)])
def test_training_ends_at_the_first_loss_that_is_not_finite(explode, last):
    torch.manual_seed(7)
    net = Net()
    optimizer = torch.optim.SGD(net.parameters(), lr=0.001)
    steps = itertools.count()

    def explode_in_step_32(optimizer, args, kwargs):
        if next(steps) == 32:
            explode(net, optimizer)

    optimizer.register_step_pre_hook(explode_in_step_32)
    losses = train(net, IMAGES, optimizer, epochs=2, seed=7, report=lambda line: None)
    assert len(losses) == 34  # of the networks after 0 to 33 steps
    assert np.isfinite(losses[:33]).all()
    assert losses[33] == pytest.approx(last, nan_ok=True)


def test_dropout_is_of_the_training_only():
    """Whatever the network's mode was before."""
    net = nn.Sequential(nn.Flatten(), nn.Dropout(0.5), nn.Linear(3072, 10))
    optimizer = torch.optim.SGD(net.parameters(), lr=0.0)
    losses = []
    for mode in True, False:
        net.train(mode)
        assert evaluate(net, IMAGES) == evaluate(net, IMAGES)
        assert net.training == mode
        torch.manual_seed(7)
        losses.append(train(net, IMAGES, optimizer, epochs=1, seed=7, report=lambda line: None))
        assert net.training
    assert np.array_equal(*losses)


def test_evaluation_is_the_mean_over_all_images():
    net, images = Net(), random_images(600)
    logits = net(scale(images.pixels)).detach()
    guesses = logits.argmax(dim=1)
    images.labels[500:] = guesses[500:]
    loss, accuracy = evaluate(net, images)
    expected = nn.functional.cross_entropy(logits, images.labels).item()
    assert loss == pytest.approx(expected, rel=1e-4)
    right = (guesses == images.labels).sum().item()
    assert accuracy == pytest.approx(right / 600, abs=1e-3)
