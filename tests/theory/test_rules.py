"""The rules against the exact average over all signs or a closed form, where there is one, and else Monte Carlo."""
import itertools
import math

import pytest
import torch
from torch import nn
from torch.func import functional_call, jacrev, vmap
from torch.nn import functional

from tests.theory.monte_carlo import named_stds, root_mean_square, sample_initialized
from tests.theory.networks import NETWORKS
from util.theory import predict, predict_for
from util.theory.initializations import pytorch
from util.theory.rules import ACTIVATIONS


def average_over_signs(net, input_shape, statistics):
    """Return the exact root mean square of each gradient, where inputs, weights and biases differ by signs only.

    Second moments depend on no more than that they are independent, symmetric, and of the predicted variances. A
    gradient of independent entries of unit variance at the output gives the sum of the squares over the outputs.
    """
    parameters = dict(net.double().named_parameters())
    sizes = [parameter.numel() for parameter in parameters.values()]
    inputs = math.prod(input_shape)
    signs = torch.tensor(list(itertools.product([1.0, -1.0], repeat=inputs + sum(sizes))), dtype=torch.float64)
    first, *parts = signs.split([inputs, *sizes], dim=1)
    stds = {f"{layer.name}.weight": layer.weight_std for layer in statistics}
    stds.update({f"{layer.name}.bias": layer.bias_std for layer in statistics})
    draws = {}
    for (name, parameter), part in zip(parameters.items(), parts):
        draws[name] = stds[name] * part.reshape(-1, *parameter.shape)

    def outputs(drawn, x):
        return functional_call(net, drawn, x).flatten()

    jacobians = vmap(jacrev(outputs))(draws, first.reshape(-1, 1, *input_shape))
    return {name: jacobian.square().sum(dim=1).mean().sqrt().item() for name, jacobian in jacobians.items()}


class Parallel(nn.Module):
    def __init__(self):
        super().__init__()
        self.one, self.other, self.last = nn.Linear(2, 1, bias=False), nn.Linear(2, 1), nn.Linear(1, 2)

    def forward(self, x):
        return self.last(functional.relu(self.one(x) + self.other(x)))


TINY = {
    "perceptron": (nn.Sequential(nn.Linear(2, 2), nn.ReLU(), nn.Linear(2, 2)), (2,)),
    "LeakyReLU": (nn.Sequential(nn.Linear(2, 2), nn.LeakyReLU(0.3), nn.Linear(2, 2)), (2,)),
    "padding": (nn.Sequential(nn.Conv2d(1, 1, (1, 3), padding=(0, 1)), nn.ReLU(),
                              nn.Conv2d(1, 1, (1, 2), padding=(0, 1)), nn.Flatten(), nn.Linear(3, 1)), (1, 1, 2)),
    "padding, stride and dilation": (nn.Sequential(nn.Conv2d(1, 1, 2, padding=1, stride=2), nn.ReLU(),
                                                   nn.Conv2d(1, 1, (2, 1), padding=1, dilation=2)), (1, 2, 2)),
    "groups": (nn.Sequential(nn.Conv2d(2, 2, (1, 2), groups=2), nn.ReLU(), nn.Flatten(), nn.Linear(2, 1)), (2, 1, 2)),
    "sum": (Parallel(), (2,)),
    "average pool without activation": (
        nn.Sequential(nn.Conv2d(1, 2, (1, 2)), nn.AvgPool2d((1, 2)), nn.Flatten(), nn.Linear(4, 1)), (1, 1, 5)),
    "convolutions without activation, global average": (
        nn.Sequential(nn.Conv2d(1, 1, (1, 2)), nn.Conv2d(1, 2, (1, 2)), nn.AdaptiveAvgPool2d(1)), (1, 1, 5)),
}


@pytest.mark.parametrize("name", TINY)
def test_gradients_are_the_exact_average(name):
    """Pre-activations are never zero, since biases have another size than all sums of the rest."""
    net, input_shape = TINY[name]
    statistics = predict(net, input_shape, bias_variance=0.0417)
    exact = average_over_signs(net, input_shape, statistics)
    assert named_stds(net, statistics) == pytest.approx(exact, rel=1e-9)


@pytest.mark.parametrize("module, input_moments, correlation", [
    (nn.Conv2d(1, 1, (1, 3), padding=(0, 1), bias=False), (1, 0.5), 0.45),  # 2, 3, 2 taps in common; 2, 3, 3, 2 inside
    (nn.Conv2d(1, 1, 1), (1, 0), 0.04),  # the biases' share
    (nn.Dropout(0.5), (1, 0.5), 0.25),
    (nn.MaxPool2d((1, 2), stride=1), (1, 0), pytest.approx(0.609, abs=0.06)),  # of 4 million samples
])
def test_correlation_of_neighbours(module, input_moments, correlation):
    """A convolution without padding and biases has that of its input."""
    net = nn.Sequential(module, nn.Conv2d(1, 1, 1, bias=False))
    assert predict(net, (1, 1, 4), input_moments=input_moments)[-1].correlation == pytest.approx(correlation)


@pytest.mark.parametrize("between", [(), (nn.AvgPool2d(2),)], ids=str)
def test_padding_and_a_global_average_of_a_constant_input(between):
    """Along an axis, of 8 positions, 7, 8 and 7 see an input by the three taps: 162^2 / 64^2 is the average's square.

    Forward, the theory knows neighbours only, and they share more taps than distant positions. Other operations change
    nothing.
    """
    net = nn.Sequential(nn.Conv2d(1, 1, 1), nn.Conv2d(1, 1, 3, padding=1, bias=False), *between,
                        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(1, 1, bias=False))
    first, padded, last = predict(net, (1, 8, 8), input_moments=(1, 1))
    factor = last.weight_std * padded.weight_std * 162 / 64  # of a signal and of a gradient
    assert factor == pytest.approx(1, abs=0.05)
    assert first.bias_gradient_std == pytest.approx(factor, abs=0.006)


def test_maxima_at_the_edge():
    """Of three and of one normal; E[max^2] of three is 1 + sqrt(3) / 2 pi."""
    net = nn.Sequential(nn.MaxPool2d((1, 3), ceil_mode=True), nn.Conv2d(1, 1, 1, bias=False))
    (layer,) = predict(net, (1, 1, 4))
    assert layer.weight_std**-2 == pytest.approx(1 + math.sqrt(3) / (4 * math.pi))


def test_dropout_before_a_global_average():
    """Four positions, of which half pass twice the gradient: the mean square of their mean is 5/4."""
    net = nn.Sequential(nn.Conv2d(1, 1, 1), nn.Dropout(0.5), nn.AdaptiveAvgPool2d(1))
    assert predict(net, (1, 2, 2))[0].bias_gradient_std == pytest.approx(math.sqrt(1.25))


@pytest.mark.parametrize("kernel", [1, 2])
def test_gradient_below_an_average_a_relu_and_a_global_average(kernel):
    """It is the mean of four ReLU(x), up to signs, x being averages of the input.

    E[ReLU(x)^2] = m / 2 and E[ReLU(x)]^2 = m / 2 pi, m being E[x^2].
    """
    net = nn.Sequential(nn.Conv2d(1, 1, 1, bias=False), nn.AvgPool2d(kernel), nn.ReLU(), nn.AdaptiveAvgPool2d(1))
    (layer,) = predict_for(pytorch, net, (1, 2 * kernel, 2 * kernel), input_moments=(0.7, 0))
    second = 0.7 / kernel**2
    assert layer.weight_gradient_std**2 == pytest.approx(second * (1 / 8 + 3 / (8 * math.pi)))


MONTE_CARLO = {  # with the tolerance: of a standard deviation of a gradient, relative; twice that of a variance
    "padding, stride and dilation": (nn.Sequential(
        nn.Conv2d(4, 24, 3, padding=2, stride=2), nn.ReLU(), nn.Conv2d(24, 32, 3, padding=2, dilation=2), nn.ReLU(),
        nn.Conv2d(32, 24, 2, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(600, 10)), (4, 6, 6), 0.05),
    "padding, overlapping max pool, padding": (nn.Sequential(
        nn.Conv2d(4, 24, 3, padding=1), nn.ReLU(), nn.Conv2d(24, 24, 3, padding=1), nn.ReLU(),
        nn.MaxPool2d(3, 2, padding=1), nn.Conv2d(24, 24, 3, padding=1), nn.ReLU(),
        nn.Flatten(), nn.Linear(384, 20)), (4, 8, 8), 0.07),
    "residual network": (*NETWORKS["pre-activation residual network"], 0.1),
    "global average": (*NETWORKS["three convolutions, global average"], 0.12),
    "average before the activation": (nn.Sequential(
        nn.Conv2d(4, 24, 3), nn.AvgPool2d(2), nn.ReLU(), nn.Conv2d(24, 24, 2), nn.AvgPool2d(2), nn.ReLU(),
        nn.Flatten(), nn.Linear(96, 10)), (4, 12, 12), 0.08),
}


@pytest.mark.parametrize("name", MONTE_CARLO)
def test_random_networks_have_the_predicted_gradients_and_variances(name):
    net, input_shape, tolerance = MONTE_CARLO[name]
    statistics = predict(net, input_shape)
    signals, gradients = sample_initialized(net, statistics, lambda: torch.randn(4, *input_shape), networks=300)
    stds = named_stds(net, statistics)
    for name, squares in gradients.items():
        rms, error = root_mean_square(squares)
        assert 3 * error < tolerance * stds[name], name
        assert rms == pytest.approx(stds[name], rel=tolerance), name
    for name, squares in signals.items():
        assert squares.mean() == pytest.approx(1, abs=2 * tolerance), name


@pytest.mark.parametrize("activation", [*(kind() for kind in ACTIVATIONS), nn.Hardtanh(-0.5, 2.0),
                                        nn.Sequential(nn.Hardtanh(-0.5, 2.0), nn.Tanh())], ids=str)
def test_every_activation_has_the_moments_of_a_fine_sum(activation):
    """So fine that it makes no difference where the slope jumps."""
    net = nn.Sequential(nn.Linear(1, 1), activation, nn.Linear(1, 1, bias=False))
    first, last = predict(net, (1,))
    z = torch.linspace(-9, 9, 1_000_001, dtype=torch.float64, requires_grad=True)
    density = torch.softmax(-z.detach()**2 / 2, dim=0)
    values = activation(z.clone())
    (slopes,) = torch.autograd.grad(values.sum(), z)
    assert last.weight_std**-2 == pytest.approx((density @ values**2).item(), rel=1e-6)
    squared_slope = (first.bias_gradient_std / last.weight_std)**2
    assert squared_slope == pytest.approx((density @ slopes**2).item(), rel=2e-5)
