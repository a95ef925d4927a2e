"""The moments behind activations and max pools against closed forms and adaptive quadrature."""
import math

import numpy as np
import pytest
import torch
from scipy.integrate import quad_vec
from scipy.special import ndtr
from torch import nn
from torch.testing import assert_close

from util.theory.quadrature import activation_moments


def moments(function, rho, variance=1.0, count=1):
    places = torch.tensor([[variance], [rho], [count]], dtype=torch.float64)
    found = activation_moments(function, (0.0,), *places)
    return torch.cat(found).tolist()


@pytest.mark.parametrize("rho", [0, 0.5, 0.999999])
@pytest.mark.parametrize("variance", [1e-300, 7.0, 1e300])
def test_relu_has_the_moments_of_the_arc_cosine_kernels(rho, variance):
    """Of degrees 1 and 0 (Cho and Saul, 2009); half of the gradients pass."""
    both_positive = 0.5 - math.acos(rho) / math.tau
    cross = math.sqrt(1 - rho**2) / math.tau + rho * both_positive
    expected = (variance / 2, variance * cross, 0.5, both_positive, 1 / math.sqrt(math.tau))
    assert moments(nn.ReLU(), rho, variance) == pytest.approx(expected, rel=1e-8)


@pytest.mark.parametrize("rho", [0, 0.3, 0.999])
@pytest.mark.parametrize("count, mean, second", [
    (2, 1 / math.sqrt(math.pi), 1),
    (3, 1.5 / math.sqrt(math.pi), 1 + math.sqrt(3) / (2 * math.pi)),
    (4, 6 / math.pi**1.5 * math.atan(math.sqrt(2)), 1 + math.sqrt(3) / math.pi),
])
def test_maximum_has_the_moments_of_normal_order_statistics(count, mean, second, rho):
    """Jones, 1948; the common part of the normals adds its own."""
    width = math.sqrt(1 - rho)
    own_mean = width * mean
    expected = (rho + width**2 * second, rho + own_mean**2, 1, 1, own_mean)
    assert moments(nn.Identity(), rho, count=count) == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("rho, count, tolerance", [(0.93, 9, 1e-9), (0.3, 144, 4e-7)])
def test_rectified_maximum_of_many_has_the_moments_of_adaptive_quadrature(rho, count, tolerance):
    """For each u, the distribution of z itself, integrated by SciPy, and a fine trapezoidal sum over u."""
    u = np.linspace(-8, 8, 1001)
    weights = np.exp(-u**2 / 2)
    width = math.sqrt(1 - rho)

    def above(z):
        standard = (z - math.sqrt(rho) * u) / width
        return 1 - ndtr(standard) ** count

    def integrands(z):
        return np.stack([above(z), 2 * z * above(z)])

    (first, second), _ = quad_vec(integrands, 0, 10, epsabs=tolerance / 10, norm="max")
    passed = above(0)
    of_u = [second, first**2, passed, passed**2, first]
    expected = np.average(of_u, axis=1, weights=weights)
    assert moments(nn.ReLU(), rho, count=count) == pytest.approx(expected, abs=tolerance)


def test_each_position_of_a_map_has_its_own_moments():
    variance = torch.tensor([[1.0, 2.0], [2.0 * (1 + 1e-15), 1.0]], dtype=torch.float64)
    rho = torch.tensor([[0.1, 0.2], [0.2, 0.3]], dtype=torch.float64)
    second, cross, *_ = activation_moments(nn.Identity(), (0.0,), variance, rho, torch.ones(2, 2))
    assert_close(second, variance)
    assert_close(cross, rho * variance)
