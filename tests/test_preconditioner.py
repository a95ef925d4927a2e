"""Initialization and preconditioner do what the statistics promise."""
import numpy as np
import pytest
import torch
from scipy import stats
from torch import nn

from tests.monte_carlo import gradient_stds, sample
from util.network import Net
from util.signal_propagation import predict
from util.static_preconditioned_train import initialize, precondition


def test_preconditioned_gradients_have_unit_second_moment():
    """Student's t-interval over independent networks; a family-wise significance level of 1 % for the ten tensors.

    With 600 networks the intervals reach 6 to 14 % to either side of a second moment, wide enough for the finite width
    of the layers, which the theory neglects, to go unnoticed (see the Monte Carlo test of the theory for that).
    """
    net = Net()
    statistics = predict(net)
    precondition(net, statistics)
    _, gradients = sample(net, statistics, (3, 32, 32), networks=600, inputs=1, seed=1)
    assert len(gradients) == 10
    for name, squares in gradients.items():
        low, high = stats.t.interval(1 - 0.01 / 10, len(squares) - 1, squares.mean(), stats.sem(squares))
        assert low < 1 < high, name
        assert high - low < 0.3, name


def test_initialization_has_the_predicted_scales():
    """A chi-squared interval for each tensor's mean square; a family-wise significance level of 1 %."""
    net = Net()
    statistics = predict(net)
    torch.manual_seed(0)
    initialize(net, statistics)
    for layer in statistics:
        for parameter, std in ((f"{layer.name}.weight", layer.weight_std), (f"{layer.name}.bias", layer.bias_std)):
            values = net.get_parameter(parameter).detach().double().numpy().ravel()
            low, high = stats.chi2.interval(1 - 0.01 / 10, values.size)
            assert low < np.sum((values / std) ** 2) < high, parameter


def test_initialization_is_reproduced_by_the_global_seed():
    nets = [Net(), Net()]
    for net in nets:
        torch.manual_seed(5)
        initialize(net, predict(net))
    assert all(torch.equal(a, b) for a, b in zip(nets[0].parameters(), nets[1].parameters()))


@pytest.fixture
def twins():
    """Two networks with the same parameters, the second one preconditioned, and the factors by parameter name."""
    torch.manual_seed(0)
    plain, preconditioned = Net(), Net()
    preconditioned.load_state_dict(plain.state_dict())
    statistics = predict(plain)
    precondition(preconditioned, statistics)
    return plain, preconditioned, {name: 1 / std for name, std in gradient_stds(statistics).items()}


def test_every_backward_leaves_preconditioned_gradients(twins):
    plain, preconditioned, factors = twins
    images = torch.randn(4, 3, 32, 32)
    for _ in range(2):  # the second time, gradients accumulate
        plain(images).sum().backward()
        preconditioned(images).sum().backward()
        for name, parameter in preconditioned.named_parameters():
            expected = factors[name] * plain.get_parameter(name).grad
            torch.testing.assert_close(parameter.grad, expected, rtol=1e-5, atol=1e-6)


def test_sgd_step_is_learning_rate_times_preconditioned_gradient(twins):
    plain, preconditioned, factors = twins
    images = torch.randn(4, 3, 32, 32)
    before = {name: parameter.detach().clone() for name, parameter in preconditioned.named_parameters()}
    plain(images).sum().backward()
    preconditioned(images).sum().backward()
    torch.optim.SGD(preconditioned.parameters(), lr=0.01).step()
    for name, parameter in preconditioned.named_parameters():
        expected = before[name] - 0.01 * factors[name] * plain.get_parameter(name).grad
        torch.testing.assert_close(parameter.detach(), expected, rtol=1e-5, atol=1e-6)


def test_layers_without_bias():
    net = nn.Sequential(nn.Linear(20, 10, bias=False), nn.ReLU(), nn.Linear(10, 5))
    statistics = predict(net, (20,))
    initialize(net, statistics)
    precondition(net, statistics)
    net(torch.randn(3, 20)).sum().backward()
    assert net[0].bias is None
    assert all(parameter.grad is not None for parameter in net.parameters())
