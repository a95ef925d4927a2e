"""What `predict` says of whole networks, which it takes apart; what it does not cover is refused by name."""
import copy
import math
import re

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from tests.theory.monte_carlo import root_mean_square, sample
from tests.theory.networks import NETWORKS
from util.network import Net
from util.study.methods import pytorch_zero_biases
from util.theory import (gradient_stds, initialize, input_moments, predict, predict_current, predict_for,
                         weight_gradient_spread)
from util.theory.initializations import glorot, he, pytorch

TOLERANCE = 0.03  # of a standard deviation, relative; over three standard errors, which `compare` makes sure of


def repeat(times, *modules):
    """Chain copies of some modules, one after another."""
    return nn.Sequential(*(copy.deepcopy(module) for _ in range(times) for module in modules))


def compare(measured, predicted):
    """Hold root mean squares against predicted standard deviations."""
    assert len(measured) == len(predicted)
    for (name, squares), std in zip(measured.items(), predicted):
        rms, standard_error = root_mean_square(squares)
        assert 3 * standard_error < TOLERANCE * std, name
        assert rms == pytest.approx(std, rel=TOLERANCE), name


def fill(net, stds):
    """Give each parameter tensor random entries with the very root mean square that is asked for."""
    for parameter, std in zip(net.parameters(), stds):
        nn.init.normal_(parameter)
        root_mean_square = parameter.data.double().square().mean().sqrt()
        parameter.data *= std / root_mean_square.item()


def test_monte_carlo_of_the_tutorials_network():
    """Pre-activations are standard normal, and gradients have the predicted standard deviations."""
    net = Net()
    statistics = predict(net)
    signals, gradients = sample(
        net, lambda: initialize(net, statistics), lambda: torch.randn(2, 3, 32, 32), 2500, seed=0)
    compare(signals, [1.0] * 5)
    compare(gradients, gradient_stds(net, statistics).values())


def test_monte_carlo_of_the_current_prediction():
    """Each tensor with a scale of its own, and neighbouring inputs with a correlation of one half."""
    net = nn.Sequential(nn.ReLU(), nn.Conv2d(8, 24, 3), nn.ReLU(), nn.MaxPool2d(2, stride=3),
                        nn.Conv2d(24, 32, 2), nn.ReLU(), nn.MaxPool2d(2))
    input_shape = (8, 20, 20)
    stds = [0.3, 0.8, 0.1, 1.5]
    fill(net, stds)
    predicted = gradient_stds(net, predict_current(net, input_shape, input_moments=(0.5, 0.25))).values()

    def draw_parameters():
        for parameter, std in zip(net.parameters(), stds):
            nn.init.normal_(parameter, std=std)

    def draw_inputs():
        return 0.5 * (torch.randn(2, *input_shape) + torch.randn(2, input_shape[0], 1, 1))

    _, gradients = sample(net, draw_parameters, draw_inputs, 1000, seed=0)
    compare(gradients, predicted)


@pytest.mark.parametrize("net, input_shape", NETWORKS.values(), ids=NETWORKS)
def test_current_prediction_of_the_variance_preserving_scales_is_the_prediction(net, input_shape):
    """Tolerance: the parameters are float32."""
    expected = predict(net, input_shape, input_moments=(0.5, 0.25))
    for layer in expected:
        fill(net.get_submodule(layer.name), [layer.weight_std, layer.bias_std])
    current = predict_current(net, input_shape, input_moments=(0.5, 0.25))
    assert [layer.name for layer in current] == [layer.name for layer in expected]
    for layer, expected_layer in zip(current, expected):
        assert layer[1:] == pytest.approx(expected_layer[1:], rel=1e-6), layer.name


@pytest.mark.parametrize("rule, draw", [
    (pytorch, lambda layer: layer.reset_parameters()),
    (he, lambda layer: (nn.init.kaiming_normal_(layer.weight, nonlinearity="relu"), nn.init.zeros_(layer.bias))),
    (glorot, lambda layer: (nn.init.xavier_normal_(layer.weight), nn.init.zeros_(layer.bias)))])
def test_initializations_are_those_of_pytorch(rule, draw):
    """What is predicted for the rule is what is predicted for a network that was drawn, up to sampling errors."""
    net = nn.Sequential(nn.Conv2d(3, 200, 5, groups=1), nn.ReLU(), nn.Flatten(), nn.Linear(3200, 500))
    torch.manual_seed(0)
    for layer in net[0], net[3]:
        draw(layer)
    for layer, drawn in zip(predict_for(rule, net, (3, 8, 8)), predict_current(net, (3, 8, 8))):
        assert layer[1:] == pytest.approx(drawn[1:], rel=0.1), layer.name
        assert layer.weight_std == pytest.approx(drawn.weight_std, rel=0.02), layer.name


def test_deep_chain_stays_finite():
    """Where neighbouring inputs are equal, rho = 1 up to rounding errors. A pool of one position is none."""
    net = repeat(100, nn.Conv2d(4, 4, 1), nn.ReLU(), nn.MaxPool2d(1))
    for layer in predict(net, (4, 2, 2), input_moments=(1, 1)):
        assert 0 < layer.weight_gradient_std < math.inf


def test_squared_norm_of_the_gradient_is_preserved_by_relu_without_bias():
    """G_l = (pi_l / m_l) (1 - beta^2) G_{l+1}, and pi = m = 1/2: it stays exactly what it is, whatever the widths."""
    widths = [30, 7, 100, 3, 50, 10]
    net = nn.Sequential()
    for fan_in, fan_out in zip(widths, widths[1:]):
        net.append(nn.Linear(fan_in, fan_out, bias=False))
        net.append(nn.ReLU())
    for layer, width in zip(predict(net, (30,)), widths[1:]):
        squared_norm = width * layer.bias_gradient_std**2
        assert squared_norm == pytest.approx(5.0, rel=1e-9), layer.name


def test_biases_alone_make_the_gradients_of_relu_networks_more_unequal_with_depth():
    """Without biases, G s is that of the next layer, whatever the weights' scale; PyTorch's biases leave G / 6."""
    shallow, deep = (weight_gradient_spread(predict_for(pytorch_zero_biases, Net(depth))) for depth in (5, 20))
    assert shallow == pytest.approx(3.46, abs=0.005)
    assert deep == pytest.approx(shallow, rel=1e-9)
    earlier, later = (layer.weight_gradient_std for layer in predict_for(pytorch, Net(20))[10:12])
    assert later / earlier == pytest.approx(math.sqrt(6), rel=1e-3)


def test_layers_without_bias_have_no_bias_variance():
    (with_bias,) = predict(nn.Linear(50, 10), (50,), bias_variance=0.5)
    assert (with_bias.weight_std, with_bias.bias_std) == pytest.approx((math.sqrt(0.5 / 50), math.sqrt(0.5)))
    (without,) = predict(nn.Linear(50, 10, bias=False), (50,), bias_variance=0.5)
    assert (without.weight_std, without.bias_std) == pytest.approx((math.sqrt(1 / 50), 0))


class OwnReLU(nn.ReLU):
    pass


LINEAR, TIED, TRANSPOSED, TIED_BIAS, CHANGED, EMPTY = (nn.Linear(6, 6) for _ in range(6))
TIED.weight = LINEAR.weight
TRANSPOSED.weight.data = LINEAR.weight.data.t()
TIED_BIAS.bias = LINEAR.bias
CHANGED.forward = torch.relu
EMPTY.weight, EMPTY.bias, EMPTY.out_features = nn.Parameter(torch.zeros(0, 6)), nn.Parameter(torch.zeros(0)), 0


def hooked(net):
    net.register_forward_hook(lambda *_: None)
    return net


def num_flat_features(x):
    """As in earlier versions of the tutorial."""
    features = 1
    for size in x.size()[1:]:
        features *= size
    return features


class Own(nn.Module):
    """A network of a first layer, what `function` does, and a last layer."""

    def __init__(self, function, first=nn.Linear(6, 6), last=nn.Linear(6, 6)):
        super().__init__()
        self.first, self.last = copy.deepcopy(first), copy.deepcopy(last)
        self.function = function

    def forward(self, x):
        return self.last(self.function(self.first(x)))


def check_refusal(net, input_shape, reason, prediction=predict):
    pattern = reason.replace("(", r"\(").replace(")", r"\)")
    with pytest.raises(ValueError, match="^[^\n]*" + pattern):
        prediction(net, input_shape)


@pytest.mark.parametrize("module, reason", [
    (nn.Sequential(nn.Softmax(dim=1)), "'1.0' (Softmax).*leave it to the loss"),
    (nn.LayerNorm(6), "'1' (LayerNorm).*normalization"),
    (nn.PReLU(), "'1' (PReLU).*slopes are parameters"),
    (nn.LSTM(6, 6), "'1' (LSTM).*recurrent"),
    (nn.Dropout(1.0), "'1' (Dropout).*drops all"),
    (OwnReLU(), "'1' (OwnReLU).*no rule"),
    (CHANGED, "'1' (Linear).*hooks.* or methods of its own"),
    (hooked(nn.Linear(6, 6)), "'1' (Linear).*hooks.* or methods of its own"),
    (nn.LazyLinear(6), "'1' (LazyLinear).*before it has seen an input"),
    (TIED, "'1' (Linear).*shares parameters"),
    (TRANSPOSED, "'1' (Linear).*shares parameters"),
    (nn.utils.parametrizations.weight_norm(nn.Linear(6, 6)), "'1' (ParametrizedLinear).*parametrization"),
    (nn.DataParallel(nn.Linear(6, 6)), "'1' (DataParallel).*predict the module that it wraps"),
    (TIED_BIAS, "'1' (Linear).*shares parameters"),
    (nn.Linear(7, 6), "'1' (Linear).*of shape (6,).*takes 7 features"),
    (nn.MaxPool2d(2), "'1' (MaxPool2d).*takes a map"),
    (EMPTY, "'1' (Linear).*output is empty"),
    (torch.compile(nn.Linear(6, 6)), "predict before torch.compile|hooks"),
])
def test_module_behind_a_linear_layer_is_refused_by_name(module, reason):
    check_refusal(nn.Sequential(LINEAR, module), (6,), reason)


@pytest.mark.parametrize("module, reason", [
    (nn.Dropout2d(), "'1' (Dropout2d).*drops whole channels"),
    (nn.Conv2d(4, 4, 3, padding=1, padding_mode="circular"), "'1' (Conv2d).*pads its input by 'circular'"),
    (nn.Conv2d(3, 4, 1), "'1' (Conv2d).*of shape (4, 6, 6).*takes 3 channels"),
    (nn.Linear(6, 5), "'1' (Linear).*takes 6 features; flatten a map before"),
    (nn.Flatten(2), "'1' (Flatten).*not reshape as flatten(x, 1) does"),
    (nn.MaxPool2d(2, return_indices=True), "'1' (MaxPool2d).*returns the indices"),
    (nn.AvgPool2d(2, padding=1), "'1' (AvgPool2d).*pads its input"),
    (nn.AvgPool2d(4, ceil_mode=True), "'1' (AvgPool2d).*not of equal size"),
    (nn.AvgPool2d(3, 2), "'1' (AvgPool2d).*windows overlap.*stride"),
    (nn.Sequential(nn.ReLU(), nn.Conv2d(4, 4, 1, padding=1, bias=False)), "'1.1' (Conv2d).*no bias.*in the padding"),
    (nn.AvgPool2d(2, divisor_override=3), "'1' (AvgPool2d).*has a divisor_override"),
    (nn.Sequential(nn.GELU(), nn.MaxPool2d(2)), "'1.1' (MaxPool2d).*put the pool before the activation"),
    (nn.Sequential(nn.Dropout(), nn.MaxPool2d(2)), "'1.1' (MaxPool2d).*output of a Conv2d or Linear"),
])
def test_module_behind_a_convolution_is_refused_by_name(module, reason):
    check_refusal(nn.Sequential(nn.Conv2d(3, 4, 3), module), (3, 8, 8), reason)


@pytest.mark.parametrize("function, reason", [
    (lambda x: torch.softmax(x, dim=1), "softmax.*leave it to the loss"),
    (lambda x: torch.cat([x, x], dim=1), "cat.*concatenated"),
    (lambda x: 0.1 * x, "0.1 [*] x.*constant factor"),
    (lambda x: x / 255.0 - 0.5, "x / 255.0.*scale the input before the network"),
    (lambda x: x + 1, "x [+] 1.*scale the input"),
    (lambda x: sum([x, x]), "write a [+] b"),
    (lambda x: x - x.relu(), "add instead of subtracting"),
    (lambda x: x.to(torch.int8).float(), "to(torch.int8).*it rounds"),
    (lambda x: x.T, "has no attribute 'T'"),
    (lambda x: x.exp(), "x.exp().*no rule"),
    (lambda x: x + functional.relu(x), "x [+] functional.relu(x).*neither term"),
    (lambda x: x if x.sum() > 0 else -x, "cannot follow its forward.*no `if` or `assert`"),
    (lambda x: nn.ReLU()(x), "create modules in __init__"),
    (lambda x: x.view(-1, num_flat_features(x)), "cannot be iterated.*flatten(x, 1)"),
    (lambda x: x.mean(1), "x.mean(1).*it takes a map"),
])
def test_what_a_forward_does_is_refused_by_its_line(function, reason):
    check_refusal(Own(function), (6,), reason)


class PostActivation(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.second, self.last = (nn.Linear(6, 6) for _ in range(3))

    def forward(self, x):
        x = functional.relu(self.first(x))
        return self.last(functional.relu(x + self.second(x)))


class Branches(nn.Module):
    def __init__(self):
        super().__init__()
        self.one, self.other = nn.Linear(6, 6), nn.Linear(6, 6)

    def forward(self, x):
        return self.one(x), self.other(x)


class Attention(nn.Module):
    def __init__(self):
        super().__init__()
        self.attention = nn.MultiheadAttention(6, 1)

    def forward(self, x):
        return self.attention(x, x, x)[0]


class DeadEnd(Branches):
    def forward(self, x):
        self.other(x)
        return self.one(x)


class TwoInputs(Branches):
    def forward(self, x, y):
        return self.one(x) + self.other(y)


class Scaled(Branches):
    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(1))

    def forward(self, x):
        return self.other(functional.relu(self.one(x)))


class Added(nn.Module):
    def __init__(self, one, other):
        super().__init__()
        self.one, self.other = one, other

    def forward(self, x):
        return functional.relu(self.one(x) + self.other(x))


@pytest.mark.parametrize("net, reason", [
    (PostActivation(), "functional.relu(x [+] self.second(x)).*a sum of such outputs"),
    (Added(nn.Linear(6, 6), nn.Sequential(nn.Linear(6, 6), nn.Dropout())), "a sum of such outputs"),
    (Added(nn.Linear(6, 6), nn.Linear(6, 1)), "self.one(x) [+] self.other(x).*shapes differ"),
    (TwoInputs(), "has one input"),
    (Attention(), "'attention' (MultiheadAttention).*multiplies signals"),
    (nn.Sequential(nn.ReLU(), nn.Flatten()), "no weight layer"),
    (Branches(), "returns something else than one tensor"),
    (DeadEnd(), "layer 'other': the network's output does not depend on it"),
    (Scaled(), "parameter 'scale'.*belongs to no Conv2d or Linear in use"),
])
def test_networks_of_other_forms_are_refused(net, reason):
    check_refusal(net, (6,), reason)


@pytest.mark.parametrize("input_shape, reason", [
    ((3, 8, 8), "'conv2' (Conv2d)"),
    ((3, 28, 28), "'fc1' (Linear) for an input of shape (256,) (input_shape=(3, 28, 28)):"),
    ((1, 3, 32, 32), "input_shape must be a tuple.*without the batch dimension.*(1, 3, 32, 32)"),
    ((3.0, 32, 32), "input_shape must be a tuple of positive integers.*(3.0, 32, 32)"),
    ((3, 0, 32), "input_shape must be a tuple of positive integers.*(3, 0, 32)"),
])
def test_input_shape_that_does_not_fit_is_refused_by_name(input_shape, reason):
    check_refusal(Net(), input_shape, reason)


class Written(nn.Module):
    """LeNet's kind in the many ways in which a `forward` is written."""

    def __init__(self, pool, flatten, activation):
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(4, 8, 3)
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
    (nn.AdaptiveMaxPool2d(3), lambda x: x.flatten(1), lambda x: functional.relu(x, inplace=True)),
    (nn.MaxPool2d(2), lambda x: x.contiguous().float().to(torch.float32).view(-1, 8), lambda x: x.relu_()),
    (nn.MaxPool2d(2), lambda x: functional.adaptive_avg_pool2d(x, 1).squeeze(-1).squeeze(-1), functional.relu_),
    (nn.MaxPool2d(2), lambda x: x.mean(dim=(2, 3)), nn.ReLU()),
    (nn.MaxPool2d(2), lambda x: torch.mean(x, (-1, -2), keepdim=True).flatten(1), nn.LeakyReLU(0.0)),
]


@pytest.mark.parametrize("way", WAYS)
def test_a_forward_may_be_written_in_many_ways(way):
    net = Written(*way)
    for written, expected in zip(predict(net, (3, 6, 6)), predict(Written(*WAYS[0]), (3, 6, 6))):
        assert written[1:] == pytest.approx(expected[1:], rel=1e-9)


class FunctionalDropout(nn.Module):
    def forward(self, x):
        return functional.dropout(x, 0.5, self.training)


@pytest.mark.parametrize("dropout", [nn.Dropout(0.5), FunctionalDropout()])
def test_dropout_counts_in_training_mode_only(dropout):
    net = nn.Sequential(nn.Linear(6, 6), nn.ReLU(), dropout, nn.Linear(6, 6))
    plain = nn.Sequential(nn.Linear(6, 6), nn.ReLU(), nn.Linear(6, 6))
    assert predict(net, (6,))[1].weight_std == pytest.approx(predict(plain, (6,))[1].weight_std / math.sqrt(2))
    assert [layer[1:] for layer in predict(net.eval(), (6,))] == [layer[1:] for layer in predict(plain, (6,))]


class Backwards(nn.Module):
    def __init__(self):
        super().__init__()
        self.last, self.inner = nn.Linear(7, 5), nn.Sequential(nn.Identity(), nn.Linear(6, 7))

    def forward(self, x):
        return self.last(input=functional.relu(self.inner(x)))


def test_layers_are_in_the_order_of_computation_and_gradients_in_that_of_the_parameters():
    net = Backwards()
    statistics = predict(net, (6,))
    first, last = statistics
    assert (first.name, last.name) == ("inner.1", "last")
    expected = (last.weight_gradient_std, last.bias_gradient_std, first.weight_gradient_std, first.bias_gradient_std)
    assert list(gradient_stds(net, statistics).items()) == list(zip(net.parameters(), expected))


def check_no_current_prediction(net, input_shape, problem):
    pattern = problem.replace("': ", "'.*: ")
    with pytest.raises(ValueError, match=f"^cannot predict layer {pattern}$"):
        predict_current(net, input_shape)


def test_layer_of_zero_weights_has_no_current_prediction():
    net = Net()
    nn.init.zeros_(net.fc3.weight)
    check_no_current_prediction(net, (3, 32, 32), "'fc3': the variance of its weights is zero, .*")


def test_biases_may_be_zero():
    net = Net()
    nn.init.zeros_(net.fc3.bias)
    assert predict_current(net)[-1].bias_std == 0


def chain_of_scales(*stds):
    chain = repeat(len(stds), nn.Linear(4, 4, bias=False)).double()
    fill(chain, stds)
    return chain


@pytest.mark.parametrize("stds, problem", [
    ((1, 1e-200), "'1': the variance of its weights is too small for a float"),
    ((1e150, 1e-100, 1e-100), "'0': the variance of its biases' gradient is too small for a float"),
    ((1e-100, 1e100, 1e-80, 1), "'1': the variance of its weights' gradient is too small for a float"),
    ((1e100, 1e100), "'1': the variance of its pre-activations is infinite or too large for a float"),
    ((math.nan,), "'0': the variance of its weights is not a number"),
])
def test_what_no_float_holds_is_refused(stds, problem):
    check_no_current_prediction(chain_of_scales(*stds), (4,), problem)


def test_input_moments():
    """The mean square, and the mean product of neighbours, by loops over the positions; in more than one part."""
    images = 10 + 300 * torch.rand(203, 2, 3, 5)
    squares, products = [], []
    for channel in images.flatten(0, 1).tolist():
        for row in range(3):
            for column in range(5):
                value = channel[row][column]
                squares.append(value**2)
                if row > 0:
                    products.append(value * channel[row - 1][column])
                if column > 0:
                    products.append(value * channel[row][column - 1])
    second, cross = input_moments(images)
    assert input_moments(images.flatten(1)) == (pytest.approx(second), 0.0)
    assert (second, cross) == pytest.approx((np.mean(squares), np.mean(products)), rel=1e-12)


def test_measured_input_moments_are_taken():
    """White noise, whose cross moment may be below 0; images with dark borders, whose may be above the mean square."""
    net = nn.Sequential(nn.Conv2d(1, 4, 3), nn.MaxPool2d(2))
    torch.manual_seed(0)
    below_zero = 0
    for _ in range(8):
        moments = input_moments(torch.randn(64, 1, 28, 28))
        below_zero += moments[1] < 0
        assert predict(net, (1, 28, 28), input_moments=moments)[0].weight_std > 0
    assert 0 < below_zero < 8
    bright = torch.full((4, 1, 28, 28), 0.8)
    bright[..., :2, :] = bright[..., -2:, :] = bright[..., :2] = bright[..., -2:] = 0
    second, cross = input_moments(bright)
    assert 0.95 * second < cross < second
    assert predict(net, (1, 28, 28), input_moments=(second, cross))[0].weight_std > 0


def test_neighbours_of_opposite_signs_are_named():
    images = torch.randn(64, 1, 28, 28)
    edges = 4 * images - images.roll(1, 2) - images.roll(-1, 2) - images.roll(1, 3) - images.roll(-1, 3)
    with pytest.raises(ValueError, match="input_moments.*anticorrelated"):
        predict(nn.Conv2d(1, 4, 3), (1, 28, 28), input_moments=input_moments(edges))


@pytest.mark.parametrize("images", [torch.zeros(5, 3, 4, 4, dtype=torch.uint8), torch.zeros(3, 4, 4),
                                    torch.zeros(5, 3, 1, 1)])
def test_what_are_no_images_is_refused(images):
    with pytest.raises(ValueError, match="^images must .*" + re.escape(str(tuple(images.shape)))):
        input_moments(images)


@pytest.mark.parametrize("bias_variance", [-0.1, 1])
def test_bias_variance_out_of_range_is_refused(bias_variance):
    with pytest.raises(ValueError, match="bias_variance"):
        predict(Net(), bias_variance=bias_variance)


@pytest.mark.parametrize("input_moments", [(0, 0), (1, -0.1), (1, 1.1), (math.inf, 0)])
def test_impossible_input_moments_are_refused(input_moments):
    with pytest.raises(ValueError, match="input_moments"):
        predict(Net(), input_moments=input_moments)
