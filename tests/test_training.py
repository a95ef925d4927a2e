"""The loop that all methods share, and what each method adds to it."""
import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from tests.helpers import IMAGES, METHODS, random_images, trained
from util import training
from util.data import scale
from util.network import Net
from util.static_preconditioned_train import preconditioner
from util.theory import initialize, predict
from util.training import evaluate, train


def train_written_out(net, factors):
    """Train for two epochs with multiplied gradients; return the losses."""
    order = torch.Generator().manual_seed(7)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.001, momentum=0.9)
    losses = []
    for _ in range(2):
        shuffled = torch.randperm(122, generator=order)
        for minibatch in shuffled[:120].split(4):
            inputs = IMAGES.pixels[minibatch] / 127.5 - 1
            loss = cross_entropy(net(inputs), IMAGES.labels[minibatch])
            losses.append(loss.item())
            optimizer.zero_grad()
            loss.backward()
            for parameter, factor in zip(net.parameters(), factors):
                parameter.grad *= factor
            optimizer.step()
    return losses


@pytest.mark.parametrize("method", METHODS)
def test_training_equals_a_loop_written_out(method):
    torch.manual_seed(7)
    expected, factors = Net(), [1.0] * 10
    if method != "default":
        statistics = predict(expected)
        initialize(expected, statistics)
    if method == "preconditioned":
        factors = preconditioner(expected, statistics).values()
    expected_losses = train_written_out(expected, factors)
    net, losses = trained(method)
    np.testing.assert_allclose(losses, expected_losses, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close([*net.parameters()], [*expected.parameters()], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("every, shown", [
    (2000, {"[1,    30]": slice(0, 30), "[2,    30]": slice(30, 60)}),
    (12, {"[1,    12]": slice(0, 12), "[1,    24]": slice(12, 24),
          "[2,    12]": slice(30, 42), "[2,    24]": slice(42, 54)})])
def test_progress_tells_the_mean_loss_since_the_last_line_or_of_a_small_epoch(monkeypatch, every, shown):
    monkeypatch.setattr(training, "REPORT_EVERY", every)
    lines = []
    _, losses = trained("default", report=lines.append)
    assert lines == [f"{place} loss: {losses[steps].mean():.3f}" for place, steps in shown.items()]


def test_progress_is_told_as_often_as_in_the_tutorial():
    assert training.REPORT_EVERY == 2000


def test_training_ends_with_the_first_loss_that_is_not_finite():
    _, losses = trained("default", learning_rate=1e10)
    *finite, last = losses
    assert len(finite) < 59 and losses.dtype == np.float32
    assert np.isfinite(finite).all() and not np.isfinite(last)


def test_dropout_is_on_in_training_and_off_in_evaluation():
    net = nn.Sequential(nn.Flatten(), nn.Linear(3072, 10)).eval()
    optimizer = torch.optim.SGD(net.parameters(), lr=0.001)
    modes = []
    net.register_forward_pre_hook(lambda module, inputs: modes.append(module.training))
    train(net, IMAGES, optimizer, epochs=1, seed=7, report=lambda line: None)
    evaluate(net, IMAGES)
    assert modes == [True] * 30 + [False]
    assert net.training


def test_evaluation_is_the_mean_over_all_images():
    """The last 100 of 600 are all guessed right."""
    net, images = Net(), random_images(600)
    logits = net(scale(images.pixels))
    right = logits.argmax(dim=1) == images.labels
    right[500:] = True
    images.labels[500:] = logits[500:].argmax(dim=1)
    loss, accuracy = evaluate(net, images)
    assert loss == pytest.approx(cross_entropy(logits, images.labels).item(), rel=1e-4)
    assert accuracy == pytest.approx(right.float().mean().item(), abs=1e-3)
