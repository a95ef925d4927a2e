"""What the theory says of deep networks, before any training."""
from __future__ import annotations

import functools
from typing import Callable, NamedTuple

from torch import nn

from util.chain import Layer, take_apart
from util.initializations import Variances
from util.network import Net
from util.signal_propagation import STANDARD, LayerStatistics, predict, predict_current, propagate_signal

INPUT_SHAPE = (3, 32, 32)
RESOLUTION = 1e-9  # of correlations, by `block_moments`


def pytorch(net: Net) -> list[LayerStatistics]:
    """Predict for variances 1 / (3 fan-in) of weights and biases."""
    def variances(fan_in: int, fan_out: int) -> tuple[float, float]:
        return 1 / (3 * fan_in), 1 / (3 * fan_in)

    return _predict_for(net, variances)


def glorot(net: Net) -> list[LayerStatistics]:
    """Predict for weights of variance 2 / (fan-in + fan-out) and zero biases."""
    return _predict_for(net, lambda fan_in, fan_out: (2 / (fan_in + fan_out), 0.0))


def he(net: Net) -> list[LayerStatistics]:
    """Predict for weights of variance 2 / fan-in and zero biases."""
    return _predict_for(net, lambda fan_in, fan_out: (2 / fan_in, 0.0))


def _predict_for(net: Net, variances: Callable[[int, int], tuple[float, float]]) -> list[LayerStatistics]:
    for module in net.modules():
        if isinstance(module, (nn.Conv2d, nn.Linear)):
            fan_in = module.weight[0].numel()
            fan_out = module.weight[:, 0].numel()
            weight, bias = variances(fan_in, fan_out)
            nn.init.constant_(module.weight, weight**0.5)
            nn.init.constant_(module.bias, bias**0.5)
    return predict_current(net)


INITIALIZATIONS: dict[str, Callable[[Net], list[LayerStatistics]]] = {
    "PyTorch": pytorch,
    "Glorot": glorot,
    "He": he,
    "variance-preserving": predict,
    "the same, zero bias": lambda net: predict(net, bias_variance=0.0),
    "the same, half bias": lambda net: predict(net, bias_variance=0.5),
}


def differences_left(net: Net, statistics: list[LayerStatistics]) -> list[float]:
    """Return 1 - rho after each layer (1e-9 if it is less), rho being the correlation of two inputs' pre-activations.

    The inputs are independent white noise. Then two inputs have in common what two positions of one input have, biases,
    so that the recursion of `util.signal_propagation` is theirs, too. Where 1 - rho is small, so is all that a network
    can tell inputs by (Poole et al., 2016; Schoenholz et al., 2017).
    """
    scales = {layer.name: layer for layer in statistics}

    def variances(layer: Layer, _: float) -> Variances:
        return Variances(scales[layer.name].weight_std**2, scales[layer.name].bias_std**2)

    signals = propagate_signal(take_apart(net, INPUT_SHAPE), *STANDARD, variances)
    return [max(1 - signal.correlation, RESOLUTION) for signal in signals]


class Ends(NamedTuple):
    """What reaches the two ends of a network, by the theory."""

    first_gradient: float  # standard deviation of the gradient by the first layer's weights
    difference_left: float  # 1 - rho of two inputs in the last hidden layer


@functools.lru_cache(maxsize=None)
def ends(name: str, depth: int) -> Ends:
    """Compute the ends of a network of a depth and one of `INITIALIZATIONS`, once for all tables and pictures."""
    net = Net(depth)
    statistics = INITIALIZATIONS[name](net)
    return Ends(statistics[0].weight_gradient_std, differences_left(net, statistics)[-2])
