"""The loop that all methods share, and what each method adds to it."""
import numpy as np
import pytest
import torch
from torch import nn

from tests.monte_carlo import gradient_stds
from util.data import load, minibatches, synthetic_images
from util.default_train import default_train
from util.errors import DivergenceError
from util.experiment import INITIALIZED, PRECONDITIONED, Experiment, perform
from util.network import Net
from util.signal_propagation import predict
from util.static_preconditioned_train import initialize, static_preconditioned_train
from util.training import evaluate, train

STATISTICS = predict(Net())


@pytest.fixture(scope="module")
def images():
    return synthetic_images(train=True, count=120)


def ignore(line):
    pass


def test_losses_and_weights_equal_those_of_a_plain_loop(images):
    """SGD with momentum 0.9 on minibatches of 4, written out; two epochs, 60 steps."""
    torch.manual_seed(7)
    net = Net()
    order = torch.Generator().manual_seed(7)
    velocity = [torch.zeros_like(parameter) for parameter in net.parameters()]
    losses = []
    for _ in range(2):
        for inputs, labels in minibatches(images, 4, order):
            loss = nn.CrossEntropyLoss()(net(inputs), labels)
            losses.append(loss.item())
            for parameter, v, gradient in zip(net.parameters(), velocity,
                                              torch.autograd.grad(loss, list(net.parameters()))):
                v.mul_(0.9).add_(gradient)
                parameter.data.sub_(0.001 * v)

    trained, run = default_train(images, 2, 7, ignore)
    assert run.losses.dtype == np.float32
    np.testing.assert_allclose(run.losses, losses, rtol=1e-5)
    for parameter, expected in zip(trained.parameters(), net.parameters()):
        torch.testing.assert_close(parameter, expected, rtol=1e-4, atol=1e-6)


def test_methods_see_the_same_minibatches(images, monkeypatch):
    seen = []

    def spy(net, labels):
        seen[-1].append(labels.tolist())
        return nn.functional.cross_entropy(net, labels)

    monkeypatch.setattr("util.training.cross_entropy", spy)
    for preconditioned in (True, False):
        seen.append([])
        static_preconditioned_train(images, STATISTICS, 0.001, 2, 3, ignore, preconditioned)
    seen.append([])
    default_train(images, 2, 3, ignore)
    assert len(seen[0]) == 60
    assert seen[0] == seen[1] == seen[2]


def test_initialization_only_leaves_gradients_untouched(images):
    """Its first step is that of plain SGD from the same parameters; the preconditioned one's is scaled."""
    torch.manual_seed(3)
    net = Net()
    initialize(net, STATISTICS)
    before = {name: parameter.detach().clone() for name, parameter in net.named_parameters()}
    four = load("synthetic", "", train=True, count=4)
    inputs, labels = next(minibatches(four, 4, torch.Generator().manual_seed(3)))
    nn.functional.cross_entropy(net(inputs), labels).backward()

    for preconditioned in (False, True):
        trained, _ = static_preconditioned_train(four, STATISTICS, 0.001, 1, 3, ignore, preconditioned)
        for name, gradient_std in gradient_stds(STATISTICS).items():
            factor = 1 / gradient_std if preconditioned else 1
            expected = before[name] - 0.001 * factor * net.get_parameter(name).grad
            torch.testing.assert_close(trained.get_parameter(name).detach(), expected, rtol=1e-5, atol=1e-7)


def test_drift_is_the_weights_standard_deviation_before_and_after_each_epoch(images):
    """Against networks whose training is stopped after no, one and two epochs."""
    _, run = static_preconditioned_train(images, STATISTICS, 0.01, 2, 3, ignore)
    torch.manual_seed(3)
    stopped = Net()
    initialize(stopped, STATISTICS)
    for epoch in range(3):
        if epoch:
            stopped, _ = static_preconditioned_train(images, STATISTICS, 0.01, epoch, 3, ignore)
        for layer in STATISTICS:
            weights = stopped.get_parameter(f"{layer.name}.weight").detach().double().numpy()
            assert run.weight_std[layer.name][epoch] == pytest.approx(weights.std(ddof=1), rel=1e-5)
    assert list(run.weight_std) == [layer.name for layer in STATISTICS]


def test_progress_is_reported_as_in_the_tutorial(images, monkeypatch):
    monkeypatch.setattr("util.training.REPORT_EVERY", 20)
    lines = []
    _, run = default_train(images, 2, 0, lines.append)
    first, second = run.losses[:20].mean(), run.losses[30:50].mean()
    assert lines == [f"[1,    20] loss: {first:.3f}", f"[2,    20] loss: {second:.3f}"]


def test_training_stops_at_the_first_loss_that_is_not_finite(images):
    class Exploding(nn.Module):
        def __init__(self):
            super().__init__()
            self.scale = nn.Parameter(torch.ones(()))
            self.steps = 0

        def forward(self, inputs):
            self.steps += 1
            return inputs.flatten(1)[:, :10] * self.scale * (float("nan") if self.steps == 33 else 1)

    net = Exploding()
    with pytest.raises(DivergenceError, match="became nan at step 3 of epoch 2"):
        train(net, images, 0.001, 5, 0, ignore)
    assert net.steps == 33


def test_evaluation_is_the_mean_over_all_images():
    net, images = Net(), synthetic_images(train=False, count=1300)
    logits = torch.cat([net((pixels[None] / 255 - 0.5) / 0.5) for pixels in images.pixels]).detach()
    loss, accuracy = evaluate(net, images)
    assert loss == pytest.approx(nn.functional.cross_entropy(logits, images.labels).item(), rel=1e-4)
    assert accuracy == pytest.approx((logits.argmax(1) == images.labels).double().mean().item(), abs=1e-3)


@pytest.mark.parametrize("method", [PRECONDITIONED, INITIALIZED])
def test_divergence_names_method_and_learning_rate(method):
    experiment = Experiment(method, 0, 1e9, 1, "synthetic", "", 200, STATISTICS, name=method, quiet=True)
    with pytest.raises(DivergenceError, match=f"{method}: the loss became (nan|inf) at step .* learning rate 1e\\+09"):
        perform(experiment)
