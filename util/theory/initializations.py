"""Initializations as rules: what variances the weights and biases of a layer have, given what enters it.

Each takes a `Conv2d` or `Linear` and the second moment of its inputs (averaged over the taps of its kernel and over its
output positions, where taps outside of the map count as 0), and returns the `Variances` of the layer's parameters.
The rules leave the distribution open; `initialize` draws normal parameters.
"""
from __future__ import annotations

from typing import Callable, NamedTuple

from torch import nn

from util.theory.statistics import LayerStatistics, check_statistics

BIAS_VARIANCE = 0.04  # of variance-preserving initializations


class Variances(NamedTuple):
    """Of a layer's parameters."""

    weight: float  # sigma^2
    bias: float  # beta^2, 0 if there is no bias


Initialization = Callable[[nn.Module, float], Variances]


def variance_preserving(bias_variance: float = BIAS_VARIANCE) -> Initialization:
    """Return the rule that gives every pre-activation unit variance, `bias_variance` of it by biases, if any."""
    def rule(layer: nn.Module, second_moment: float) -> Variances:
        bias = 0.0 if layer.bias is None else bias_variance
        return Variances((1 - bias) / (fan_in(layer) * second_moment), bias)

    return rule


def he(layer: nn.Module, second_moment: float) -> Variances:
    """Weights of variance 2 / fan-in, zero biases (He et al., 2015)."""
    return Variances(2 / fan_in(layer), 0.0)


def glorot(layer: nn.Module, second_moment: float) -> Variances:
    """Weights of variance 2 / (fan-in + fan-out), zero biases (Glorot and Bengio, 2010)."""
    fan_out = layer.weight[:, 0].numel()
    return Variances(2 / (fan_in(layer) + fan_out), 0.0)


def pytorch(layer: nn.Module, second_moment: float) -> Variances:
    """Weights and biases of variance 1 / (3 fan-in), PyTorch's default, which draws them uniformly."""
    variance = 1 / (3 * fan_in(layer))
    return Variances(variance, 0.0 if layer.bias is None else variance)


def current(layer: nn.Module, second_moment: float) -> Variances:
    """The mean squares of the parameters as they are."""
    return Variances(mean_power(layer.weight, 2), mean_power(layer.bias, 2))


def fan_in(layer: nn.Module) -> int:
    """Return the number of inputs that feed one output."""
    return layer.weight[0].numel()


def mean_power(parameter: nn.Parameter | None, exponent: int) -> float:
    """Return the mean of a parameter's entries to the power of an exponent, 0 if there is no parameter."""
    return 0.0 if parameter is None else parameter.detach().double().pow(exponent).mean().item()


def initialize(net: nn.Module, statistics: list[LayerStatistics]) -> None:
    """Draw normal weights and biases in place, by the global torch generator, with the scales that `predict` says.

    Frozen parameters are drawn, too. Raises a ValueError if the statistics are of another network.
    """
    check_statistics(net, statistics)
    for layer in statistics:
        module = net.get_submodule(layer.name)
        nn.init.normal_(module.weight, std=layer.weight_std)
        if module.bias is not None:
            nn.init.normal_(module.bias, std=layer.bias_std)
