"""The loop that all methods share, and what each method adds to it."""
import itertools

import numpy as np
import pytest
import torch
from torch import nn

from util import training
from util.data import Images, minibatches, scale
from util.default_train import default_train
from util.network import Net
from util.signal_propagation import predict
from util.static_preconditioned_train import initialize, preconditioner, static_preconditioned_train
from util.training import evaluate, train

METHODS = {"default": default_train, "preconditioned": static_preconditioned_train}


def random_images(count):
    generator = torch.Generator().manual_seed(1)
    return Images(torch.randint(256, (count, 3, 32, 32), dtype=torch.uint8, generator=generator),
                  torch.randint(10, (count,), generator=generator))


IMAGES = random_images(122)  # 30 steps an epoch, and two images that are left over


def run(method, images=IMAGES, epochs=2, report=lambda line: None):
    """Train the network by a method; return it and its losses."""
    torch.manual_seed(7)
    net = Net()
    return net, method(net, images, 0.001, epochs, 7, report=report)


def plain_loop(net, momentum=0.9, learning_rate_at=lambda step: 0.001, factors_at=lambda step: [1.0] * 10):
    """Two epochs of SGD on minibatches of 4, written out."""
    order = torch.Generator().manual_seed(7)
    velocity = [torch.zeros_like(parameter) for parameter in net.parameters()]
    losses = []
    for _ in range(2):
        for inputs, labels in minibatches(IMAGES, 4, order):
            loss = nn.CrossEntropyLoss()(net(inputs), labels)
            gradients = torch.autograd.grad(loss, list(net.parameters()))
            for parameter, v, gradient, factor in zip(net.parameters(), velocity, gradients, factors_at(len(losses))):
                v.mul_(momentum).add_(factor * gradient)
                parameter.data.sub_(learning_rate_at(len(losses)) * v)
            losses.append(loss.item())
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
    if method == "preconditioned":
        statistics = predict(net)
        initialize(net, statistics)
        factors = preconditioner(net, statistics)
    expected = plain_loop(net, factors_at=lambda step: factors)
    trained = run(METHODS[method])
    assert_equal_trainings(trained, expected, rtol=1e-4, atol=1e-6)
    assert_equal_trainings(trained, run(METHODS[method]), rtol=0)


@pytest.mark.parametrize("method", METHODS)
def test_a_frozen_layer_stays_as_it_is(method):
    torch.manual_seed(7)
    net = Net()
    net.conv1.requires_grad_(False)
    losses = METHODS[method](net, IMAGES, 0.001, 1, 7, report=lambda line: None)
    torch.manual_seed(7)
    start = Net()
    if method == "preconditioned":
        initialize(start, predict(start))
    assert len(losses) == 30 and torch.equal(net.conv1.weight, start.conv1.weight)
    assert not torch.equal(net.conv2.weight, start.conv2.weight)


def test_both_methods_see_the_same_minibatches(monkeypatch):
    seen = {}
    for name, method in METHODS.items():
        seen[name] = []
        monkeypatch.setattr(training, "minibatches", lambda *arguments: (
            seen[name].append(minibatch) or minibatch for minibatch in minibatches(*arguments)))
        run(method)
    assert len(seen["default"]) == len(seen["preconditioned"]) == 60
    for (inputs, labels), (other_inputs, other_labels) in zip(*seen.values()):
        assert torch.equal(inputs, other_inputs) and torch.equal(labels, other_labels)


def test_hooks_of_the_optimizer_see_every_step():
    """They double all gradients from step 25 on, and halve the learning rate from step 40 on."""
    torch.manual_seed(7)
    net = Net()
    optimizer = torch.optim.SGD(net.parameters(), lr=0.001)
    steps = itertools.count()

    def change(optimizer, args, kwargs):
        step = next(steps)
        if step >= 40:
            optimizer.param_groups[0]["lr"] = 0.0005
        if step >= 25:
            for parameter in net.parameters():
                parameter.grad *= 2

    optimizer.register_step_pre_hook(change)
    losses = train(net, IMAGES, optimizer, epochs=2, seed=7, report=lambda line: None)
    torch.manual_seed(7)
    expected = plain_loop(Net(), momentum=0, learning_rate_at=lambda step: 0.001 if step < 40 else 0.0005,
                          factors_at=lambda step: [1.0 if step < 25 else 2.0] * 10)
    assert_equal_trainings((net, losses), expected, rtol=1e-4, atol=1e-6)
    assert next(steps) == 60


@pytest.mark.parametrize("limit, ends", [(2000, [30]), (12, [12, 24])])
def test_progress_is_of_an_epoch(monkeypatch, limit, ends):
    """As in the tutorial; a smaller epoch has a line at its end."""
    monkeypatch.setattr(training, "REPORT_EVERY", limit)
    lines = []
    _, losses = run(default_train, report=lines.append)
    every = ends[0]
    assert lines == [f"[{epoch}, {end:5}] loss: {losses[30 * epoch - 30 + end - every:30 * epoch - 30 + end].mean():.3f}"
                     for epoch in (1, 2) for end in ends]


def test_training_ends_at_the_first_loss_that_is_not_finite():
    torch.manual_seed(7)
    net = Net()
    optimizer = torch.optim.SGD(net.parameters(), lr=0.001)
    steps = itertools.count()

    def explode(optimizer, args, kwargs):
        if next(steps) == 32:
            optimizer.param_groups[0]["lr"] = float("inf")

    optimizer.register_step_pre_hook(explode)
    losses = train(net, IMAGES, optimizer, epochs=2, seed=7, report=lambda line: None)
    assert len(losses) == 34  # of the networks after 0 to 33 steps
    assert np.isfinite(losses[:33]).all() and not np.isfinite(losses[33])


def test_evaluation_is_the_mean_over_all_images():
    net, images = Net(), random_images(600)
    logits = net(scale(images.pixels)).detach()
    images.labels[500:] = logits[500:].argmax(dim=1)
    loss, accuracy = evaluate(net, images)
    assert loss == pytest.approx(nn.functional.cross_entropy(logits, images.labels).item(), rel=1e-4)
    assert accuracy == pytest.approx((logits.argmax(dim=1) == images.labels).double().mean().item(), abs=1e-3)
