"""The moments behind activations and max pools against closed forms and adaptive quadrature."""
import math

import numpy as np
import pytest
import torch
from scipy.integrate import quad_vec
from scipy.special import ndtr
from torch import nn

from util.theory.quadrature import activation_moments


def moments(function, rho, variance=1.0, count=1, kinks=(0.0,)):
    places = torch.tensor([[variance], [rho], [count]], dtype=torch.float64)
    return [moment.item() for moment in activation_moments(function, kinks, *places)]


@pytest.mark.parametrize("rho", [0, 0.5, 0.999999])
@pytest.mark.parametrize("variance", [1e-300, 7.0, 1e300])
def test_relu_has_the_moments_of_the_arc_cosine_kernels(rho, variance):
    """Of degrees 1 and 0 (Cho and Saul, 2009); half of the gradients pass."""
    angle = math.acos(rho)
    cross = math.sin(angle) + rho * (math.pi - angle)
    both_positive = (math.pi - angle) / (2 * math.pi)
    tilt = 1 / math.sqrt(2 * math.pi)
    expected = (variance / 2, variance * cross / (2 * math.pi), 0.5, both_positive, tilt)
    assert moments(nn.ReLU(), rho, variance) == pytest.approx(expected, rel=1e-8)


def test_slope_that_jumps_elsewhere_than_at_zero_is_integrated_up_to_its_jumps():
    """A Hardtanh passes a gradient where |z| < 1."""
    edge = 1 / math.sqrt(0.3)
    passed = ndtr(edge) - ndtr(-edge)
    density = math.exp(-edge**2 / 2) / math.sqrt(2 * math.pi)
    inside = 0.3 * (passed - 2 * edge * density)
    second, _, slope, _, _ = moments(nn.Hardtanh(), 0.9, 0.3, kinks=(-1.0, 1.0))
    assert second == pytest.approx(inside + 1 - passed, abs=1e-6)
    assert slope == pytest.approx(passed, abs=1e-6)


@pytest.mark.parametrize("rho", [0, 0.3, 0.999])
@pytest.mark.parametrize("count, mean, second", [
    (2, 1 / math.sqrt(math.pi), 1),
    (3, 1.5 / math.sqrt(math.pi), 1 + math.sqrt(3) / (2 * math.pi)),
    (4, 6 / math.pi**1.5 * math.atan(math.sqrt(2)), 1 + math.sqrt(3) / math.pi),
])
def test_maximum_has_the_moments_of_normal_order_statistics(count, mean, second, rho):
    """Jones, 1948; the common part of the normals adds its own."""
    own = 1 - rho
    expected = (rho + own * second, rho + own * mean**2, 1, 1, math.sqrt(own) * mean)
    assert moments(nn.Identity(), rho, count=count) == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("rho", [0, 0.3, 0.999999])
def test_relu_passes_a_gradient_unless_both_normals_are_negative(rho):
    """The probability of that is a quarter plus asin(rho) / 2 pi (Sheppard, 1899)."""
    slope = moments(nn.ReLU(), rho, count=2)[2]
    assert slope == pytest.approx(0.75 - math.asin(rho) / (2 * math.pi), abs=1e-9)


@pytest.mark.parametrize("rho, count, tolerance", [(0.93, 9, 1e-9), (0.3, 144, 4e-7)])
def test_rectified_maximum_of_many_has_the_moments_of_adaptive_quadrature(rho, count, tolerance):
    """For each u, the distribution of z itself, integrated by SciPy, and a fine trapezoidal sum over u."""
    u = np.linspace(-8, 8, 1001)
    density = np.exp(-u**2 / 2)
    density /= density.sum()

    def above(x):
        standard = (x - math.sqrt(rho) * u) / math.sqrt(1 - rho)
        return 1 - ndtr(standard) ** count

    def integrands(x):
        return np.stack([above(x), 2 * x * above(x)])

    (first, second), _ = quad_vec(integrands, 0, 10, epsabs=tolerance / 10, norm="max")
    passed = above(0)
    expected = [density @ integral for integral in (second, first**2, passed, passed**2, first)]
    assert moments(nn.ReLU(), rho, count=count) == pytest.approx(expected, abs=tolerance)


def test_each_position_of_a_map_has_its_own_moments():
    variance = torch.tensor([[1.0, 2.0], [2.0 * (1 + 1e-15), 1.0]], dtype=torch.float64)
    correlation = torch.tensor([[0.1, 0.2], [0.2, 0.3]], dtype=torch.float64)
    together = activation_moments(torch.relu, (0.0,), variance, correlation, torch.ones(2, 2))
    for place in (0, 0), (0, 1), (1, 0), (1, 1):
        alone = moments(torch.relu, correlation[place].item(), variance[place].item())
        assert [moment[place].item() for moment in together] == pytest.approx(alone, rel=1e-11)
