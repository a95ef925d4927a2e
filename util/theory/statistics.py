"""What the theory says of each layer, and what follows from it for each parameter."""
from __future__ import annotations

from typing import NamedTuple

from torch import nn

from util.theory.checks import check

WEIGHT_LAYERS = (nn.Conv2d, nn.Linear)


class LayerStatistics(NamedTuple):
    """Standard deviations over random networks: of a layer's parameters, and of one sample's gradients."""

    name: str
    weight_std: float
    bias_std: float  # 0 if there is no bias
    weight_gradient_std: float
    bias_gradient_std: float  # also if there is no bias
    correlation: float  # of its pre-activations at two neighbouring positions of a channel, or for two inputs


def weight_gradient_spread(statistics: list[LayerStatistics]) -> float:
    """Return how unequal the layers' weight gradients are: the largest standard deviation over the smallest."""
    stds = [layer.weight_gradient_std for layer in statistics]
    return max(stds) / min(stds)


def check_statistics(net: nn.Module, statistics: list[LayerStatistics]) -> None:
    """Raise a ValueError unless the statistics are of the layers of this network, in any order."""
    layers = [name for name, module in net.named_modules() if isinstance(module, WEIGHT_LAYERS)]
    names = [layer.name for layer in statistics]
    check(sorted(names) == sorted(layers),
          f"the statistics are not of this network, whose layers are {', '.join(layers)}")


def gradient_stds(net: nn.Module, statistics: list[LayerStatistics]) -> dict[nn.Parameter, float]:
    """Return the standard deviation of the gradient with respect to each parameter tensor.

    The order is that of `net.parameters()`. Raises a ValueError if the statistics are not of all layers of the network.
    """
    check_statistics(net, statistics)
    stds = {}
    for layer in statistics:
        module = net.get_submodule(layer.name)
        stds[module.weight] = layer.weight_gradient_std
        stds[module.bias] = layer.bias_gradient_std
    return {parameter: stds[parameter] for parameter in net.parameters()}
