"""The moments behind activations and max pools against closed forms and adaptive quadrature."""
import math

import numpy as np
import pytest
import torch
from scipy.integrate import dblquad, quad, quad_vec
from scipy.special import ndtr
from torch import nn

from util.theory.quadrature import activation_moments


def moments(function, rho, variance=1.0, count=1, kinks=(0.0,)):
    values = (torch.tensor([number], dtype=torch.float64) for number in (variance, rho, count))
    return [moment.item() for moment in activation_moments(function, kinks, *values)]


@pytest.mark.parametrize("rho", [0, 0.04, 0.5, 0.99, 0.999999])
@pytest.mark.parametrize("variance", [1e-300, 0.3, 7.0, 1e300])
def test_relu_by_the_arc_cosine_kernels(rho, variance):
    """Of degrees 1 and 0 (Cho and Saul, 2009); half of the gradients pass."""
    angle = math.acos(rho)
    cross = (math.sin(angle) + rho * (math.pi - angle)) / (2 * math.pi)
    both_positive = (math.pi - angle) / (2 * math.pi)
    tilt = 1 / math.sqrt(2 * math.pi)
    expected = (variance / 2, variance * cross, 0.5, both_positive, tilt)
    assert moments(nn.ReLU(), rho, variance) == pytest.approx(expected, rel=1e-8)


@pytest.mark.parametrize("rho", [0.04, 0.5, 0.99])
def test_leaky_relu_and_identity_by_the_kernels_of_relu(rho):
    """A LeakyReLU of slope a is a z + (1 - a) ReLU(z), and E[z ReLU(z')] = rho / 2."""
    slope = 0.2
    second, cross, _, both_positive, tilt = moments(nn.ReLU(), rho)
    expected = (slope**2 + (1 - slope**2) * second, slope**2 * rho + slope * (1 - slope) * rho + (1 - slope)**2 * cross,
                (1 + slope**2) / 2, slope + (1 - slope)**2 * both_positive, (1 - slope) * tilt)
    assert moments(nn.LeakyReLU(slope), rho) == pytest.approx(expected, abs=1e-9)
    assert moments(nn.Identity(), rho) == pytest.approx((1, rho, 1, 1, 0), abs=1e-9)


def normal_density(z):
    return math.exp(-z * z / 2) / math.sqrt(2 * math.pi)


@pytest.mark.parametrize("variance", [0.1, 1.0, 10.0])
def test_tanh_by_adaptive_quadrature(variance):
    rho, scale = 0.6, math.sqrt(variance)

    def expectation(integrand):
        return quad(lambda z: integrand(scale * z) * normal_density(z), -9, 9, epsabs=1e-12)[0]

    def product(v, u):
        other = rho * u + math.sqrt(1 - rho**2) * v
        return math.tanh(scale * u) * math.tanh(scale * other) * normal_density(u) * normal_density(v)

    second, cross, slope, _, tilt = moments(nn.Tanh(), rho, variance)
    assert second == pytest.approx(expectation(lambda z: math.tanh(z)**2), abs=1e-9)
    assert slope == pytest.approx(expectation(lambda z: math.cosh(z)**-4), abs=1e-9)
    assert cross == pytest.approx(dblquad(product, -8, 8, -8, 8, epsabs=1e-9)[0], abs=1e-8)
    assert tilt == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize("variance", [0.3, 1.0, 10.0])
@pytest.mark.parametrize("rho", [0.04, 0.9])
def test_slope_that_jumps_elsewhere_than_at_zero(variance, rho):
    """A Hardtanh passes a gradient where |z| < 1."""
    edge = 1 / math.sqrt(variance)
    passed = ndtr(edge) - ndtr(-edge)
    second = variance * (passed - 2 * edge * normal_density(edge)) + 1 - passed
    measured = moments(nn.Hardtanh(), rho, variance, kinks=(-1.0, 1.0))
    assert (measured[0], measured[2]) == pytest.approx((second, passed), abs=1e-6)


@pytest.mark.parametrize("rho", [0, 0.3, 0.999])
@pytest.mark.parametrize("count, mean, second", [
    (2, 1 / math.sqrt(math.pi), 1),
    (3, 1.5 / math.sqrt(math.pi), 1 + math.sqrt(3) / (2 * math.pi)),
    (4, 6 / math.pi**1.5 * math.atan(math.sqrt(2)), 1 + math.sqrt(3) / math.pi),
])
def test_maximum_of_normals(count, mean, second, rho):
    """The moments of normal order statistics (Jones, 1948), to which the common part of the normals adds its own."""
    tilt = math.sqrt(1 - rho) * mean
    expected = (rho + (1 - rho) * second, rho + (1 - rho) * mean**2, 1, 1, tilt)
    assert moments(nn.Identity(), rho, count=count) == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("rho", [0, 0.3, 0.9, 0.999999])
def test_probability_that_two_correlated_normals_are_negative(rho):
    """A quarter plus asin(rho) / 2 pi (Sheppard, 1899)."""
    _, _, slope, _, _ = moments(nn.ReLU(), rho, count=2)
    assert slope == pytest.approx(0.75 - math.asin(rho) / (2 * math.pi), abs=1e-9)


@pytest.mark.parametrize("function", [nn.Identity(), nn.ReLU()])
@pytest.mark.parametrize("rho, count, tolerance", [
    (0, 9, 1e-9), (0.3, 2, 1e-9), (0.93, 9, 1e-9), (0.3, 144, 4e-7), (0.93, 144, 4e-7)])
def test_maximum_by_adaptive_quadrature(rho, count, tolerance, function):
    """For each u, the distribution of z itself, integrated by SciPy, and a fine trapezoidal sum over u."""
    common, width = math.sqrt(rho), math.sqrt(1 - rho)
    u = np.linspace(-8, 8, 1001)
    density = np.exp(-u**2 / 2)
    density /= density.sum()
    rectified = isinstance(function, nn.ReLU)

    def distribution(x):
        return ndtr((x - common * u) / width) ** count

    def integrands(x):
        above = 1 - distribution(x)
        below = 0 if rectified else distribution(-x)
        return np.stack([above - below, 2 * x * (above + below)])

    (first, second), _ = quad_vec(integrands, 0, 10, epsabs=tolerance / 10, norm="max")
    passed = 1 - distribution(0) if rectified else np.ones_like(u)
    expected = (density @ second, density @ first**2, density @ passed, density @ passed**2, density @ first)
    assert moments(function, rho, count=count) == pytest.approx(expected, abs=tolerance)


def test_positions_that_are_alike_are_computed_once_and_put_back_in_their_places():
    variance = torch.tensor([[1.0, 2.0], [2.0 * (1 + 1e-15), 1.0]], dtype=torch.float64)
    correlation = torch.tensor([[0.1, 0.2], [0.2, 0.3]], dtype=torch.float64)
    lengths = []

    def recorded(z):
        lengths.append(len(z))
        return z.relu()

    together = activation_moments(recorded, (0.0,), variance, correlation, torch.ones(2, 2))
    assert lengths == [3]
    for row in range(2):
        for column in range(2):
            alone = moments(nn.ReLU(), correlation[row, column].item(), variance[row, column].item())
            assert [moment[row, column].item() for moment in together] == pytest.approx(alone, rel=1e-11)
