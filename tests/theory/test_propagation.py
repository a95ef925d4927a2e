"""What `predict` says of whole networks, which it takes apart; what it does not cover is refused by name."""
import math

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional
from torch.nn.utils import parametrizations, prune

from tests.theory.helpers import Added, with_stds
from tests.theory.networks import NETWORKS
from util.network import Net
from util.theory import gradient_stds, input_moments, predict, predict_current, predict_for
from util.theory.initializations import glorot, he, pytorch


def numbers(statistics):
    """Return (layers, 5): all but the names."""
    return np.array([layer[1:] for layer in statistics])


@pytest.mark.parametrize("name", ["LeNet-5 of 1998: Tanh, average pools", "pre-activation residual network"])
def test_current_prediction_of_the_variance_preserving_scales_is_the_prediction(name):
    """Tolerance: the parameters are float32."""
    net, input_shape = NETWORKS[name]
    expected = predict(net, input_shape, input_moments=(0.5, 0.25))
    for layer in expected:
        with_stds(net.get_submodule(layer.name), layer.weight_std, layer.bias_std)
    current = predict_current(net, input_shape, input_moments=(0.5, 0.25))
    assert numbers(current) == pytest.approx(numbers(expected), rel=1e-6)


@pytest.mark.parametrize("rule, draw", [
    (pytorch, lambda layer: layer.reset_parameters()),
    (he, lambda layer: (nn.init.kaiming_normal_(layer.weight, nonlinearity="relu"), nn.init.zeros_(layer.bias))),
    (glorot, lambda layer: (nn.init.xavier_normal_(layer.weight), nn.init.zeros_(layer.bias)))])
def test_initializations_have_the_scales_that_pytorch_draws(rule, draw):
    """Up to sampling errors."""
    torch.manual_seed(0)
    layer = nn.Conv2d(64, 1000, 3)
    draw(layer)
    (expected,) = predict_for(rule, layer, (64, 3, 3))
    (drawn,) = predict_current(layer, (64, 3, 3))
    assert drawn.weight_std == pytest.approx(expected.weight_std, rel=0.02)
    assert drawn.bias_std == pytest.approx(expected.bias_std, rel=0.05)


@pytest.mark.parametrize("bias, variances", [(True, (0.5 / 50, 0.5)), (False, (1 / 50, 0))])
def test_layers_without_bias_have_no_bias_variance(bias, variances):
    (layer,) = predict(nn.Linear(50, 10, bias=bias), (50,), bias_variance=0.5)
    assert (layer.weight_std**2, layer.bias_std**2) == pytest.approx(variances)


class OwnReLU(nn.ReLU):
    pass


LINEAR, TRANSPOSED, EMPTY = (nn.Linear(6, 6) for _ in range(3))
TRANSPOSED.weight.data = LINEAR.weight.data.t()
EMPTY.out_features = 0
MODULES = [  # behind a Conv2d, with the reason why they are refused
    (nn.Softmax(dim=1), "leave it to the loss"),
    (nn.DataParallel(nn.Conv2d(4, 4, 1)), "predict the module that it wraps"),
    (OwnReLU(), "no rule"),
    (nn.Dropout(1.0), "drops all"),
    (nn.Dropout2d(), "drops whole channels"),
    (nn.Conv2d(4, 4, 3, padding=1, padding_mode="circular"), "pads its input by 'circular'"),
    (nn.Conv2d(3, 4, 1), "takes 3 channels"),
    (nn.Linear(6, 5), "takes 6 features; flatten a map before"),
    (nn.Flatten(2), r"not reshape as flatten\(x, 1\) or squeeze do"),
    (nn.MaxPool2d(2, return_indices=True), "returns the indices"),
    (nn.AvgPool2d(2, padding=1), "pads its input"),
    (nn.AvgPool2d(4, ceil_mode=True), "not of equal size"),
    (nn.AvgPool2d(3, 2), "windows overlap.*stride"),
    (nn.AvgPool2d(2, divisor_override=3), "has a divisor_override"),
    (nn.Sequential(nn.Flatten(), nn.MaxPool2d(2)), "takes a map"),
    (nn.Sequential(nn.Flatten(), nn.AvgPool2d(2)), "takes a map"),
    (nn.Sequential(nn.Flatten(), nn.AdaptiveAvgPool2d(2)), "takes a map"),
    (nn.Sequential(nn.Flatten(), Added(nn.Identity(), nn.Linear(144, 144))), "one of the terms is a flattened map"),
    (nn.Sequential(nn.ReLU(), nn.Conv2d(4, 4, 1, padding=1, bias=False)), "no bias.*in the padding"),
    (nn.Sequential(nn.GELU(), nn.MaxPool2d(2)), "put the pool before the activation"),
    (nn.Sequential(nn.Dropout(), nn.MaxPool2d(2)), "output of a Conv2d or Linear"),
]
FUNCTIONS = [  # of the output of a Conv2d and another one
    (lambda x, other: 0.1 * x, "let the weights carry a constant factor"),
    (lambda x, other: torch.cat([x, other(x)], dim=1), "concatenated"),
    (lambda x, other: x.exp(), "no rule; util/theory/rules.py lists"),
    (lambda x, other: x.to(torch.int8).float(), "it rounds"),
    (lambda x, other: x.T, "has no attribute 'T'"),
    (lambda x, other: x.view(1, -1), "not reshape as"),
    (lambda x, other: functional.max_pool2d(x, (1, 6)).view(-1, 4, 1, 6), "not reshape as"),
    (lambda x, other: x.flatten(1).mean(1), "takes a map"),
    (lambda x, other: x.mean((2, 1, 3)), "not average over height and width"),
    (lambda x, other: functional.relu(x[:, :1]), "no rule"),
    (lambda x, other: sum([x, x]), r"write a \+ b"),
    (lambda x, other: x + functional.relu(x), "neither term"),
    (lambda x, other: x + functional.max_pool2d(other(x), 2), "shapes differ"),
    (lambda x, other: functional.relu(functional.relu(x) + other(x)), "a sum of such outputs"),
    (lambda x, other: functional.relu(x + functional.dropout(other(x))), "a sum of such outputs"),
]


class Own(nn.Module):
    def __init__(self, function):
        super().__init__()
        self.function = function
        self.first = nn.Conv2d(3, 4, 3)
        self.other = nn.Conv2d(4, 4, 1)

    def forward(self, x):
        return self.function(self.first(x), self.other)


@pytest.mark.parametrize("net, reason", [
    *((nn.Sequential(nn.Conv2d(3, 4, 3), module), reason) for module, reason in MODULES),
    *((Own(function), reason) for function, reason in FUNCTIONS)])
def test_operation_that_has_no_rule_is_refused_with_the_reason(net, reason):
    with pytest.raises(ValueError, match=rf"input_shape=\(3, 8, 8\)\): .*{reason}"):
        predict(net, (3, 8, 8))


class TwoInputs(nn.Module):
    def forward(self, x, y):
        return x + y


@pytest.mark.parametrize("net, input_shape, problem", [
    (Net(), (3, 28, 28), r"layer 'fc1' \(Linear\) for an input of shape \(256,\) \(input_shape=\(3, 28, 28\)\): "),
    (Own(lambda x, other: x / 255.0), (3, 8, 8),
     r"'.*x / 255.0.*' in the network's forward for an input of shape \(4, 6, 6\).*: scale the input before"),
    (nn.Sequential(LINEAR, TRANSPOSED), (6,), r"layer '1' \(Linear\).*shares parameters"),
    (nn.Sequential(LINEAR, EMPTY), (6,), r"layer '1' \(Linear\).*output is empty"),
    (nn.Sequential(LINEAR, prune.identity(nn.Linear(6, 6), "weight")), (6,), "layer '1' .*computed from other param"),
    (nn.Sequential(LINEAR, parametrizations.weight_norm(nn.Linear(6, 6))), (6,), "layer '1' .*computed from other"),
    (nn.Sequential(LINEAR, nn.LazyLinear(6)), (6,), r"layer '1' \(LazyLinear\).*before it has seen an input"),
    (torch.compile(nn.Linear(6, 6)), (6,), "predict before torch.compile"),
    (nn.Sequential(nn.ReLU(), nn.Flatten()), (6,), "no weight layer"),
    (Own(lambda x, other: (x, other(x))), (3, 8, 8), "returns something else than one tensor"),
    (Own(lambda x, other: (other(x), x)[1]), (3, 8, 8), "layer 'other': the network's output does not depend on it"),
    (Own(lambda x, other: x), (3, 8, 8), "parameter 'other.weight': it belongs to no Conv2d or Linear in use"),
    (Own(lambda x, other: x if x.sum() > 0 else -x), (3, 8, 8), "cannot follow its forward.*no `if` or `assert`"),
    (Own(lambda x, other: nn.ReLU()(x)), (3, 8, 8), "create modules in __init__"),
    (Own(lambda x, other: x.view(-1, *x.size()[1:])), (3, 8, 8), r"cannot be iterated.*flatten\(x, 1\)"),
    (TwoInputs(), (6,), "has one input"),
])
def test_network_that_is_not_covered_is_refused_by_the_place_or_with_the_way_out(net, input_shape, problem):
    with pytest.raises(ValueError, match=f"^.*{problem}"):
        predict(net, input_shape)


def of_scales(*stds):
    layers = [nn.Linear(4, 4, bias=False).double() for _ in stds]
    return with_stds(nn.Sequential(*layers), *stds)


@pytest.mark.parametrize("net, problem", [
    (of_scales(1, 0), "'1'.*: the variance of its weights is 0.0, but must be positive.*"),
    (of_scales(1, 1e-200), "'1'.*: the variance of its weights is 0.0, but must be positive.*"),
    (of_scales(1e150, 1e-100, 1e-100), "'0': the variance of its biases' gradient is 0.0, but must be positive.*"),
    (of_scales(1e-100, 1e100, 1e-80, 1), "'1': the variance of its weights' gradient is 0.0, but must be positive.*"),
    (of_scales(1e100, 1e100), "'1'.*: the variance of its pre-activations is inf, but must be .*finite.*"),
    (of_scales(math.nan), "'0'.*: the variance of its weights is nan, but must be.*"),
])
def test_network_of_scales_that_no_float_holds_is_refused(net, problem):
    with pytest.raises(ValueError, match=f"^cannot predict layer {problem}$"):
        predict_current(net, (4,))


@pytest.mark.parametrize("change, problem", [
    (lambda net: nn.init.uniform_(net.fc1.weight), "'fc1': its weights are not symmetric about zero"),
    (lambda net: nn.init.ones_(net.conv2.bias), "'conv2': its biases are not symmetric about zero")])
def test_network_of_asymmetric_parameters_has_no_current_prediction(change, problem):
    torch.manual_seed(0)
    net = Net()
    change(net)
    with pytest.raises(ValueError, match=problem):
        predict_current(net)


@pytest.mark.parametrize("ask, problem", [
    (lambda: predict(Net(), bias_variance=-0.1), "bias_variance must"),
    (lambda: predict(Net(), bias_variance=1), "bias_variance must"),
    (lambda: predict(Net(), (1, 3, 32, 32)), r"input_shape must be .* without the batch .* \(1, 3, 32, 32\)"),
    (lambda: predict(Net(), (3.0, 32, 32)), r"input_shape must be a tuple of positive integers.*\(3.0, 32, 32\)"),
    (lambda: predict(Net(), (3, 0, 32)), r"input_shape must be a tuple of positive integers.*\(3, 0, 32\)"),
    (lambda: predict(Net(), input_moments=(0, 0)), "input_moments must be m_0 > 0"),
    (lambda: predict(Net(), input_moments=(math.inf, 0)), "input_moments must"),
    (lambda: predict(Net(), input_moments=(1, 1.1)), "input_moments must be .*c_0 from 0 to m_0"),
    (lambda: predict(Net(), input_moments=(1, -0.1)), "input_moments must .*anticorrelated"),
    (lambda: input_moments(torch.zeros(5, 3, 4, 4, dtype=torch.uint8)), r"images must be floats.*uint8"),
    (lambda: input_moments(torch.zeros(3, 4, 4)), r"images must be .* of shape .*\(3, 4, 4\)"),
    (lambda: input_moments(torch.zeros(5, 3, 1, 1)), r"images must have neighbouring positions.*\(5, 3, 1, 1\)"),
])
def test_what_is_out_of_range_is_refused(ask, problem):
    with pytest.raises(ValueError, match=f"^{problem}"):
        ask()


class Written(nn.Module):
    """LeNet's kind in the many ways in which a `forward` is written."""

    def __init__(self, pool, flatten, activation):
        super().__init__()
        self.conv1 = nn.Conv2d(3, 4, 3, padding=1)
        self.conv2 = nn.Conv2d(4, 8, 3)
        self.fc = nn.Linear(8, 5)
        self.pool, self.flatten, self.activation = pool, flatten, activation

    def forward(self, x):
        x = self.pool(self.activation(self.conv1(x)))
        x = functional.dropout(self.activation(self.conv2(x)), 0.2, self.training)
        return self.fc(self.flatten(x))


WAYS = [
    (nn.MaxPool2d(2), nn.Flatten(), nn.ReLU(inplace=True)),
    (lambda x: functional.max_pool2d(x, 2), lambda x: torch.flatten(x, 1), functional.relu),
    (nn.MaxPool2d(2), lambda x: x.view(x.size(dim=0), -1), lambda x: functional.relu(x, inplace=x.size(0) > 0)),
    (lambda x: functional.max_pool2d(x, kernel_size=(2, 2), stride=2), lambda x: x.view(x.size(0), -1), torch.relu),
    (nn.MaxPool2d([2, 2], ceil_mode=True), lambda x: x.reshape(x.shape[0], x.shape[1] * x.size(2) * x.size(3)),
     lambda x: x.relu()),
    (nn.Sequential(nn.MaxPool2d((1, 2)), nn.MaxPool2d((2, 1))), nn.Flatten(), nn.ReLU()),
    (nn.AdaptiveMaxPool2d(3), lambda x: x.flatten(1), lambda x: functional.relu(x, inplace=True)),
    (nn.MaxPool2d(2), lambda x: x.contiguous().float().to(torch.float32).view(-1, 8), lambda x: x.relu_()),
    (nn.MaxPool2d(2), lambda x: functional.adaptive_avg_pool2d(x, 1).squeeze(-1).squeeze(-1), functional.relu_),
    (nn.MaxPool2d(2), lambda x: functional.adaptive_avg_pool2d(x, 1).squeeze((2, 3)), functional.relu_),
    (nn.MaxPool2d(2), lambda x: x.mean(dim=(2, 3)), nn.ReLU()),
    (nn.MaxPool2d(2), lambda x: (x.flatten(1), torch._assert(x.shape[1] == 8, "eight channels"))[0], nn.ReLU()),
    (nn.MaxPool2d(2), lambda x: torch.mean(x, (-1, -2), keepdim=True).flatten(1), nn.LeakyReLU(0.0)),
]


@pytest.mark.parametrize("way", WAYS)
def test_a_forward_may_be_written_in_many_ways(way):
    written = predict(Written(*way), (3, 6, 6))
    expected = predict(Written(*WAYS[0]), (3, 6, 6))
    assert numbers(written) == pytest.approx(numbers(expected), rel=1e-9)


class FunctionalDropout(nn.Module):
    def forward(self, x):
        return functional.dropout(x, 0.5, self.training)


def between_layers(module):
    return nn.Sequential(nn.Linear(6, 6), nn.ReLU(), module, nn.Linear(6, 6))


@pytest.mark.parametrize("dropout", [nn.Dropout(0.5), FunctionalDropout()])
def test_dropout_counts_in_training_mode_only(dropout):
    net, plain = between_layers(dropout), between_layers(nn.Identity())
    _, layer = predict(net, (6,))
    _, plain_layer = predict(plain, (6,))
    assert 2 * layer.weight_std**2 == pytest.approx(plain_layer.weight_std**2)
    assert predict(net.eval(), (6,)) == predict(plain, (6,))


class Backwards(nn.Module):
    def __init__(self):
        super().__init__()
        self.last = nn.Linear(7, 5)
        self.inner = nn.Sequential(nn.Identity(), nn.Linear(6, 7))

    def forward(self, x):
        return self.last(input=functional.relu(self.inner(x)))


def test_layers_are_in_the_order_of_computation_and_gradients_in_that_of_the_parameters():
    net = Backwards()
    first, last = statistics = predict(net, (6,))
    assert (first.name, last.name) == ("inner.1", "last")
    stds = gradient_stds(net, statistics)
    assert list(stds) == list(net.parameters())
    assert list(stds.values()) == [last.weight_gradient_std, last.bias_gradient_std,
                                   first.weight_gradient_std, first.bias_gradient_std]


@pytest.mark.parametrize("image, second, cross", [
    ([[1.0, 2.0, 4.0], [3.0, 5.0, 6.0]], 91 / 6, 92 / 7),
    # The mean product of neighbours is 7.5. Their correlation is 30 / 31, as they have a mean square of 7.75.
    ([[2.0, 3.0, 3.0, 3.0, 2.0]], 7, 7 * 30 / 31)])
def test_input_moments_are_the_mean_square_and_the_mean_product_of_neighbours(image, second, cross):
    images = torch.tensor(image).repeat(203, 1, 1, 1)
    assert input_moments(images) == pytest.approx((second, cross))
    assert input_moments(images.flatten(1)) == pytest.approx((second, 0))


def test_neighbours_of_white_noise_may_be_measured_to_be_anticorrelated():
    assert predict(Net(), input_moments=(1, -0.01)) == predict(Net(), input_moments=(1, 0))
