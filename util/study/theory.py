"""What the theory says of deep networks, before any training."""
from __future__ import annotations

from typing import Callable

from torch import nn

from util.chain import take_apart
from util.network import Net
from util.signal_propagation import LayerStatistics, block_moments, predict, predict_current

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
    second, cross = 1.0, 0.0
    left = []
    for layer, scales in zip(take_apart(net, INPUT_SHAPE).layers, statistics):
        gain = layer.fan_in * scales.weight_std**2
        variance = gain * second + scales.bias_std**2
        rho = (gain * cross + scales.bias_std**2) / variance
        left.append(max(1 - rho, RESOLUTION))
        unit = block_moments(rho, layer.activation.pool_size, layer.activation.rectified)
        second, cross = variance * unit.second, variance * unit.cross
    return left
