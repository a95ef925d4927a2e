"""The preconditioned way: an initialization that keeps signals at scale, and gradients times static factors."""
from __future__ import annotations

from typing import Any

import numpy as np
from torch import nn

from util.data import Images
from util.network import Net
from util.signal_propagation import LayerStatistics, gradient_stds, predict
from util.training import train


def static_preconditioned_train(net: Net, images: Images, learning_rate: float, epochs: int, seed: int,
                                **options: Any) -> np.ndarray:
    """Initialize and train a network; takes and returns what `util.training.train` does."""
    statistics = predict(net)
    initialize(net, statistics)
    return train(net, images, learning_rate, epochs, seed, factors=preconditioner(net, statistics), **options)


def initialize(net: nn.Module, statistics: list[LayerStatistics]) -> None:
    """Draw normal weights and biases in place, by the global torch generator, with the scales that `predict` says."""
    for layer in statistics:
        module = net.get_submodule(layer.name)
        nn.init.normal_(module.weight, std=layer.weight_std)
        if module.bias is not None:
            nn.init.normal_(module.bias, std=layer.bias_std)


def preconditioner(net: nn.Module, statistics: list[LayerStatistics]) -> list[float]:
    """Return a factor for the gradient by each parameter tensor, in the order of `net.parameters()`.

    It is the reciprocal of the gradient's a priori standard deviation for a standard normal gradient at the output.
    What a loss's own gradient has there instead is the same factor in all tensors, and left to the learning rate.
    """
    return [1 / std for std in gradient_stds(net, statistics)]
