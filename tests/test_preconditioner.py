"""The preconditioner multiplies gradients by what the statistics say, until it is removed."""
import copy

import pytest
import torch
from scipy.stats import gmean
from torch import nn

from tests.helpers import trained
from util.network import Net
from util.static_preconditioned_train import precondition, starting_rate
from util.theory import gradient_stds, initialize, predict, predict_current

INPUTS = torch.arange(18.0).reshape(3, 6).cos()


@pytest.fixture
def net():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 4))
    initialize(net, predict(net, (6,)))
    return net


@pytest.fixture
def statistics(net):
    return predict(net, (6,))


def gradients(net, inputs=INPUTS):
    """Send the gradient of a loss back; return those that arrive at the parameters."""
    net.zero_grad()
    net(inputs).square().sum().backward()
    return [parameter.grad for parameter in net.parameters()]


def divided(gradients, net, statistics):
    """Divide gradients by their predicted standard deviations."""
    stds = gradient_stds(net, statistics).values()
    return [gradient / std for gradient, std in zip(gradients, stds)]


def test_gradients_are_multiplied_once_until_the_handle_of_the_last_call_is_removed(net, statistics):
    """A hook of the user's own stays."""
    net[0].weight.register_hook(lambda gradient: 2 * gradient)
    before = gradients(net)
    first = precondition(net, statistics)
    second = precondition(net, statistics)
    first.remove()
    torch.testing.assert_close(gradients(net), divided(before, net, statistics))
    second.remove()
    torch.testing.assert_close(gradients(net), before)


def test_frozen_parameters_are_left_alone(net, statistics):
    plain = gradients(net)
    net[0].weight.requires_grad_(False)
    precondition(net, statistics)
    frozen, *multiplied = gradients(net)
    assert frozen is None
    _, *expected = divided(plain, net, statistics)
    torch.testing.assert_close(multiplied, expected)


def test_gradients_are_plain_after_the_training():
    net, _ = trained("preconditioned", epochs=1)
    images = torch.randn(4, 3, 32, 32)
    plain = gradients(copy.deepcopy(net), images)  # since copies have no factors
    torch.testing.assert_close(gradients(net, images), plain)


def test_weights_that_were_not_initialized_are_refused_with_the_way_out():
    net = Net()
    with pytest.raises(ValueError, match="'conv1'.*scale.*initialize.*predict_current"):
        precondition(net, predict(net))
    precondition(net, predict_current(net))


@pytest.mark.parametrize("accepted, refused", [(0.28, 0.27), (2.27, 2.28)])
def test_weights_that_are_far_smaller_or_larger_than_random_ones_are_refused(net, statistics, accepted, refused):
    std = statistics[0].weight_std
    nn.init.constant_(net[0].weight, accepted * std)
    precondition(net, statistics)
    nn.init.constant_(net[0].weight, refused * std)
    with pytest.raises(ValueError, match="the weights of '0' have another scale"):
        precondition(net, statistics)


def test_no_random_draw_is_refused_for_its_scale():
    """Not even of two weights."""
    net = nn.Linear(2, 1)
    statistics = predict(net, (2,))
    torch.manual_seed(0)
    for _ in range(300):
        initialize(net, statistics)
        precondition(net, statistics)


@pytest.mark.parametrize("function", [initialize, precondition])
def test_statistics_of_another_network_are_refused(function):
    with pytest.raises(ValueError, match="not of this network, whose layers are"):
        function(Net(6), predict(Net()))


def test_learning_rate_to_begin_with_is_divided_by_the_geometric_mean_of_the_factors(net, statistics):
    stds = [*gradient_stds(net, statistics).values()]
    assert starting_rate(0.1, net, statistics) == pytest.approx(0.1 * gmean(stds))
