"""Analytic statistics of the signals and gradients in a random network.

The network is a chain of weight layers l = 1..L (`Conv2d`, `Linear`), each followed by an activation: any mixture of
ReLU and max pool, possibly none. z_l is the output of weight layer l (its pre-activations), a_l that of its activation,
a_0 the network's input. Weights are independent N(0, sigma_l^2), biases independent N(0, beta_l^2).

The signal, from input to output. Two moments over random networks and inputs are tracked: the second moment
m_l = E[a_l^2], and the cross moment c_l = E[a_l(p) a_l(p')] for two positions p != p' of one channel.

    v_l   = fan_in_l sigma_l^2 m_{l-1} + beta_l^2               the variance of z_l
    rho_l = (fan_in_l sigma_l^2 c_{l-1} + beta_l^2) / v_l       the correlation of z_l(p) and z_l(p')
    m_l, c_l                                                    v_l times those of `block_moments(rho_l, ...)`, since
                                                                ReLU and max pool are positively homogeneous

Pre-activations have unit variance, v_l = 1, if sigma_l^2 = (1 - beta^2) / (fan_in_l m_{l-1}) and beta_l^2 = beta^2.

The gradient, from output to input, for a standard normal gradient at the network's output and a single sample. With
the expected squared norm G_l = E || dL/dz_l ||^2, C_l output channels, and pi_l the probability that an activation
passes a gradient on (a ReLU passes none where it is zero; a max pool passes each to exactly one position):

    G_L = pi_L (number of network outputs)
    G_l = pi_l sigma_{l+1}^2 fan_in_{l+1} G_{l+1}               since each output has fan_in weights
    Var(dL/dbias_l)   = G_l / C_l
    Var(dL/dweight_l) = G_l m_{l-1} / C_l                       a convolution's sums over its positions, as G does

These rules extend those of He et al., "Delving Deep into Rectifiers" (2015), section 2.2, by biases,
correlated positions and max pools. What they assume:

    everywhere                  weights and biases are independent, of zero mean and symmetric; the gradient at the
                                output has independent entries of zero mean and unit variance; it is one sample's
    convolutions                the second moment m_l is the same at all positions
    an activation on the input  the input is symmetric (ReLU) or normal, with one correlation (max pool)
    max pools                   pre-activations are normal, with the same correlation of all positions of a channel, and
                                what feeds the position that a pool picks is not larger than elsewhere

Without max pools, m_l, pi_l and the gradients do not depend on c_l, and are exact at any width. README.md says how far
the assumptions on max pools hold.
"""
from __future__ import annotations

import math
from typing import Callable, NamedTuple

import numpy as np
import torch
from scipy.special import ndtr
from torch import nn

from util.chain import Activation, Chain, Layer, take_apart
from util.initializations import Initialization, Variances, current, variance_preserving

STANDARD = (1.0, 0.0)  # the moments (m_0, c_0) of independent standard normal inputs
LIMIT = 9.0  # the maximum of n standard normals lies between -LIMIT and LIMIT, but for a probability of n 10^-19
NODES, NODE_WEIGHTS = np.polynomial.legendre.leggauss(120)  # of the quadrature in `block_moments`


class LayerStatistics(NamedTuple):
    """Standard deviations over random networks, of a layer's parameters and of one sample's gradients by them."""

    name: str
    weight_std: float
    bias_std: float  # 0 if there is no bias
    weight_gradient_std: float
    bias_gradient_std: float  # also if there is no bias
    correlation: float  # of its pre-activations at two neighbouring positions of a channel


class Moments(NamedTuple):
    """Of an activation's output a: E[a^2], E[a(p) a(p')], and the probability that it passes a gradient on."""

    second: float
    cross: float
    pass_probability: float


def predict(net: nn.Module, input_shape: tuple[int, ...] = (3, 32, 32), bias_variance: float = 0.04,
            input_moments: tuple[float, float] = STANDARD) -> list[LayerStatistics]:
    """Compute the weight scales that keep every pre-activation at unit variance, and the gradients' scales that follow.

    Args:
        net: a chain of modules that `util.chain` supports; the values of its parameters play no role.
        input_shape: of one input, (channels, height, width) or (features,).
        bias_variance: beta^2, 0 <= beta^2 < 1, the share of a pre-activation's variance that its bias, if any, carries.
        input_moments: the input's second moment m_0 > 0 and its cross moment c_0 of two neighbouring positions of a
            channel, 0 <= c_0 <= m_0. The default is white noise.

    Returns one record per weight layer, in the order of the chain.

    Raises:
        ValueError: for numbers out of range, for networks and input shapes that the formulas do not cover, and for a
            layer with a variance that is too small or too large for a float.
    """
    if not 0 <= bias_variance < 1:
        raise ValueError(f"bias_variance must be at least 0 and below 1, but is {bias_variance}")
    return predict_for(variance_preserving(bias_variance), net, input_shape, input_moments)


def predict_current(net: nn.Module, input_shape: tuple[int, ...] = (3, 32, 32),
                    input_moments: tuple[float, float] = STANDARD) -> list[LayerStatistics]:
    """Compute the same records for random networks with the root mean squares of this network's parameters as they are.

    Raises a ValueError for a layer whose weights are all zero or not finite, too.
    """
    return predict_for(current, net, input_shape, input_moments)


def predict_for(initialization: Initialization, net: nn.Module, input_shape: tuple[int, ...] = (3, 32, 32),
                input_moments: tuple[float, float] = STANDARD) -> list[LayerStatistics]:
    """Compute the same records for random networks of an initialization, see `util.initializations`."""
    def variances(layer: Layer, second_moment: float) -> Variances:
        weight, bias = initialization(layer.module, second_moment)
        _check_positive(weight, layer, "the variance of its weights", all_zero=not layer.module.weight.any())
        return Variances(weight, bias)

    return _propagate(net, input_shape, input_moments, variances)


def input_moments(images: torch.Tensor) -> tuple[float, float]:
    """Measure the moments (m_0, c_0) that `predict` takes.

    Args:
        images: (N, C, H, W) floats, scaled as they enter the network.

    Returns:
        The mean square, and the mean product of two horizontal or vertical neighbours in a channel.

    Raises:
        ValueError: for another shape, or one without neighbours, and for integers, such as pixels not yet scaled.
    """
    if images.ndim != 4 or not images.is_floating_point():
        raise ValueError(f"images must be floats of shape (N, C, H, W), not {images.dtype} of {tuple(images.shape)}")
    squares = products = 0.0
    pairs = 0
    for part in images.detach().split(100):
        part = part.double()
        horizontal = part[..., 1:] * part[..., :-1]
        vertical = part[..., 1:, :] * part[..., :-1, :]
        squares += part.square().sum().item()
        products += horizontal.sum().item() + vertical.sum().item()
        pairs += horizontal.numel() + vertical.numel()
    if pairs == 0:
        raise ValueError(f"images must have neighbouring positions, but are of shape {tuple(images.shape)}")
    return squares / images.numel(), products / pairs


def _propagate(net: nn.Module, input_shape: tuple[int, ...], input_moments: tuple[float, float],
               variances: Callable[[Layer, float], Variances]) -> list[LayerStatistics]:
    """Follow the signal from input to output, and the gradient back; `variances` takes a layer and m_{l-1}."""
    second, cross = input_moments
    if not (0 < second < math.inf and 0 <= cross <= second):
        raise ValueError(f"input_moments must be m_0 > 0 and c_0 from 0 to m_0, but are {tuple(input_moments)}")
    chain = take_apart(net, input_shape)
    signals = propagate_signal(chain, second, cross, variances)
    return _propagate_gradient(chain, signals)


class Signal(NamedTuple):
    """What a layer receives, what it makes of that, and what its activation will do with the gradient."""

    input_second_moment: float  # m_{l-1}
    variances: Variances
    correlation: float  # rho_l
    pass_probability: float  # pi_l


def propagate_signal(chain: Chain, second: float, cross: float,
                     variances: Callable[[Layer, float], Variances]) -> list[Signal]:
    """Follow the moments of the input through all layers; `variances` takes a layer and m_{l-1}.

    Raises a ValueError for a layer with a variance that is too small or too large for a float.
    """
    moments = _activate(second, cross / second, chain.input_activation)
    signals = []
    for layer in chain.layers:
        _check_positive(moments.second, layer, "the second moment of its input")
        weight_variance, bias_variance = variances(layer, moments.second)
        gain = layer.fan_in * weight_variance
        variance = gain * moments.second + bias_variance
        covariance = gain * moments.cross + bias_variance
        _check_positive(variance, layer, "the variance of its pre-activations")
        correlation = covariance / variance
        output = _activate(variance, correlation, layer.activation)
        signals.append(Signal(moments.second, Variances(weight_variance, bias_variance), correlation,
                              output.pass_probability))
        moments = output
    return signals


def _activate(variance: float, correlation: float, activation: Activation) -> Moments:
    """Compute the moments behind an activation from those of what enters it, the correlation being of two positions.

    This relies on positive homogeneity, f(s z) = s f(z) for s > 0: unit variance says all. A tanh would not fit.
    """
    unit = block_moments(correlation, activation.pool_size, activation.rectified)
    return Moments(variance * unit.second, variance * unit.cross, unit.pass_probability)


def _propagate_gradient(chain: Chain, signals: list[Signal]) -> list[LayerStatistics]:
    statistics = []
    squared_norm = float(chain.outputs)
    for layer, signal in zip(reversed(chain.layers), reversed(signals)):
        squared_norm *= signal.pass_probability  # now G_l
        bias_gradient_variance = squared_norm / layer.module.weight.shape[0]
        weight_gradient_variance = bias_gradient_variance * signal.input_second_moment
        _check_positive(bias_gradient_variance, layer, "the variance of its biases' gradient")
        _check_positive(weight_gradient_variance, layer, "the variance of its weights' gradient")
        statistics.append(LayerStatistics(
            name=layer.name,
            weight_std=math.sqrt(signal.variances.weight),
            bias_std=math.sqrt(signal.variances.bias),
            weight_gradient_std=math.sqrt(weight_gradient_variance),
            bias_gradient_std=math.sqrt(bias_gradient_variance),
            correlation=signal.correlation))
        squared_norm *= signal.variances.weight * layer.fan_in
    statistics.reverse()
    return statistics


def _check_positive(value: float, layer: Layer, quantity: str, all_zero: bool = False) -> None:
    """Raise a ValueError unless a value is positive and finite; if it is 0, but nothing was, it is an underflow."""
    if 0 < value < math.inf:
        return
    if all_zero:
        problem = "zero, since its weights are all zero"
    elif value == 0:
        problem = "too small for a float"
    elif value == math.inf:
        problem = "infinite or too large for a float"
    else:
        problem = "not a number"
    raise ValueError(f"cannot predict layer '{layer.name}': {quantity} is {problem}")


def gradient_stds(net: nn.Module, statistics: list[LayerStatistics]) -> list[float]:
    """Return the standard deviation of the gradient by each parameter tensor, in the order of `net.parameters()`.

    Raises a ValueError if the statistics are not of all layers of this network.
    """
    names = [name for name, module in net.named_modules() if list(module.parameters(recurse=False))]
    if names != [layer.name for layer in statistics]:
        raise ValueError(f"the statistics are not of this network, whose layers are {', '.join(names)}")
    stds = {}
    for layer in statistics:
        module = net.get_submodule(layer.name)
        stds[module.weight] = layer.weight_gradient_std
        stds[module.bias] = layer.bias_gradient_std
    return [stds[parameter] for parameter in net.parameters()]


def block_moments(rho: float, pool_size: int, rectified: bool) -> Moments:
    """Compute the moments of what an activation makes of standard normal pre-activations.

    It takes the maximum z of n = `pool_size` of them, z_i, with pairwise correlation `rho`, 0 <= rho <= 1, and then, if
    it is `rectified`, the maximum of z and 0. (ReLU and max pool commute.) With independent standard normals u and e_i,
    z_i = sqrt(rho) u + w e_i, w = sqrt(1 - rho), so z = sqrt(rho) u + w t, where t, the maximum of the e_i, has the
    density n phi(t) Phi(t)^(n-1). Two positions have u, and nothing else, in common, so c is the average over u of the
    squared average over t. The latter is a Gauss-Legendre quadrature from where z > 0 on, the former a trapezoidal sum
    in s, u = w sinh(s), which resolves the step at z = 0 for every rho (Trefethen and Weideman, "The Exponentially
    Convergent Trapezoidal Rule", 2014).
    """
    width = math.sqrt(max(1 - rho, 1e-9))  # rho is 1 where neighbouring inputs are equal
    s = np.linspace(-1, 1, 121)[:, None] * math.asinh(LIMIT / width)
    u = width * np.sinh(s)
    u_weights = np.exp(-u**2 / 2) * np.cosh(s)
    u_weights /= u_weights.sum()

    start = (-math.sqrt(rho) * u / width).clip(-LIMIT, LIMIT) if rectified else -LIMIT
    t = start + (LIMIT - start) * (NODES + 1) / 2
    density = pool_size * np.exp(-t**2 / 2) / math.sqrt(2 * math.pi) * ndtr(t) ** (pool_size - 1)
    weights = density * NODE_WEIGHTS * (LIMIT - start) / 2
    z = math.sqrt(rho) * u + width * t
    zeroth, first, second = (u_weights * (weights * z**power).sum(axis=1, keepdims=True) for power in range(3))
    cross = first**2 / u_weights
    return Moments(float(second.sum()), float(cross.sum()), float(zeroth.sum()))
