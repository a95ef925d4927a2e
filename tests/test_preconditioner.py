"""Initialization and preconditioner do what the statistics promise."""
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


def gradients_after_a_step(net, *parameter_groups, **settings):
    """Train one step with all gradients 1; return what the optimizer makes of them, by the parameters' names."""
    optimizer = torch.optim.SGD([{"params": list(group)} for group in parameter_groups], lr=0.001, **settings)
    handle = precondition(optimizer, net, predict(net))
    for parameter in net.parameters():
        parameter.grad = torch.ones_like(parameter) if parameter.requires_grad else None
    optimizer.step()
    handle.remove()
    optimizer.step()  # without another factor
    return {name: parameter.grad.unique().item() for name, parameter in net.named_parameters()
            if parameter.grad is not None}


def test_gradients_are_multiplied_by_parameter_not_by_order():
    """With groups in any order, a frozen layer, and parameters of another network; and only the optimizer's own."""
    net, other = Net(), nn.Linear(3, 2)
    net.conv2.requires_grad_(False)
    other.weight.grad = torch.ones(2, 3)
    factors = {name: pytest.approx(factor) for (name, _), factor in
               zip(net.named_parameters(), preconditioner(net, predict(net)))}
    ours = [net.fc3.weight, net.conv1.bias, net.conv2.weight]
    multiplied = gradients_after_a_step(net, ours[:1], [*other.parameters()], ours[1:], momentum=0.9, nesterov=True)
    changed = {"fc3.weight", "conv1.bias"}
    assert multiplied == {name: factors[name] if name in changed else 1.0 for name in factors if "conv2" not in name}
    assert torch.equal(other.weight.grad, torch.ones(2, 3))


def test_a_loaded_state_leaves_the_preconditioner_in_place():
    net = nn.Linear(50, 40)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.5)
    precondition(optimizer, net, predict(net, (50,)))
    optimizer.load_state_dict(optimizer.state_dict())
    before = net.weight.detach().clone()
    net.weight.grad = torch.ones_like(net.weight)
    optimizer.step()
    factor = preconditioner(net, predict(net, (50,)))[0]
    np.testing.assert_allclose((before - net.weight).detach(), 0.5 * factor, rtol=1e-5)
