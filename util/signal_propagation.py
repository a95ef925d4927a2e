"""Analytic statistics of the signals and gradients in a random network.

The network is a chain of weight layers l = 1..L (`Conv2d`, `Linear`), each followed by an activation block: any mixture
of ReLU, max pool and flatten, possibly none. z_l is the output of weight layer l (its pre-activations), a_l that of its
block, a_0 the network's input. Inputs are independent N(0, 1), weights N(0, sigma_l^2), biases N(0, beta^2).

The signal, from input to output. Two moments over the random network and its random input are tracked: the second
moment m_l = E[a_l^2], and c_l = E[a_l(p) a_l(p')] for two positions p != p' of one channel; m_0 = 1 and c_0 = 0.

    sigma_l^2 = (1 - beta^2) / (fan_in_l m_{l-1})          so that Var(z_l) = fan_in_l sigma_l^2 m_{l-1} + beta^2 = 1
    rho_l     = (1 - beta^2) c_{l-1} / m_{l-1} + beta^2    the correlation of z_l(p) and z_l(p')
    m_l, c_l                                               from rho_l, see `block_moments`

The gradient, from output to input, for a standard normal gradient at the network's output and a single sample. With
the gradient energy G_l = E || dL/dz_l ||^2, C_l output channels, and pi_l the probability that block l passes a
gradient on (a ReLU passes none where its output is zero; a max pool passes each gradient to exactly one position):

    G_L = pi_L (number of network outputs)
    G_l = pi_l sigma_{l+1}^2 fan_in_{l+1} G_{l+1}          since each output has fan_in weights
    Var(dL/dbias_l)   = G_l / C_l
    Var(dL/dweight_l) = G_l m_{l-1} / C_l                  a convolution's gradient sums over its positions, as G does

The rule for sigma^2 and the recursion for G extend those of He et al., "Delving Deep into Rectifiers" (2015), sections
2.2 and 2.3, by biases, correlated positions and max pools. Like theirs, they take the gradient at a layer's output to
be independent of the layer's input, which holds the better the wider the layers are.
"""
from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Iterator, NamedTuple

import numpy as np
import torch
from scipy.integrate import quad_vec
from scipy.special import ndtr
from torch import nn

from util.layer_statistics import LayerStatistics

SUPPORTED = ("supported are chains (nn.Sequential) of Conv2d without padding, Linear, ReLU, Flatten of all dimensions, "
             "and MaxPool2d without overlap, padding, dilation or ceil_mode")


class Moments(NamedTuple):
    """Of an activation block's output a: E[a^2], E[a(p) a(p')], and the probability that it passes a gradient on."""

    second: float
    correlation: float
    passing: float


@dataclass
class _Block:
    """An activation block: has it a ReLU, and over how many positions does it take the maximum?"""

    rectified: bool = False
    pooled: int = 1


class _WeightLayer(NamedTuple):
    name: str
    module: nn.Module
    block: _Block


def predict(net: nn.Module, input_shape: tuple[int, ...] = (3, 32, 32),
            bias_variance: float = 0.04) -> list[LayerStatistics]:
    """Compute the weight scales that keep every pre-activation standard normal, and the gradients' scales that follow.

    Args:
        net: a chain of supported modules. Its parameters' values play no role; neither it nor any random state changes.
        input_shape: shape of one input, without the batch dimension: (channels, height, width) or (features,).
        bias_variance: beta^2, the share of a pre-activation's variance that its bias carries, 0 <= beta^2 < 1. It is
            taken to be 0 in layers without bias.

    Returns:
        One record per weight layer, in the order of the chain. See the top of this file for the formulas.

    Raises:
        ValueError: for a bias_variance out of range, and for networks and input shapes that the formulas do not cover.
    """
    if not 0 <= bias_variance < 1:
        raise ValueError(f"bias_variance must be at least 0 and below 1, but is {bias_variance}")
    if min(input_shape, default=0) < 1:
        raise ValueError(f"input_shape must consist of sizes from 1 on, but is {tuple(input_shape)}")
    input_block, layers, outputs = _analyse(net, input_shape)

    moments = [block_moments(0.0, input_block.pooled, input_block.rectified)]
    weight_variances, bias_variances = [], []
    for _, layer, block in layers:
        second, correlation, _ = moments[-1]
        beta_squared = 0.0 if layer.bias is None else bias_variance
        weight_variances.append((1 - beta_squared) / (_fan_in(layer) * second))
        bias_variances.append(beta_squared)
        if isinstance(layer, nn.Linear):
            rho = 0.0  # a single position: there is none to be correlated with
        else:
            rho = (1 - beta_squared) * correlation / second + beta_squared
        moments.append(block_moments(rho, block.pooled, block.rectified))

    statistics = []
    energy = float(outputs)
    for index, (name, layer, _) in reversed(list(enumerate(layers))):
        energy *= moments[index + 1].passing
        bias_gradient_variance = energy / layer.weight.shape[0]
        statistics.append(LayerStatistics(
            name=name,
            weight_std=math.sqrt(weight_variances[index]),
            bias_std=math.sqrt(bias_variances[index]),
            weight_gradient_std=math.sqrt(bias_gradient_variance * moments[index].second),
            bias_gradient_std=math.sqrt(bias_gradient_variance),
        ))
        energy *= weight_variances[index] * _fan_in(layer)
    return statistics[::-1]


def block_moments(rho: float, pooled: int, rectified: bool) -> Moments:
    """Compute the moments of an activation block's output.

    The block takes the maximum z of n = `pooled` standard normal pre-activations z_i with pairwise correlation `rho`,
    0 <= rho < 1, and then, if it is `rectified`, the maximum of z and 0. (ReLU and max pool commute.) With independent
    standard normals u and e_i, z_i = sqrt(rho) u + sqrt(1 - rho) e_i. Given u, z has the distribution function

        F(x | u) = Phi((x - sqrt(rho) u) / sqrt(1 - rho))^n

    and two positions of the block's output have u, and nothing else, in common. Integrating by parts,

        E[z | u]   = int_0^inf    (1 - F(x | u)) - F(-x | u) dx
        E[z^2 | u] = int_0^inf 2x (1 - F(x | u)) + 2x F(-x | u) dx

    without the terms in F(-x | u) for the moments of max(z, 0). Averaged over u, the second of these is the second
    moment, the square of the first is the correlation, and 1 - F(0 | u) is the probability that a ReLU lets z through.

    The average over u is a trapezoidal sum in s, u = sqrt(1 - rho) sinh(s): it converges exponentially (Trefethen and
    Weideman, "The Exponentially Convergent Trapezoidal Rule", 2014), and resolves F's step for every rho.
    """
    width = math.sqrt(max(1 - rho, 1e-9))  # in very deep networks, rho may be rounded to 1
    s = np.linspace(-1, 1, 201) * math.asinh(9 / width)
    u = width * np.sinh(s)
    density = np.exp(-u**2 / 2) * np.cosh(s)
    density /= density.sum()
    common = math.sqrt(rho) * u

    def distribution(x: float) -> np.ndarray:
        return ndtr((x - common) / width) ** pooled

    def integrands(x: float) -> np.ndarray:
        above = 1 - distribution(x)
        below = np.zeros_like(above) if rectified else distribution(-x)
        return np.stack([above - below, 2 * x * (above + below)])

    (first, second), _ = quad_vec(integrands, 0, np.inf, epsabs=1e-10, norm="max")
    passing = density @ (1 - distribution(0)) if rectified else 1.0
    return Moments(float(density @ second), float(density @ first**2), float(passing))


def _fan_in(layer: nn.Module) -> int:
    """Return the number of inputs that feed one output of a Conv2d or Linear."""
    return layer.weight[0].numel()


def _analyse(net: nn.Module, input_shape: tuple[int, ...]) -> tuple[_Block, list[_WeightLayer], int]:
    """Take a chain apart: the block before its first weight layer, its weight layers, the number of its outputs.

    Raises:
        ValueError: if the chain or the input shape is not supported.
    """
    input_block = block = _Block()
    layers = []
    used = set()  # parameters of the layers so far
    signal = next(net.parameters(), torch.empty(0)).new_zeros((1, *input_shape))  # walks along, for its shape only
    for name, module in _chain(net):
        objection = _objection(module, signal)
        if not used.isdisjoint(module.parameters()):
            objection = "it shares parameters with an earlier layer, so their gradients add up"
        if not objection:
            try:
                with torch.no_grad():
                    output = module(signal)
            except (IndexError, RuntimeError):
                objection = f"its input has the shape {tuple(signal.shape[1:])}, which does not fit"
            else:
                if isinstance(module, nn.Flatten) and output.shape != (1, signal.numel()):
                    objection = "it does not flatten each sample wholly"
        if objection:
            raise ValueError(f"cannot predict layer '{name}' ({type(module).__name__}): {objection}; {SUPPORTED}")
        signal = output
        used.update(module.parameters())
        if isinstance(module, (nn.Conv2d, nn.Linear)):
            block = _Block()
            layers.append(_WeightLayer(name, module, block))
        elif isinstance(module, nn.ReLU):
            block.rectified = True
        elif isinstance(module, nn.MaxPool2d):
            block.pooled *= math.prod(_pair(module.kernel_size))
    if not layers:
        raise ValueError(f"the network has no weight layer (Conv2d or Linear), nothing to predict; {SUPPORTED}")
    return input_block, layers, signal.numel()


def _chain(module: nn.Module, name: str = "") -> Iterator[tuple[str, nn.Module]]:
    """Yield the modules of a chain in order, each with its name in the network, nested chains taken apart."""
    # a subclass of Sequential with a forward of its own (a residual block, say) need not be a chain
    if isinstance(module, nn.Sequential) and type(module).forward is nn.Sequential.forward:
        for child_name, child in module._modules.items():  # named_children() leaves out repetitions
            yield from _chain(child, f"{name}.{child_name}" if name else child_name)
    else:
        yield name, module


def _objection(module: nn.Module, signal: torch.Tensor) -> str:
    """Say why the formulas do not cover a module with this input, or nothing."""
    kind = type(module)  # not isinstance: a subclass may compute something else
    if kind not in (nn.Conv2d, nn.Linear, nn.ReLU, nn.MaxPool2d, nn.Flatten):
        return "this type of module is not supported"
    if kind in (nn.Conv2d, nn.MaxPool2d) and signal.ndim != 4:
        return f"its input has the shape {tuple(signal.shape[1:])} instead of (channels, height, width)"
    if kind is nn.Linear and signal.ndim != 2:
        return f"its input has the shape {tuple(signal.shape[1:])} instead of (features,)"
    if kind is nn.Conv2d and module.padding not in ((0, 0), "valid"):
        return "it pads its input, so pre-activations at the border vary less than the others"
    if kind is nn.MaxPool2d:
        if any(stride < kernel for stride, kernel in zip(_pair(module.stride), _pair(module.kernel_size))):
            return "its windows overlap"
        if any(_pair(module.padding)) or module.ceil_mode:
            return "its windows reach over the edge of its input"
        if _pair(module.dilation) != (1, 1):
            return "its windows are dilated"
        if module.return_indices:
            return "it returns indices too"
    return ""


def _pair(size: int | tuple[int, int]) -> tuple[int, int]:
    """Write a size that may be one number for both dimensions as two numbers."""
    return (size, size) if isinstance(size, int) else tuple(size)
