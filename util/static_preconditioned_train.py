"""The preconditioned way: an initialization that keeps signals at scale, and gradients times static factors."""
from __future__ import annotations

from functools import partial
from typing import Callable

import numpy as np
import torch
from torch import nn
from torch.utils.hooks import RemovableHandle

from util.data import Images
from util.network import Net
from util.signal_propagation import LayerStatistics, gradient_stds, predict
from util.training import FUSED, train


def static_preconditioned_train(net: Net, images: Images, learning_rate: float, epochs: int, seed: int,
                                report: Callable[[str], None] = print) -> np.ndarray:
    """Initialize a network and train it with multiplied gradients; takes and returns what `default_train` does."""
    statistics = predict(net)
    initialize(net, statistics)
    optimizer = torch.optim.SGD(net.parameters(), lr=learning_rate, momentum=0.9, **FUSED)
    precondition(net, statistics)
    return train(net, images, optimizer, epochs, seed, report)


def initialize(net: nn.Module, statistics: list[LayerStatistics]) -> None:
    """Draw normal weights and biases in place, by the global torch generator, with the scales that `predict` says.

    Frozen parameters are drawn, too.
    """
    for layer in statistics:
        module = net.get_submodule(layer.name)
        nn.init.normal_(module.weight, std=layer.weight_std)
        if module.bias is not None:
            nn.init.normal_(module.bias, std=layer.bias_std)


def precondition(net: nn.Module, statistics: list[LayerStatistics]) -> Preconditioning:
    """Multiply each gradient by its factor, as it arrives at its parameter, until `remove()` is called."""
    handles = []
    for parameter, factor in zip(net.parameters(), preconditioner(net, statistics)):
        if parameter.requires_grad:
            handles.append(parameter.register_hook(partial(torch.mul, other=factor)))
    return Preconditioning(handles)


class Preconditioning:
    """The hooks of a network that is preconditioned."""

    def __init__(self, handles: list[RemovableHandle]) -> None:
        self.handles = handles

    def remove(self) -> None:
        """End the preconditioning."""
        for handle in self.handles:
            handle.remove()


def preconditioner(net: nn.Module, statistics: list[LayerStatistics]) -> list[float]:
    """Return a factor for the gradient by each parameter tensor, in the order of `net.parameters()`.

    It is the reciprocal of the gradient's a priori standard deviation for a standard normal gradient at the output.
    A loss has another gradient there. That it changes all tensors' gradients by the same factor, and so is the learning
    rate's affair, is an assumption; README.md says how far it holds.
    """
    return [1 / std for std in gradient_stds(net, statistics)]
