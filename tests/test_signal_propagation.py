"""The theory against closed forms and against Monte Carlo; what it does not cover is refused."""
import copy
import math

import numpy as np
import pytest
import torch
from torch import nn

from tests.monte_carlo import gradient_stds, root_mean_square, sample
from util.network import Net
from util.signal_propagation import block_moments, predict

TOLERANCE = 0.03  # of a standard deviation, relative; over three standard errors, which the test makes sure of

CHAINS = {
    "tutorial network": (Net(), (3, 32, 32)),
    "multi-layer perceptron": (
        nn.Sequential(nn.Flatten(), nn.Linear(48, 100), nn.ReLU(), nn.Linear(100, 80), nn.ReLU(), nn.Linear(80, 20)),
        (3, 4, 4)),
    "convolutions without pooling": (
        nn.Sequential(nn.Conv2d(8, 24, 3), nn.ReLU(), nn.Conv2d(24, 32, 3), nn.ReLU(), nn.Flatten(),
                      nn.Linear(1152, 20)), (8, 10, 10)),
    "pool of 3, and a pool without ReLU": (
        nn.Sequential(nn.Conv2d(6, 16, 3), nn.MaxPool2d(3), nn.ReLU(), nn.Conv2d(16, 32, 2), nn.MaxPool2d(2),
                      nn.Flatten(), nn.Linear(128, 20)), (6, 17, 17)),
    "without bias": (
        nn.Sequential(nn.Conv2d(6, 16, 3, bias=False), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(),
                      nn.Linear(576, 40, bias=False), nn.ReLU(), nn.Linear(40, 20)), (6, 14, 14)),
    "groups, stride and dilation": (
        nn.Sequential(nn.Conv2d(8, 32, 3, groups=2, stride=2), nn.ReLU(), nn.Conv2d(32, 32, 2, groups=4, dilation=2),
                      nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(288, 20)), (8, 18, 18)),
    "nested, with several pools and ReLUs in a row": (
        nn.Sequential(nn.Sequential(nn.Conv2d(16, 32, 3), nn.ReLU(), nn.MaxPool2d(2)), nn.ReLU(),
                      nn.Sequential(nn.MaxPool2d((2, 1)), nn.Sequential(nn.Flatten(), nn.Linear(288, 60)), nn.ReLU()),
                      nn.ReLU(), nn.Linear(60, 20)), (16, 16, 9)),
    "ReLU before the first and pool after the last layer": (
        nn.Sequential(nn.ReLU(), nn.Conv2d(8, 24, 3), nn.ReLU(), nn.MaxPool2d(2, stride=3),
                      nn.Conv2d(24, 32, 2), nn.ReLU(), nn.MaxPool2d(2)), (8, 20, 20)),
}


@pytest.mark.parametrize("name", CHAINS)
def test_monte_carlo(name):
    net, input_shape = CHAINS[name]
    statistics = predict(net, input_shape)
    signals, gradients = sample(net, statistics, input_shape, networks=2500, inputs=4, seed=0)
    predicted = {**{layer.name: 1 for layer in statistics}, **gradient_stds(statistics)}
    for name, squares in {**signals, **gradients}.items():
        measured, standard_error = root_mean_square(squares)
        assert 3 * standard_error < TOLERANCE * predicted[name], name
        assert measured == pytest.approx(predicted[name], rel=TOLERANCE), name


@pytest.mark.parametrize("rho", [0, 0.04, 0.5, 0.99, 0.999999])
def test_rectified_normal(rho):
    """m = 1/2, half of the gradients pass, and c is the arc-cosine kernel of degree 1 (Cho and Saul, 2009)."""
    arc_cosine = (math.sqrt(1 - rho**2) + rho * (math.pi - math.acos(rho))) / (2 * math.pi)
    assert block_moments(rho, 1, True) == pytest.approx((0.5, arc_cosine, 0.5), abs=1e-9)


@pytest.mark.parametrize("rho", [0, 0.04, 0.5, 0.99, 0.999999])
def test_no_activation(rho):
    assert block_moments(rho, 1, False) == pytest.approx((1, rho, 1), abs=1e-9)


@pytest.mark.parametrize("pooled, mean, second", [
    (2, 1 / math.sqrt(math.pi), 1),
    (3, 1.5 / math.sqrt(math.pi), 1 + math.sqrt(3) / (2 * math.pi)),
    (4, 6 / math.pi**1.5 * math.atan(math.sqrt(2)), 1 + math.sqrt(3) / math.pi),
])
def test_maximum_of_independent_normals(pooled, mean, second):
    """The moments of normal order statistics (Jones, 1948)."""
    assert block_moments(0, pooled, False) == pytest.approx((second, mean**2, 1), abs=1e-9)


@pytest.mark.parametrize("rho", [0, 0.3, 0.9])
def test_probability_that_two_correlated_normals_are_negative(rho):
    """A quarter plus asin(rho) / 2 pi (Sheppard, 1899)."""
    assert block_moments(rho, 2, True).passing == pytest.approx(0.75 - math.asin(rho) / (2 * math.pi), abs=1e-9)


@pytest.mark.parametrize("rectified", [False, True])
def test_maximum_of_correlated_normals(rectified):
    """Against two million draws of two neighbouring windows; tolerance: five standard errors."""
    rho, pooled, draws = 0.3, 9, 2_000_000
    rng = np.random.default_rng(0)
    common = math.sqrt(rho) * rng.standard_normal(draws)
    windows = [np.full(draws, -np.inf), np.full(draws, -np.inf)]
    for window in windows:
        for _ in range(pooled):
            np.maximum(window, common + math.sqrt(1 - rho) * rng.standard_normal(draws), out=window)
    passing = windows[0] > 0 if rectified else np.full(draws, True)
    a, b = (np.maximum(window, 0) if rectified else window for window in windows)
    for predicted, values in zip(block_moments(rho, pooled, rectified), (a**2, a * b, passing)):
        assert abs(values.mean() - predicted) <= 5 * values.std() / math.sqrt(draws)


def test_order_of_relu_and_pool_does_not_matter():
    def chain(*block):
        return nn.Sequential(nn.Conv2d(3, 8, 3), *block, nn.Conv2d(8, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(128, 5))

    assert (predict(chain(nn.ReLU(), nn.MaxPool2d(2)), (3, 14, 14))
            == predict(chain(nn.MaxPool2d(2), nn.ReLU()), (3, 14, 14)))


def test_very_deep_chain_stays_finite():
    chain = nn.Sequential(*(module for _ in range(60) for module in (nn.Conv2d(4, 4, 1, bias=False), nn.ReLU())))
    for layer in predict(chain, (4, 2, 2)):
        assert layer.weight_gradient_std > 0 and math.isfinite(layer.weight_gradient_std)


def test_layers_without_bias_have_no_bias_variance():
    with_bias, without = (predict(nn.Linear(50, 10, bias=bias), (50,), bias_variance=0.5)[0] for bias in (True, False))
    assert with_bias.weight_std == pytest.approx(math.sqrt(0.5 / 50))
    assert with_bias.bias_std == pytest.approx(math.sqrt(0.5))
    assert without.weight_std == pytest.approx(math.sqrt(1 / 50))
    assert without.bias_std == 0


def test_names_are_those_of_the_network():
    net, input_shape = CHAINS["nested, with several pools and ReLUs in a row"]
    assert [layer.name for layer in predict(net, input_shape)] == ["0.0", "2.1.1", "4"]


def test_network_and_random_state_are_left_alone():
    net = Net()
    parameters, random_state = copy.deepcopy(net.state_dict()), torch.get_rng_state()
    predict(net)
    assert all(torch.equal(value, parameters[name]) for name, value in net.state_dict().items())
    assert torch.equal(torch.get_rng_state(), random_state)


class Residual(nn.Sequential):
    def forward(self, x):
        return x + super().forward(x)


class LinearOfSomeKind(nn.Linear):
    pass


REPEATED, TIED = nn.Linear(6, 6), nn.Linear(6, 6)
TIED.weight = REPEATED.weight


@pytest.mark.parametrize("chain, input_shape, layer", [
    (nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)), (3, 8, 8), "'1' (BatchNorm2d)"),
    (nn.Sequential(nn.Linear(6, 6), nn.Dropout()), (6,), "'1' (Dropout)"),
    (nn.Sequential(nn.Linear(6, 6), nn.Sequential(nn.Tanh())), (6,), "'1.0' (Tanh)"),
    (nn.Sequential(nn.Linear(6, 6), nn.AvgPool2d(2)), (6,), "'1' (AvgPool2d)"),
    (nn.Sequential(nn.Linear(6, 6), Residual(nn.Linear(6, 6))), (6,), "'1' (Residual)"),
    (nn.Sequential(LinearOfSomeKind(6, 6)), (6,), "'0' (LinearOfSomeKind)"),
    (nn.Sequential(REPEATED, nn.ReLU(), REPEATED), (6,), "'2' (Linear)"),
    (nn.Sequential(REPEATED, nn.ReLU(), TIED), (6,), "'2' (Linear)"),
    (nn.Sequential(nn.Conv2d(3, 4, 3, padding=1)), (3, 8, 8), "'0' (Conv2d)"),
    (nn.Sequential(nn.Conv2d(3, 4, 3, padding="same")), (3, 8, 8), "'0' (Conv2d)"),
    (nn.Sequential(nn.Conv2d(3, 4, 3), nn.MaxPool2d(3, stride=2)), (3, 9, 9), "'1' (MaxPool2d)"),
    (nn.Sequential(nn.Conv2d(3, 4, 3), nn.MaxPool2d((2, 3), stride=2)), (3, 9, 9), "'1' (MaxPool2d)"),
    (nn.Sequential(nn.Conv2d(3, 4, 3), nn.MaxPool2d(2, padding=1)), (3, 8, 8), "'1' (MaxPool2d)"),
    (nn.Sequential(nn.Conv2d(3, 4, 3), nn.MaxPool2d(2, dilation=2)), (3, 8, 8), "'1' (MaxPool2d)"),
    (nn.Sequential(nn.Conv2d(3, 4, 3), nn.MaxPool2d(2, ceil_mode=True)), (3, 9, 9), "'1' (MaxPool2d)"),
    (nn.Sequential(nn.Conv2d(3, 4, 3), nn.MaxPool2d(2, return_indices=True)), (3, 8, 8), "'1' (MaxPool2d)"),
    (nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(2)), (3, 8, 8), "'1' (Flatten)"),
    (nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(5)), (3, 8, 8), "'1' (Flatten)"),
    (nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(0)), (3, 8, 8), "'1' (Flatten)"),
    (nn.Sequential(nn.Conv2d(3, 4, 3), nn.Linear(6, 5)), (3, 8, 8), "'1' (Linear)"),
    (nn.Sequential(nn.Conv2d(1, 4, 3)), (8, 8), "'0' (Conv2d)"),
    (nn.Sequential(nn.Conv2d(3, 4, 3), nn.MaxPool2d(8)), (3, 8, 8), "'1' (MaxPool2d)"),
    (Net(), (1, 32, 32), "'conv1' (Conv2d)"),
    (Net(), (3, 28, 28), "'fc1' (Linear)"),
    (Net(), (3, 8, 8), "'conv2' (Conv2d)"),
    (Net(), (3072,), "'conv1' (Conv2d)"),
])
def test_what_is_not_covered_is_refused_by_name(chain, input_shape, layer):
    with pytest.raises(ValueError) as error:
        predict(chain, input_shape)
    assert layer in str(error.value)
    assert "supported are" in str(error.value)


@pytest.mark.parametrize("chain", [nn.Sequential(), nn.Sequential(nn.ReLU(), nn.Flatten())])
def test_chain_without_weight_layer_is_refused(chain):
    with pytest.raises(ValueError, match="no weight layer.*supported are"):
        predict(chain, (3, 8, 8))


@pytest.mark.parametrize("bias_variance", [-0.1, 1, 2, math.nan])
def test_bias_variance_out_of_range_is_refused(bias_variance):
    with pytest.raises(ValueError, match="bias_variance"):
        predict(Net(), bias_variance=bias_variance)


@pytest.mark.parametrize("input_shape", [(), (3, -1, 32), (3, 0, 32), (3, 32)])
def test_impossible_input_shapes_are_refused(input_shape):
    with pytest.raises(ValueError, match="shape"):
        predict(Net(), input_shape)
