"""The preconditioned way: an initialization that keeps signals at scale, and gradients scaled by fixed factors.

The statistics behind both, from `util.signal_propagation`, are those of the untrained network. They are computed once
and not updated while the network changes: the preconditioner is static.
"""
from __future__ import annotations

from typing import Callable

import torch
from torch import nn

from util.data import Images
from util.layer_statistics import LayerStatistics
from util.network import Net
from util.training import Run, train


def initialize(net: nn.Module, statistics: list[LayerStatistics]) -> None:
    """Draw a network's weights and biases in place, so that every pre-activation is a priori standard normal.

    They are drawn from normal distributions, by the global torch generator.

    Args:
        net: the network that the statistics are of.
        statistics: from `util.signal_propagation.predict`.
    """
    for layer in statistics:
        module = net.get_submodule(layer.name)
        nn.init.normal_(module.weight, std=layer.weight_std)
        if module.bias is not None:
            nn.init.normal_(module.bias, std=layer.bias_std)


def precondition(net: nn.Module, statistics: list[LayerStatistics]) -> None:
    """Let every later backward() leave gradients in .grad that are divided by their a priori standard deviations.

    The factors are a diagonal preconditioner, constant within each parameter tensor. Gradients accumulate as always.
    Call it once per network: a second call divides once more.

    Args:
        net: the network that the statistics are of.
        statistics: from `util.signal_propagation.predict`.
    """
    for layer in statistics:
        module = net.get_submodule(layer.name)
        _scale_gradient(module.weight, 1 / layer.weight_gradient_std)
        if module.bias is not None:
            _scale_gradient(module.bias, 1 / layer.bias_gradient_std)


def static_preconditioned_train(images: Images, statistics: list[LayerStatistics], learning_rate: float, epochs: int,
                                seed: int, report: Callable[[str], None],
                                preconditioned: bool = True) -> tuple[Net, Run]:
    """Train the tutorial's network from the variance-preserving initialization, with preconditioned gradients.

    Args and errors: as of `util.training.train`, besides
        statistics: of `Net`, from `util.signal_propagation.predict`.
        seed: also seeds the global generator, which draws the parameters.
        preconditioned: False leaves the gradients as they are, to see what the initialization does alone.

    Returns:
        The trained network and the record of its training.
    """
    torch.manual_seed(seed)
    net = Net()
    initialize(net, statistics)
    if preconditioned:
        precondition(net, statistics)
    return net, train(net, images, learning_rate, epochs, seed, report)


def _scale_gradient(parameter: nn.Parameter, factor: float) -> None:
    parameter.register_hook(lambda gradient: gradient * factor)
