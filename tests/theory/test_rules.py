"""The rules against the exact average over all signs or a closed form, where there is one, and else Monte Carlo."""
import math

import numpy as np
import pytest
import torch
from torch import nn
from torch.func import functional_call, jacrev, vmap

from tests.theory.helpers import Added, with_stds
from tests.theory.monte_carlo import INPUTS, named_stds, root_mean_square, sample, white_noise
from tests.theory.networks import NETWORKS
from util.theory import predict, predict_current, predict_for
from util.theory.initializations import Variances
from util.theory.rules import ACTIVATIONS


def average_over_signs(net, input_shape, statistics):
    """Return the exact root mean square of each gradient, where inputs, weights and biases differ by signs only.

    Second moments depend on no more than that they are independent, symmetric, and of the predicted variances. A
    gradient of independent entries of unit variance at the output gives the sum of the squares over the outputs.
    """
    stds = {}
    for layer in statistics:
        stds[f"{layer.name}.weight"] = layer.weight_std
        stds[f"{layer.name}.bias"] = layer.bias_std
    shapes = {name: parameter.shape for name, parameter in net.named_parameters()}
    sizes = [math.prod(input_shape), *map(torch.Size.numel, shapes.values())]
    sign = torch.tensor([1.0, -1.0]).double()
    signs = torch.cartesian_prod(*sum(sizes) * [sign])
    inputs, *parts = signs.split(sizes, dim=1)
    draws = {}
    for name, part in zip(shapes, parts):
        draws[name] = stds[name] * part.reshape(-1, *shapes[name])

    def outputs(draw, x):
        return functional_call(net, draw, x).flatten()

    jacobians = vmap(jacrev(outputs))(draws, inputs.reshape(-1, 1, *input_shape))
    roots = {}
    for name, jacobian in jacobians.items():
        squares = jacobian.square().sum(dim=1)
        roots[name] = squares.mean().sqrt().item()
    return roots


TINY = {
    "perceptron": (nn.Sequential(nn.Linear(2, 2), nn.ReLU(), nn.Linear(2, 2)), (2,)),
    "LeakyReLU": (nn.Sequential(nn.Linear(2, 2), nn.LeakyReLU(0.3), nn.Linear(2, 2)), (2,)),
    "padding": (nn.Sequential(nn.Conv2d(1, 1, (1, 3), padding=(0, 1)), nn.ReLU(),
                              nn.Conv2d(1, 1, (1, 2), padding=(0, 1)), nn.Flatten(), nn.Linear(3, 1)), (1, 1, 2)),
    "padding, stride and dilation": (nn.Sequential(nn.Conv2d(1, 1, 2, padding=1, stride=2), nn.ReLU(),
                                                   nn.Conv2d(1, 1, (2, 1), padding=1, dilation=2)), (1, 2, 2)),
    "groups": (nn.Sequential(nn.Conv2d(2, 2, (1, 2), groups=2), nn.ReLU(), nn.Flatten(), nn.Linear(2, 1)), (2, 1, 2)),
    "sum of two layers of the same input": (nn.Sequential(
        nn.Linear(1, 1), nn.ReLU(), Added(nn.Linear(1, 1, bias=False), nn.Linear(1, 1)), nn.ReLU(), nn.Linear(1, 2)),
        (1,)),
    "average pool without activation": (
        nn.Sequential(nn.Conv2d(1, 2, (1, 2)), nn.AvgPool2d((1, 2)), nn.Flatten(), nn.Linear(4, 1)), (1, 1, 5)),
    "convolutions without activation, global average": (
        nn.Sequential(nn.Conv2d(1, 1, (1, 2)), nn.Conv2d(1, 2, (1, 2)), nn.AdaptiveAvgPool2d(1)), (1, 1, 5)),
}


@pytest.mark.parametrize("net, input_shape", TINY.values(), ids=TINY)
def test_gradients_are_the_exact_average(net, input_shape):
    """Pre-activations are never zero, since biases have another size than all sums of the rest."""
    statistics = predict(net, input_shape, bias_variance=0.0417)
    exact = average_over_signs(net.double(), input_shape, statistics)
    assert named_stds(net, statistics) == pytest.approx(exact, rel=1e-9)


@pytest.mark.parametrize("module, input_moments, correlation", [
    # Taps in common: 2, 3, 2. Taps inside: 2, 3, 3, 2.
    (nn.Conv2d(1, 1, (1, 3), padding=(0, 1), bias=False), (1, 0.5), pytest.approx(0.45)),
    (nn.Conv2d(1, 1, 1), (1, 0), pytest.approx(0.04)),  # the biases' share
    (Added(nn.Conv2d(1, 1, 1), nn.Conv2d(1, 1, 1)), (1, 0.5), pytest.approx(0.52)),
    (nn.Sequential(nn.Conv2d(1, 1, 1), nn.ReLU()), (1, 1), pytest.approx(1, abs=1e-4)),  # equal inputs
    (nn.Dropout(0.5), (1, 0.5), pytest.approx(0.25)),
    (nn.MaxPool2d((1, 2), stride=1), (1, 0), pytest.approx(0.609, abs=0.06)),  # of 4 million samples
])
def test_neighbours_have_the_correlation_of_what_they_share(module, input_moments, correlation):
    """A convolution without padding and biases has that of its input."""
    net = nn.Sequential(module, nn.Conv2d(1, 1, 1, bias=False))
    *_, last = predict(net, (1, 1, 4), input_moments=input_moments)
    assert last.correlation == correlation


@pytest.mark.parametrize("net", [
    nn.Sequential(nn.Conv2d(1, 1, 1), nn.Conv2d(1, 1, 3, padding=1, bias=False), *between, nn.AdaptiveAvgPool2d(1),
                  nn.Flatten(), nn.Linear(1, 1, bias=False)) for between in ((), (nn.AvgPool2d(2),))])
def test_padding_counts_in_signals_and_gradients_of_a_global_average(net):
    """Along an axis, of 8 positions, 7, 8 and 7 see an input by the three taps: 162^2 / 64^2 is the average's square.

    Forward, the theory knows neighbours only, and they share more taps than distant positions. Other operations change
    nothing.
    """
    first, padded, last = predict(net, (1, 8, 8), input_moments=(1, 1))
    factor = last.weight_std * padded.weight_std * 162 / 64  # of a signal and of a gradient
    assert factor == pytest.approx(1, abs=0.05)
    assert first.bias_gradient_std == pytest.approx(factor, abs=0.006)


CLOSED_FORMS = {  # with the variances of the gradients of weights and biases
    # The maxima of three normals and of one; E[max^2] of three is 1 + sqrt(3) / 2 pi.
    "windows at the edge of a map have fewer positions": (
        nn.Sequential(nn.MaxPool2d((1, 3), ceil_mode=True), nn.Conv2d(1, 1, 1)), (1, 1, 4),
        2 + math.sqrt(3) / (2 * math.pi), 2),
    # The mean of four gradients, of which half pass, and are twice as large.
    "dropout before a global average": (
        nn.Sequential(nn.Conv2d(1, 1, 1), nn.Dropout(0.5), nn.AdaptiveAvgPool2d(1)), (1, 2, 2), 1 / 2, 5 / 4),
    # The mean of four ReLU(x), up to signs: with m = E[x^2], E[ReLU(x)^2] = m / 2 and E[ReLU(x)]^2 = m / 2 pi.
    "ReLU before a global average": (
        nn.Sequential(nn.Conv2d(1, 1, 1), nn.ReLU(), nn.AdaptiveAvgPool2d(1)), (1, 2, 2),
        1 / 8 + 3 / (8 * math.pi), 5 / 16),
    "average, ReLU and global average": (
        nn.Sequential(nn.Conv2d(1, 1, 1), nn.AvgPool2d(2), nn.ReLU(), nn.AdaptiveAvgPool2d(1)), (1, 4, 4),
        1 / 32 + 3 / (32 * math.pi), 5 / 16),
}


@pytest.mark.parametrize("net, input_shape, of_weight, of_bias", CLOSED_FORMS.values(), ids=CLOSED_FORMS)
def test_gradients_have_the_variances_of_their_closed_form(net, input_shape, of_weight, of_bias):
    (layer,) = predict_for(of_variance(0.3), net, input_shape)
    assert layer.weight_gradient_std**2 == pytest.approx(of_weight)
    assert layer.bias_gradient_std**2 == pytest.approx(of_bias)


def of_variance(variance):
    """Return the initialization that gives all weights the same variance, and has no biases."""
    return lambda layer, second_moment: Variances(variance, 0.0)


def check_ratios(gradients, tolerance):
    """Hold mean squares of gradients against predicted ones, relative to which they are."""
    for name, squares in gradients.items():
        ratio, error = root_mean_square(squares)
        assert 3 * error < tolerance, name
        assert ratio == pytest.approx(1, abs=tolerance), name


MONTE_CARLO = {  # with the tolerance: of a gradient; twice that of a variance
    "padding, overlapping max pool, padding": (nn.Sequential(
        nn.Conv2d(4, 24, 3, padding=1), nn.ReLU(), nn.Conv2d(24, 24, 3, padding=1), nn.ReLU(),
        nn.MaxPool2d(3, 2, padding=1), nn.Conv2d(24, 24, 3, padding=1), nn.ReLU(),
        nn.Flatten(), nn.Linear(384, 20)), (4, 8, 8), 0.07),
    "global average": (*NETWORKS["three convolutions, global average"], 0.12),
}


@pytest.mark.parametrize("net, input_shape, tolerance", MONTE_CARLO.values(), ids=MONTE_CARLO)
def test_random_networks_have_the_predicted_gradients_and_variances(net, input_shape, tolerance):
    statistics = predict(net, input_shape)
    signals, gradients = sample(net, statistics, white_noise(*input_shape), networks=300)
    check_ratios(gradients, tolerance)
    for name, squares in signals.items():
        assert np.mean(squares) == pytest.approx(1, abs=2 * tolerance), name


@pytest.mark.parametrize("net", [nn.Sequential(
    nn.ReLU(), nn.Conv2d(8, 24, 3), nn.ReLU(), nn.MaxPool2d(2, stride=3),
    nn.Conv2d(24, 32, 2), nn.ReLU(), nn.MaxPool2d(2))])
def test_random_networks_have_the_gradients_that_are_predicted_for_their_current_scales(net):
    """Each tensor with a scale of its own, and neighbouring inputs with a correlation of one half."""
    with_stds(net, 0.3, 0.8, 0.1, 1.5)
    statistics = predict_current(net, (8, 20, 20), input_moments=(0.5, 0.25))

    def draw_inputs():
        own = torch.randn(INPUTS, 8, 20, 20)
        common = torch.randn(INPUTS, 8, 1, 1)
        return (own + common) / 2

    _, gradients = sample(net, statistics, draw_inputs, networks=700)
    check_ratios(gradients, 0.03)


@pytest.mark.parametrize("activation", [*(kind() for kind in ACTIVATIONS), nn.Hardtanh(-0.5, 2.0),
                                        nn.Sequential(nn.Hardtanh(-0.5, 2.0), nn.Tanh())], ids=str)
def test_every_activation_has_the_moments_of_a_fine_sum(activation):
    """So fine that it makes no difference where the slope jumps."""
    net = nn.Sequential(nn.Linear(1, 1), activation, nn.Linear(1, 1))
    first, last = predict_for(of_variance(2.0), net, (1,))
    z = torch.linspace(-13, 13, 1_000_001, dtype=torch.float64, requires_grad=True)
    density = torch.softmax(-z.detach()**2 / 4, dim=0)
    values = activation(z.clone())
    (slopes,) = torch.autograd.grad(values.sum(), z)
    second = density @ values**2
    squared_gradient = 2 * density @ slopes**2
    assert last.weight_gradient_std**2 == pytest.approx(second.item(), rel=1e-6)
    assert first.bias_gradient_std**2 == pytest.approx(squared_gradient.item(), rel=2e-5)
