"""Analytic statistics of the signals and gradients in a random network.

The network is a chain of weight layers l = 1..L (`Conv2d`, `Linear`), each followed by an activation block: any mixture
of ReLU, max pool and flatten, possibly none. z_l is the output of weight layer l (its pre-activations), a_l that of its
block, a_0 the network's input (or what a block before the first layer makes of it). Weights are independent
N(0, sigma_l^2), biases independent N(0, beta_l^2).

The signal, from input to output. Two moments over the random network and its random input are tracked: the second
moment m_l = E[a_l^2], and the cross moment c_l = E[a_l(p) a_l(p')] for two positions p != p' of one channel. Those of
the input are given: m_0 = 1 and c_0 = 0 if it is white noise.

    v_l   = fan_in_l sigma_l^2 m_{l-1} + beta_l^2               the variance of z_l
    rho_l = (fan_in_l sigma_l^2 c_{l-1} + beta_l^2) / v_l       the correlation of z_l(p) and z_l(p')
    m_l, c_l                                                    v_l times those of `block_moments(rho_l, ...)`, since
                                                                ReLU and max pool are positively homogeneous

Pre-activations are standard normal, v_l = 1, if sigma_l^2 = (1 - beta^2) / (fan_in_l m_{l-1}) and beta_l^2 = beta^2.

The gradient, from output to input, for a standard normal gradient at the network's output and a single sample. With
the expected squared norm G_l = E || dL/dz_l ||^2, C_l output channels, and pi_l the probability that block l passes a
gradient on (a ReLU passes none where its output is zero; a max pool passes each gradient to exactly one position):

    G_L = pi_L (number of network outputs)
    G_l = pi_l sigma_{l+1}^2 fan_in_{l+1} G_{l+1}               since each output has fan_in weights
    Var(dL/dbias_l)   = G_l / C_l
    Var(dL/dweight_l) = G_l m_{l-1} / C_l                       a convolution's sums over its positions, as G does

These rules extend those of He et al., "Delving Deep into Rectifiers" (2015), sections 2.2 and 2.3, by biases,
correlated positions and max pools.

Limits. All of this is about the average over random networks, not about one of them. Without max pools, the second
moments of signals and gradients are exact at any width: flip the signs of one channel's weights and bias, and every
product of two channels' terms changes its sign, so these vanish on average, with no independence assumed. (The cross
moments are not exact, but only max pools need them.) A max pool breaks that symmetry, because it picks positions whose
inputs are atypically large. The standard deviation of the gradients of the weights below it comes out larger than
predicted, by a share of about (s - 1) / (2 f), where s = m / pi of the block is the second moment of what passes it,
and f the fan-in of the layer below, of whose inputs each carries 1 / f of that excess. It does not depend on the number
of channels, so layers of a small fan-in, such as 1x1 convolutions of few channels and depthwise ones, are predicted
badly before large pools. README.md has numbers.
"""
from __future__ import annotations

import functools
import math
from typing import Callable, NamedTuple

import numpy as np
from scipy.interpolate import CubicSpline, PPoly
from scipy.special import log_ndtr
from torch import nn

from util.chain import WeightLayer, take_apart

STANDARD = (1.0, 0.0)  # the moments (m_0, c_0) of independent standard normal inputs
LIMIT = 10.0  # the maximum of n standard normals lies between -LIMIT and LIMIT, but for a probability of n 10^-23


class LayerStatistics(NamedTuple):
    """Root mean squares of a single entry of a weight layer's parameters, and of the loss's gradient by it.

    All of them have mean zero over the random networks, so these are standard deviations. The gradients' are for a
    standard normal gradient at the network's output, and one sample. A layer without bias has a `bias_std` of 0, and
    the `bias_gradient_std` that a bias would have.
    """

    name: str
    weight_std: float
    bias_std: float
    weight_gradient_std: float
    bias_gradient_std: float


class Moments(NamedTuple):
    """Of an activation block's output a: E[a^2], E[a(p) a(p')], and the probability that it passes a gradient on."""

    second: float
    cross: float
    passing: float


def predict(net: nn.Module, input_shape: tuple[int, ...] = (3, 32, 32), bias_variance: float = 0.04,
            input_moments: tuple[float, float] = STANDARD) -> list[LayerStatistics]:
    """Compute the weight scales that keep every pre-activation standard normal, and the gradients' scales that follow.

    Args:
        net: a chain of supported modules. Its parameters' values play no role; neither it nor any random state changes.
        input_shape: shape of one input, without the batch dimension: (channels, height, width) or (features,).
        bias_variance: beta^2, the share of a pre-activation's variance that its bias carries, 0 <= beta^2 < 1. It is
            taken to be 0 in layers without bias.
        input_moments: the input's second moment m_0 > 0 and its cross moment c_0 of two neighbouring positions of a
            channel, 0 <= c_0 <= m_0. The default is white noise.

    Returns:
        One record per weight layer, in the order of the chain. See the top of this file for the formulas.

    Raises:
        ValueError: for a bias_variance or moments out of range, and for networks and input shapes that the formulas do
            not cover.
    """
    if not 0 <= bias_variance < 1:
        raise ValueError(f"bias_variance must be at least 0 and below 1, but is {bias_variance}")

    def variance_preserving(layer: WeightLayer, input_second_moment: float) -> tuple[float, float]:
        beta_squared = 0.0 if layer.module.bias is None else bias_variance
        return (1 - beta_squared) / (layer.fan_in * input_second_moment), beta_squared

    return _propagate(net, input_shape, input_moments, variance_preserving)


def predict_current(net: nn.Module, input_shape: tuple[int, ...] = (3, 32, 32),
                    input_moments: tuple[float, float] = STANDARD) -> list[LayerStatistics]:
    """Compute the same records as `predict` for random networks of the scales that this network's parameters have now.

    Args, returns and errors: as of `predict`, but `weight_std` and `bias_std` are the root mean squares of the
    parameters as they are, and a layer whose parameters are all zero is refused.
    """
    return _propagate(net, input_shape, input_moments, lambda layer, _: (
        _mean_square(layer.module.weight), _mean_square(layer.module.bias)))


def _propagate(net: nn.Module, input_shape: tuple[int, ...], input_moments: tuple[float, float],
               variances: Callable[[WeightLayer, float], tuple[float, float]]) -> list[LayerStatistics]:
    """Follow the signal from input to output, and the gradient back: the formulas at the top of this file.

    Args:
        variances: gives sigma_l^2 and beta_l^2 of a layer, whose input has the given second moment.
    """
    second, cross = input_moments
    if not (0 < second < math.inf and 0 <= cross <= second):
        raise ValueError("input_moments must be a second moment m_0 > 0 and a cross moment c_0 from 0 to m_0, "
                         f"but are {tuple(input_moments)}")
    layers, (input_block, *blocks), outputs = take_apart(net, input_shape)

    moments = block_moments(cross / second, *input_block)
    second, cross = second * moments.second, second * moments.cross
    signal = []  # for each layer sigma_l^2, beta_l^2, m_{l-1}, pi_l
    for layer, block in zip(layers, blocks):
        weight_variance, bias_variance = variances(layer, second)
        gain = layer.fan_in * weight_variance
        variance = gain * second + bias_variance
        if variance == 0:
            kind = type(layer.module).__name__
            raise ValueError(f"cannot predict layer '{layer.name}' ({kind}): its parameters are all zero")
        moments = block_moments((gain * cross + bias_variance) / variance, *block)
        signal.append((weight_variance, bias_variance, second, moments.passing))
        second, cross = variance * moments.second, variance * moments.cross

    statistics = []
    squared_norm = float(outputs)
    for layer, (weight_variance, bias_variance, second, passing) in zip(layers[::-1], signal[::-1]):
        squared_norm *= passing
        bias_gradient_variance = squared_norm / layer.module.weight.shape[0]
        statistics.append(LayerStatistics(
            name=layer.name,
            weight_std=math.sqrt(weight_variance),
            bias_std=math.sqrt(bias_variance),
            weight_gradient_std=math.sqrt(bias_gradient_variance * second),
            bias_gradient_std=math.sqrt(bias_gradient_variance),
        ))
        squared_norm *= weight_variance * layer.fan_in
    return statistics[::-1]


def gradient_stds(net: nn.Module, statistics: list[LayerStatistics]) -> list[float]:
    """Return the standard deviation of the gradient by each parameter tensor, in the order of `net.parameters()`."""
    stds = {}
    for layer in statistics:
        module = net.get_submodule(layer.name)
        stds[module.weight] = layer.weight_gradient_std
        stds[module.bias] = layer.bias_gradient_std
    return [stds[parameter] for parameter in net.parameters()]


def block_moments(rho: float, pool_size: int, rectified: bool) -> Moments:
    """Compute the moments of an activation block's output.

    The block takes the maximum z of n = `pool_size` standard normal pre-activations z_i with pairwise correlation
    `rho`, 0 <= rho <= 1, and then, if it is `rectified`, the maximum of z and 0. (ReLU and max pool commute.) With
    independent standard normals u and e_i, z_i = sqrt(rho) u + w e_i, w = sqrt(1 - rho), so z = sqrt(rho) u + w t with
    t the maximum of the e_i, whose CDF is Phi(x)^n. Two positions of the block's output have u, and nothing else, in
    common. Given u, z is positive for t > x = -sqrt(rho) u / w; integrating by parts,

        E[max(z, 0) | u]   = w   A(x),    A(x) = int_x^inf 1 - Phi(t)^n dt
        E[max(z, 0)^2 | u] = w^2 B(x),    B(x) = 2 int_x^inf A(t) dt

    Averaged over u, the second of these is the second moment, the square of the first is the cross moment, and
    1 - Phi(x)^n is the probability that a ReLU lets z through. Without a ReLU, z itself is averaged.

    The average over u is a trapezoidal sum in s, u = w sinh(s): it converges exponentially (Trefethen and Weideman,
    "The Exponentially Convergent Trapezoidal Rule", 2014), and resolves the step of 1 - Phi^n for every rho. One
    pre-activation, n = 1, has a closed form, the arc-cosine kernel of degree 1 (Cho and Saul, 2009).
    """
    if pool_size == 1 and not rectified:
        return Moments(1.0, rho, 1.0)
    if pool_size == 1:
        rho = min(rho, 1.0)  # which it may exceed by a rounding error
        arc_cosine = (math.sqrt(1 - rho**2) + rho * (math.pi - math.acos(rho))) / (2 * math.pi)
        return Moments(0.5, arc_cosine, 0.5)
    survival, a, b = _integrals(pool_size)
    if not rectified:  # z + LIMIT > 0 for certain
        mean = a(-LIMIT) - LIMIT
        second = b(-LIMIT) - 2 * LIMIT * mean - LIMIT**2
        return Moments(float(rho + (1 - rho) * second), float(rho + (1 - rho) * mean**2), 1.0)

    width = math.sqrt(max(1 - rho, 1e-9))  # in very deep networks, rho may be rounded to 1
    s = np.linspace(-1, 1, 201) * math.asinh(9 / width)
    u = width * np.sinh(s)
    density = np.exp(-u**2 / 2) * np.cosh(s)
    density /= density.sum()
    x = -math.sqrt(rho) * u / width
    beyond = np.maximum(-LIMIT - x, 0)  # where 1 - Phi^n is 1, so that A is linear, and B quadratic
    x = x.clip(-LIMIT, LIMIT)
    first = width * (a(x) + beyond)
    second = width**2 * (b(x) + 2 * a(x) * beyond + beyond**2)
    return Moments(float(density @ second), float(density @ first**2), float(density @ survival(x)))


@functools.lru_cache(maxsize=None)
def _integrals(pool_size: int) -> tuple[PPoly, PPoly, PPoly]:
    """Return 1 - Phi(x)^n, A(x) and B(x) of `block_moments`, from -LIMIT to LIMIT, as splines, exact to 1e-10.

    They do not depend on rho, so that one set of them serves all layers with pools of this size.
    """
    def from_x_on(integrand: PPoly) -> PPoly:
        integral = integrand.antiderivative()
        rest = PPoly(-integral.c, integral.x)
        rest.c[-1] += integral(LIMIT)
        return rest

    x = np.linspace(-LIMIT, LIMIT, 4001)
    survival = CubicSpline(x, -np.expm1(pool_size * log_ndtr(x)))
    a = from_x_on(survival)
    b = from_x_on(a)
    b.c *= 2
    return survival, a, b


def _mean_square(parameter: nn.Parameter | None) -> float:
    return 0.0 if parameter is None else parameter.detach().double().square().mean().item()
