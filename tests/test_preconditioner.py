"""Initialization and preconditioner do what the statistics promise."""
import numpy as np
import pytest
import torch
from scipy import stats
from torch import nn

from util.network import Net
from util.signal_propagation import predict
from util.static_preconditioned_train import initialize, preconditioner

CHAINS = [
    (Net(), (3, 32, 32)),
    (nn.Sequential(nn.Sequential(nn.Linear(50, 40, bias=False), nn.ReLU()), nn.Linear(40, 30)), (50,)),
    (nn.Linear(50, 40), (50,)),
]


def by_parameter(statistics, fields):
    """Name each parameter tensor, in any order, with what the statistics say of it."""
    return {f"{layer.name}.{kind}".lstrip("."): getattr(layer, field)
            for layer in statistics for kind, field in zip(("weight", "bias"), fields)}


@pytest.mark.parametrize("net, input_shape", CHAINS)
def test_initialization_has_the_predicted_scales(net, input_shape):
    """A chi-squared interval for each tensor's mean square; a family-wise significance level of 1 %."""
    statistics = predict(net, input_shape)
    torch.manual_seed(0)
    initialize(net, statistics)
    stds = by_parameter(statistics, ("weight_std", "bias_std"))
    for name, parameter in net.named_parameters():
        low, high = stats.chi2.interval(1 - 0.01 / 10, parameter.numel())
        assert low < np.sum((parameter.detach().numpy() / stds[name]) ** 2) < high, name


@pytest.mark.parametrize("net, input_shape", CHAINS)
def test_factors_are_in_the_order_of_the_parameters(net, input_shape):
    statistics = predict(net, input_shape)
    stds = by_parameter(statistics, ("weight_gradient_std", "bias_gradient_std"))
    assert preconditioner(net, statistics) == [1 / stds[name] for name, _ in net.named_parameters()]
