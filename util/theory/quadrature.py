"""Moments of an activation's output for normal pre-activations, by numerical quadrature."""
from __future__ import annotations

import functools
import math
from typing import Callable, Iterable, NamedTuple

import numpy as np
import torch

LIMIT = 9.0  # the maximum of n standard normals lies between -LIMIT and LIMIT, but for a probability of n 10^-19
NODES = 40  # of the quadrature between two kinks, for a single normal: errors are below 1e-8
NODES_OF_MAXIMUM = 120  # for the maximum of several: below 1e-10 up to 9 of them, 1e-7 up to 144
TOGETHER = 16  # distinct positions that are integrated at a time, which bounds the memory


class Moments(NamedTuple):
    """Of a = f(z), where z is the maximum of normals of variance v; z' and a' belong to another position."""

    second: torch.Tensor  # E[a^2]
    cross: torch.Tensor  # E[a a']
    slope: torch.Tensor  # E[f'(z)^2]
    cross_slope: torch.Tensor  # E[f'(z) f'(z')]
    slope_correlation: torch.Tensor  # E[f'(z) z] / sqrt(v)


def activation_moments(function: Callable[[torch.Tensor], torch.Tensor], kinks: Iterable[float], variance: torch.Tensor,
                       correlation: torch.Tensor, count: torch.Tensor) -> Moments:
    """Compute the moments at all positions of a map; positions that are alike are computed once.

    Args:
        function: f, applied to each entry of a float64 tensor, and differentiable by autograd. Where it saturates, the
            error of its slope's moments reaches 1 % at a variance of some hundreds.
        kinks: where its slope jumps.
        variance: v of the pre-activations at each position, of any shape.
        correlation: of all pairs of normals, from 0 to 1, of the same shape.
        count: the number n of normals of which z is the maximum, of the same shape.
    """
    kinks = torch.tensor(sorted(kinks), dtype=torch.float64)
    positions = torch.stack([variance, correlation, count]).flatten(1)
    distinct, places = torch.unique(_rounded(positions), dim=1, return_inverse=True)
    parts = [_integrate(function, kinks, *part) for part in distinct.split(TOGETHER, dim=1)]
    moments = torch.cat(parts, dim=1)[:, places]
    return Moments(*moments.reshape(-1, *variance.shape))


def _rounded(numbers: torch.Tensor) -> torch.Tensor:
    """Round to twelve significant digits, since sums in another order differ in the last ones."""
    mantissa, exponent = torch.frexp(numbers)
    return mantissa.round(decimals=12) * 2.0 ** exponent.double()  # what torch.ldexp does in single precision


def _integrate(function: Callable[[torch.Tensor], torch.Tensor], kinks: torch.Tensor, variance: torch.Tensor,
               correlation: torch.Tensor, count: torch.Tensor) -> torch.Tensor:
    """Compute the (5, P) `Moments` of (P,) different positions.

    With independent standard normals u and e_i, the normals are sqrt(v) (sqrt(rho) u + w e_i), w = sqrt(1 - rho). So
    z = sqrt(v) (sqrt(rho) u + w t), where t, the maximum of the e_i, has the density n phi(t) Phi(t)^(n-1). Two
    positions have u, and nothing else, in common: E[a a'] is the average over u of the squared average over t. The
    latter is a Gauss-Legendre quadrature between the kinks of f; the former a trapezoidal sum in s, u = w sinh(s),
    which resolves the step at z = 0 for every rho (Trefethen and Weideman, "The Exponentially Convergent Trapezoidal
    Rule", 2014).
    """
    variance, correlation, count = (values.reshape(-1, 1, 1) for values in (variance, correlation, count))
    width = (1 - correlation).clamp(min=1e-9).sqrt()  # the correlation is 1 where neighbouring inputs are equal
    reach = torch.asinh(LIMIT / width)
    s = reach * torch.linspace(-1, 1, 101, dtype=torch.float64).unsqueeze(1)
    u = width * torch.sinh(s)
    u_weights = torch.exp(-u**2 / 2) * torch.cosh(s)
    u_weights /= u_weights.sum(dim=1, keepdim=True)

    shift = correlation.sqrt() * u
    scale = variance.sqrt()
    number = NODES if count.max() == 1 else NODES_OF_MAXIMUM
    t, weights = _nodes((kinks / scale - shift) / width, number)
    weights *= count * torch.exp(-t**2 / 2) / math.sqrt(math.tau)
    if count.max() > 1:
        weights *= torch.special.ndtr(t) ** (count - 1)

    def given_u(integrand: torch.Tensor) -> torch.Tensor:
        return (weights * integrand).sum(dim=-1, keepdim=True)

    def average(of_u: torch.Tensor) -> torch.Tensor:
        return (u_weights * of_u).sum(dim=(-2, -1))

    z = shift + width * t
    inputs = (scale * z).requires_grad_()
    values = function(inputs.clone())  # a copy, since some activations work in place
    (slopes,) = torch.autograd.grad(values.sum(), inputs)
    values = values.detach() / scale  # so that no square is too large or too small for a float
    second = average(given_u(values**2))
    cross = average(given_u(values)**2)
    slope = average(given_u(slopes**2))
    cross_slope = average(given_u(slopes)**2)
    slope_correlation = average(given_u(slopes * z))
    variance = variance.flatten()
    return torch.stack([variance * second, variance * cross, slope, cross_slope, slope_correlation])


def _nodes(cuts: torch.Tensor, number: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return nodes and weights in the last dimension: `number` in each interval between -LIMIT, the cuts and LIMIT."""
    limit = torch.full_like(cuts[..., :1], LIMIT)
    edges = torch.cat([-limit, cuts.clamp(-LIMIT, LIMIT), limit], dim=-1)
    starts = edges[..., :-1].unsqueeze(-1)
    lengths = edges.diff().unsqueeze(-1)
    nodes, weights = _legendre(number)
    return (starts + lengths * nodes).flatten(-2), (lengths * weights).flatten(-2)


@functools.lru_cache(maxsize=None)
def _legendre(number: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the nodes and weights of the Gauss-Legendre quadrature from 0 to 1."""
    nodes, weights = map(torch.from_numpy, np.polynomial.legendre.leggauss(number))
    return (nodes + 1) / 2, weights / 2
