"""Initialization and preconditioner do what the statistics promise."""
import copy

import numpy as np
import pytest
import torch
from scipy import stats
from torch import nn

from tests.monte_carlo import sample
from util.network import Net
from util.signal_propagation import gradient_stds, predict
from util.static_preconditioned_train import initialize, preconditioner


def test_preconditioned_gradients_have_unit_second_moment():
    """Student's t-interval over independent networks; a family-wise significance level of 1 % for the ten tensors.

    With 600 networks the intervals reach 6 to 14 % to either side of a second moment, wide enough for the finite width
    of the layers, which the theory neglects, to go unnoticed (see the Monte Carlo test of the theory for that).
    """
    net = Net()
    statistics = predict(net)
    _, gradients = sample(net, lambda: initialize(net, statistics), lambda: torch.randn(1, 3, 32, 32), 600, seed=1)
    assert len(gradients) == 10
    for factor, (name, squares) in zip(preconditioner(net, statistics), gradients.items()):
        preconditioned = factor**2 * squares
        low, high = stats.t.interval(1 - 0.01 / 10, len(squares) - 1, preconditioned.mean(), stats.sem(preconditioned))
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


def test_factors_are_in_the_order_of_the_parameters():
    net = Net()
    statistics = predict(net)
    by_name = {f"{layer.name}.{kind}": std for layer in statistics
               for kind, std in (("weight", layer.weight_gradient_std), ("bias", layer.bias_gradient_std))}
    assert preconditioner(net, statistics) == [1 / by_name[name] for name, _ in net.named_parameters()]


def test_factors_of_a_copy_are_those_of_the_original():
    net = Net()
    statistics = predict(net)
    assert preconditioner(copy.deepcopy(net), statistics) == preconditioner(net, statistics)


@pytest.mark.parametrize("chain, factors", [
    (nn.Sequential(nn.Linear(20, 10, bias=False), nn.ReLU(), nn.Linear(10, 5)), 3),
    (nn.Sequential(nn.Sequential(nn.Linear(20, 10), nn.ReLU()), nn.Linear(10, 5)), 4),
    (nn.Linear(20, 10), 2),
])
def test_any_chain_gets_a_factor_for_each_tensor(chain, factors):
    statistics = predict(chain, (20,))
    initialize(chain, statistics)
    assert preconditioner(chain, statistics) == [1 / std for std in gradient_stds(chain, statistics)]
    assert len(preconditioner(chain, statistics)) == factors
