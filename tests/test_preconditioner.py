"""Initialization and preconditioner do what the statistics promise."""
import copy

import pytest
import torch
from scipy.stats import chi2, gmean
from torch import nn

from tests.helpers import trained
from tests.theory.monte_carlo import named_stds
from util.network import Net
from util.static_preconditioned_train import precondition, starting_rate
from util.theory import initialize, predict, predict_current


@pytest.mark.parametrize("net, input_shape", [
    (Net(), (3, 32, 32)), (nn.Linear(50, 40).requires_grad_(False), (50,)), (nn.Linear(50, 40, bias=False), (50,))])
def test_initialized_parameters_have_the_predicted_scales(net, input_shape):
    """A chi-squared interval for each tensor's mean square; a family-wise significance level of 1 %."""
    statistics = predict(net, input_shape)
    torch.manual_seed(0)
    initialize(net, statistics)
    for layer in statistics:
        module = net.get_submodule(layer.name)
        for parameter, std in (module.weight, layer.weight_std), (module.bias, layer.bias_std):
            if parameter is not None:
                low, high = chi2.interval(1 - 0.01 / 10, parameter.numel())
                assert low < (parameter / std).square().sum() < high, layer.name


@pytest.fixture
def net():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 4))
    initialize(net, predict(net, (6,)))
    return net


def gradients(net):
    """Send the gradient of a loss back, and return those that arrive at the parameters, by name."""
    net.zero_grad()
    inputs = torch.arange(18.0).reshape(3, 6).cos()
    net(inputs).square().sum().backward()
    return {name: parameter.grad for name, parameter in net.named_parameters()}


def divided(net, gradients):
    """Divide gradients by their predicted standard deviations."""
    stds = named_stds(net, predict(net, (6,)))
    return {name: gradient / stds[name] for name, gradient in gradients.items()}


def check_same(gradients, expected):
    torch.testing.assert_close(gradients, expected)


def test_gradients_arrive_multiplied_until_the_handle_is_removed(net):
    plain = gradients(net)
    handle = precondition(net, predict(net, (6,)))
    check_same(gradients(net), divided(net, plain))
    handle.remove()
    check_same(gradients(net), plain)


def test_second_call_takes_the_place_of_the_first_and_of_no_other_hook(net):
    plain = gradients(net)
    net[0].weight.register_hook(lambda gradient: 2 * gradient)
    doubled = {**plain, "0.weight": 2 * plain["0.weight"]}
    first = precondition(net, predict(net, (6,)))
    second = precondition(net, predict(net, (6,)))
    first.remove()
    check_same(gradients(net), divided(net, doubled))
    second.remove()
    check_same(gradients(net), doubled)


def test_frozen_parameters_and_copies_are_left_alone(net):
    plain = gradients(net)
    net[0].weight.requires_grad_(False)
    precondition(net, predict(net, (6,)))
    measured, expected = gradients(net), divided(net, plain)
    assert measured.pop("0.weight") is None
    del expected["0.weight"]
    check_same(measured, expected)
    copied = gradients(copy.deepcopy(net))
    del copied["0.weight"], plain["0.weight"]
    check_same(copied, plain)


def test_statistics_of_another_scale_are_refused():
    torch.manual_seed(0)
    net = Net()
    with pytest.raises(ValueError, match="'conv1'.*scale.*initialize.*predict_current"):
        precondition(net, predict(net))
    precondition(net, predict_current(net))
    initialize(net, predict(net))
    nn.init.normal_(net.fc3.weight, std=1.2 * predict(net)[-1].weight_std)
    precondition(net, predict(net))  # there is a margin beyond what is random
    for factor in 0.7, 1.45:
        nn.init.normal_(net.fc3.weight, std=factor * predict(net)[-1].weight_std)
        with pytest.raises(ValueError, match="'fc3'.*scale"):
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
        with pytest.raises(ValueError, match="not of this network, whose layers are"):
            function(other, predict(Net()))


def test_gradients_are_plain_after_training():
    net, _ = trained("preconditioned", epochs=1)
    plain = copy.deepcopy(net)
    inputs = torch.randn(4, 3, 32, 32)
    after, expected = (torch.autograd.grad(each(inputs).sum(), list(each.parameters())) for each in (net, plain))
    torch.testing.assert_close(after, expected)


def test_learning_rate_to_begin_with_is_divided_by_the_geometric_mean_of_the_factors(net):
    statistics = predict(net, (6,))
    stds = [std for layer in statistics for std in (layer.weight_gradient_std, layer.bias_gradient_std)]
    assert starting_rate(0.1, net, statistics) == pytest.approx(0.1 * gmean(stds))
