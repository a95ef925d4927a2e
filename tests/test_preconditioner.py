"""Initialization and preconditioner do what the statistics promise."""
import copy

import numpy as np
import pytest
import torch
from scipy import stats
from torch import nn

from util.network import Net
from util.signal_propagation import predict
from util.static_preconditioned_train import initialize, precondition, preconditioner

CHAINS = [
    (Net(), (3, 32, 32)),
    (nn.Sequential(nn.Sequential(nn.Linear(50, 40, bias=False), nn.ReLU()), nn.Linear(40, 30)), (50,)),
    (nn.Linear(50, 40), (50,)),
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
    assert preconditioner(net, statistics) == [1 / stds[name] for name, _ in net.named_parameters()]


STEPS, MOMENTUM = 6, 0.9


def all_parameters(net):
    return [{"params": net.parameters()}]


def groups_in_another_order(net):
    """With learning rates of their own, and one tensor alone in a group."""
    parameters = dict(net.named_parameters())
    orders = {
        3e-4: ["fc3.bias", "conv2.weight", "fc1.bias", "conv1.weight"],
        1e-4: ["fc2.weight"],
        2e-4: ["conv2.bias", "fc3.weight", "fc2.bias", "conv1.bias", "fc1.weight"],
    }
    return [{"params": [parameters[name] for name in names], "lr": rate} for rate, names in orders.items()]


def some_parameters(net):
    return [{"params": [net.fc2.weight, net.conv1.bias]}]


def frozen_layer(net):
    net.conv1.requires_grad_(False)
    return all_parameters(net)


def gradients_of_step(net, step):
    """Return a gradient for each parameter that has one, by name; what a loss would give plays no role."""
    generator = torch.Generator().manual_seed(step)
    return {name: torch.randn(parameter.shape, generator=generator)
            for name, parameter in net.named_parameters() if parameter.requires_grad}


def set_gradients(net, gradients):
    for name, parameter in net.named_parameters():
        parameter.grad = gradients[name].clone() if name in gradients else None


def new_net():
    torch.manual_seed(0)
    return Net()


def preconditioned_steps(make_groups, **settings):
    """Take steps with the preconditioner; return the parameters thereafter, by name."""
    net = new_net()
    optimizer = torch.optim.SGD(make_groups(net), lr=1e-4, momentum=MOMENTUM, **settings)
    precondition(optimizer, net, predict(net))
    for step in range(STEPS):
        set_gradients(net, gradients_of_step(net, step))
        optimizer.step()
    return dict(net.named_parameters())


def steps_by_hand(make_groups, nesterov=False):
    """Write SGD out in plain loops, with factors that are looked up by the parameters' names."""
    net = new_net()
    stds = by_parameter(predict(net), "weight_gradient_std", "bias_gradient_std")
    names = {id(parameter): name for name, parameter in net.named_parameters()}
    rates = {}
    for group in make_groups(net):
        for parameter in group["params"]:
            rates[names[id(parameter)]] = group.get("lr", 1e-4)
    values = {name: parameter.detach().double() for name, parameter in net.named_parameters()}
    velocities = {name: torch.zeros_like(value) for name, value in values.items()}
    for step in range(STEPS):
        for name, gradient in gradients_of_step(net, step).items():
            if name not in rates:
                continue
            multiplied = gradient / stds[name]
            velocities[name] = MOMENTUM * velocities[name] + multiplied
            direction = multiplied + MOMENTUM * velocities[name] if nesterov else velocities[name]
            values[name] = values[name] - rates[name] * direction
    return values


def check_same(parameters, expected):
    assert parameters.keys() == expected.keys()
    for name, value in expected.items():
        torch.testing.assert_close(parameters[name].detach().double(), value, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("make_groups", [all_parameters, groups_in_another_order, some_parameters, frozen_layer])
@pytest.mark.parametrize("nesterov", [False, True])
def test_precondition_does_what_multiplying_by_hand_does(make_groups, nesterov):
    check_same(preconditioned_steps(make_groups, nesterov=nesterov), steps_by_hand(make_groups, nesterov))


def test_gradients_after_a_step_are_the_multiplied_ones():
    net = Net()
    optimizer = torch.optim.SGD(net.parameters(), lr=1e-4)
    precondition(optimizer, net, predict(net))
    gradients = gradients_of_step(net, 0)
    set_gradients(net, gradients)
    optimizer.step()
    stds = by_parameter(predict(net), "weight_gradient_std", "bias_gradient_std")
    for name, parameter in net.named_parameters():
        torch.testing.assert_close(parameter.grad, gradients[name] / stds[name])


def test_state_that_is_saved_and_loaded_midway_changes_nothing():
    net = new_net()
    for steps in range(3), range(3, STEPS):
        optimizer = torch.optim.SGD(net.parameters(), lr=1e-4, momentum=MOMENTUM)
        precondition(optimizer, net, predict(net))
        if steps.start > 0:
            optimizer.load_state_dict(saved)
        for step in steps:
            set_gradients(net, gradients_of_step(net, step))
            optimizer.step()
        saved = copy.deepcopy(optimizer.state_dict())
    check_same(dict(net.named_parameters()), steps_by_hand(all_parameters))


def test_state_that_is_loaded_into_the_same_optimizer_leaves_the_preconditioner_in_place():
    net = new_net()
    optimizer = torch.optim.SGD(net.parameters(), lr=1e-4, momentum=MOMENTUM)
    precondition(optimizer, net, predict(net))
    for step in range(STEPS):
        set_gradients(net, gradients_of_step(net, step))
        optimizer.step()
        optimizer.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    check_same(dict(net.named_parameters()), steps_by_hand(all_parameters))


def test_parameters_of_another_network_are_left_alone():
    net, other = Net(), Net()
    optimizer = torch.optim.SGD([*other.parameters(), *net.parameters()], lr=1e-4)
    precondition(optimizer, net, predict(net))
    gradients = gradients_of_step(other, 0)
    set_gradients(other, gradients)
    optimizer.step()
    for name, parameter in other.named_parameters():
        assert torch.equal(parameter.grad, gradients[name]), name
    assert all(parameter.grad is None for parameter in net.parameters())


def test_removed_handle_ends_the_preconditioning():
    net = Net()
    optimizer = torch.optim.SGD(net.parameters(), lr=1e-4)
    handle = precondition(optimizer, net, predict(net))
    handle.remove()
    gradients = gradients_of_step(net, 0)
    set_gradients(net, gradients)
    optimizer.step()
    for name, parameter in net.named_parameters():
        assert torch.equal(parameter.grad, gradients[name]), name


def test_optimizer_of_other_parameters_is_refused():
    net = Net()
    optimizer = torch.optim.SGD(copy.deepcopy(net).parameters(), lr=1e-4)
    with pytest.raises(ValueError, match="^the optimizer has none of the network's parameters$"):
        precondition(optimizer, net, predict(net))


@pytest.mark.parametrize("other", [Net(6), nn.Linear(3, 2), nn.Sequential(Net())])
def test_statistics_of_another_network_are_refused(other):
    optimizer = torch.optim.SGD(other.parameters(), lr=1e-4)
    with pytest.raises(ValueError, match="^the statistics are not of this network, whose layers are "):
        precondition(optimizer, other, predict(Net()))


@pytest.mark.parametrize("optimizer_type", [torch.optim.SGD, torch.optim.LBFGS])
def test_step_that_computes_the_gradients_itself_is_refused(optimizer_type):
    net = nn.Linear(3, 2)
    optimizer = optimizer_type(net.parameters(), lr=1e-4)
    precondition(optimizer, net, predict(net, (3,)))
    with pytest.raises(ValueError, match="^a step with a closure cannot be preconditioned"):
        optimizer.step(lambda: net(torch.ones(1, 3)).sum())
    with pytest.raises(ValueError, match="^a step with a closure cannot be preconditioned"):
        optimizer.step(closure=lambda: net(torch.ones(1, 3)).sum())
