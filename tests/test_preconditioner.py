"""Initialization and preconditioner do what the statistics promise."""
import copy

import numpy as np
import pytest
import torch
from scipy import stats
from scipy.stats import gmean
from torch import nn

from util.network import Net
from util.static_preconditioned_train import precondition, preconditioner, starting_rate
from util.theory import initialize, predict, predict_current

CHAINS = [
    (Net(), (3, 32, 32)),
    (nn.Sequential(nn.Sequential(nn.Linear(50, 40, bias=False), nn.ReLU()), nn.Linear(40, 30)), (50,)),
    (nn.Linear(50, 40).requires_grad_(False), (50,)),
]


def by_parameter(statistics, weight_field, bias_field):
    """Name each parameter tensor, in any order, with what the statistics say of it."""
    values = {}
    for layer in statistics:
        prefix = f"{layer.name}." if layer.name else ""
        values[f"{prefix}weight"] = getattr(layer, weight_field)
        values[f"{prefix}bias"] = getattr(layer, bias_field)
    return values


@pytest.mark.parametrize("net, input_shape", CHAINS)
def test_initialization_has_the_predicted_scales(net, input_shape):
    """A chi-squared interval for each tensor's mean square; a family-wise significance level of 1 %."""
    statistics = predict(net, input_shape)
    torch.manual_seed(0)
    initialize(net, statistics)
    stds = by_parameter(statistics, "weight_std", "bias_std")
    for name, parameter in net.named_parameters():
        low, high = stats.chi2.interval(1 - 0.01 / 10, parameter.numel())
        standard = parameter.detach().numpy() / stds[name]
        assert low < np.sum(standard**2) < high, name


@pytest.mark.parametrize("net, input_shape", CHAINS)
def test_factors_are_in_the_order_of_the_parameters(net, input_shape):
    statistics = predict(net, input_shape)
    stds = by_parameter(statistics, "weight_gradient_std", "bias_gradient_std")
    expected = [1 / stds[name] for name, _ in net.named_parameters()]
    assert list(preconditioner(net, statistics).values()) == expected
    assert starting_rate(0.1, net, statistics) == pytest.approx(0.1 / gmean(expected))


@pytest.fixture
def net():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 4))
    initialize(net, predict(net, (6,)))
    return net


def gradients(net, samples=3):
    """Send the gradient of a loss back, and return those that arrive at the parameters, by name."""
    net.zero_grad()
    inputs = torch.arange(6.0 * samples).reshape(samples, 6).cos()
    net(inputs).square().sum().backward()
    return {name: parameter.grad for name, parameter in net.named_parameters()}


def multiplied(net, gradients):
    """Multiply gradients by hand, by the statistics' fields."""
    stds = by_parameter(predict(net, (6,)), "weight_gradient_std", "bias_gradient_std")
    return {name: gradient / stds[name] for name, gradient in gradients.items()}


def check_same(gradients, expected):
    assert gradients.keys() == expected.keys()
    for name, gradient in gradients.items():
        torch.testing.assert_close(gradient, expected[name], msg=name)


def test_gradients_arrive_multiplied_until_the_handle_is_removed(net):
    plain = gradients(net)
    expected = multiplied(net, plain)
    handle = precondition(net, predict(net, (6,)))
    check_same(gradients(net), expected)
    check_same(gradients(net), expected)
    handle.remove()
    check_same(gradients(net), plain)


def test_second_call_takes_the_place_of_the_first(net):
    plain = gradients(net)
    expected = multiplied(net, plain)
    first = precondition(net, predict(net, (6,)))
    second = precondition(net, predict(net, (6,)))
    check_same(gradients(net), expected)
    first.remove()
    check_same(gradients(net), expected)
    check_same(gradients(copy.deepcopy(net)), plain)
    second.remove()
    check_same(gradients(net), plain)


def test_other_hooks_stay(net):
    expected = multiplied(net, gradients(net))
    net[0].weight.register_hook(lambda gradient: 2 * gradient)
    precondition(net, predict(net, (6,)))
    precondition(net, predict(net, (6,)))
    check_same({"0.weight": gradients(net)["0.weight"]}, {"0.weight": 2 * expected["0.weight"]})


def test_frozen_parameters_are_left_alone(net):
    expected = multiplied(net, gradients(net))
    net[0].weight.requires_grad_(False)
    precondition(net, predict(net, (6,)))
    measured = gradients(net)
    assert measured.pop("0.weight") is None
    del expected["0.weight"]
    check_same(measured, expected)


def test_statistics_of_another_scale_are_refused():
    torch.manual_seed(0)
    net = Net()
    with pytest.raises(ValueError, match="'conv1' have another scale.*initialize.*predict_current"):
        precondition(net, predict(net))
    precondition(net, predict_current(net)).remove()
    initialize(net, predict(net))
    precondition(net, predict(net)).remove()
    with torch.no_grad():
        net.fc3.weight.mul_(1.2)
    precondition(net, predict(net)).remove()  # there is a margin beyond what is random
    with torch.no_grad():
        net.fc3.weight.mul_(1.2)
    with pytest.raises(ValueError, match="'fc3' have another scale"):
        precondition(net, predict(net))


def test_no_random_draw_is_refused_for_its_scale():
    """Not even of two weights."""
    net = nn.Linear(2, 1)
    statistics = predict(net, (2,))
    torch.manual_seed(0)
    for _ in range(300):
        initialize(net, statistics)
        precondition(net, statistics)


@pytest.mark.parametrize("other", [Net(6), nn.Linear(3, 2), nn.Sequential(Net())])
def test_statistics_of_another_network_are_refused(other):
    for function in initialize, precondition:
        with pytest.raises(ValueError, match="^the statistics are not of this network, whose layers are"):
            function(other, predict(Net()))
