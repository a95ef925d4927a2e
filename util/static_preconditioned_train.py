"""The preconditioned way: an initialization that keeps signals at scale, and gradients scaled by fixed factors.

The statistics behind both, from `util.signal_propagation`, are those of the untrained network. They are computed once
and not updated while the network changes: the preconditioner is static.
"""
from __future__ import annotations

from typing import Callable

from torch import nn

from util.data import Images
from util.network import Net
from util.signal_propagation import LayerStatistics, gradient_stds, predict
from util.training import Settings, TrainingRun, train


def static_preconditioned_train(net: Net, images: Images, learning_rate: float, seed: int, settings: Settings,
                                report: Callable[[str], None]) -> TrainingRun:
    """Initialize a network so that it preserves variance, and train it with preconditioned gradients.

    Args and returns: as of `util.training.train`. The parameters are drawn by the global torch generator.
    """
    statistics = predict(net, input_moments=settings.input_moments)
    initialize(net, statistics)
    factors = preconditioner(net, statistics)
    return train(net, images, factors, learning_rate, seed, settings, report)


def initialize(net: nn.Module, statistics: list[LayerStatistics]) -> None:
    """Draw a network's weights and biases in place, so that every pre-activation is a priori standard normal.

    They are drawn from normal distributions, by the global torch generator, with the scales that the statistics of this
    network say, which `util.signal_propagation.predict` gives.
    """
    for layer in statistics:
        module = net.get_submodule(layer.name)
        nn.init.normal_(module.weight, std=layer.weight_std)
        if module.bias is not None:
            nn.init.normal_(module.bias, std=layer.bias_std)


def preconditioner(net: nn.Module, statistics: list[LayerStatistics]) -> list[float]:
    """Return a factor for the gradient by each parameter tensor, in the order of `net.parameters()`.

    It is the reciprocal of the standard deviation that the gradient has a priori, by this network's statistics, which
    `util.signal_propagation.predict` or `predict_current` gives. So the factor brings the gradient to unit variance for
    a single sample and a standard normal gradient at the network's output. What a loss's own gradient has there instead
    is the same factor in all tensors, and left to the learning rate.
    """
    return [1 / std for std in gradient_stds(net, statistics)]
