"""The preconditioned way: an initialization that keeps signals at scale, and gradients times static factors."""
from __future__ import annotations

from typing import Any, Callable

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
    precondition(optimizer, net, statistics)
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


def precondition(optimizer: torch.optim.Optimizer, net: nn.Module,
                 statistics: list[LayerStatistics]) -> RemovableHandle:
    """Let an optimizer multiply each gradient by its factor before every step.

    It stays multiplied: another step needs new gradients, as after `zero_grad()`. What is done to gradients between
    `backward()` and the step, such as clipping, is done to the plain ones. Optimizers that divide gradients by their
    own size, such as Adam, undo the factors.

    Args:
        optimizer: of all or some of the network's parameters, in groups and an order of its own. Gradients that are
            None, and those of parameters that are not the network's, are left alone.
        net: the network that `statistics` were computed for.
        statistics: of its layers, by `predict` or `predict_current`.

    Returns:
        The handle of the step pre-hook; `handle.remove()` ends the preconditioning.

    Raises:
        ValueError: if the statistics are of another network, or if the optimizer has none of its parameters; later, by
            a step with a closure, which computes the gradients only after the hook.
    """
    factors = dict(zip(net.parameters(), preconditioner(net, statistics)))
    if not any(parameter in factors for group in optimizer.param_groups for parameter in group["params"]):
        raise ValueError("the optimizer has none of the network's parameters")

    def multiply_gradients(optimizer: torch.optim.Optimizer, args: Any, kwargs: Any) -> None:
        if any(map(callable, [*args, *kwargs.values()])):
            raise ValueError("a step with a closure cannot be preconditioned, since it computes the gradients itself")
        for group in optimizer.param_groups:
            for parameter in group["params"]:
                if parameter in factors and parameter.grad is not None:
                    parameter.grad.mul_(factors[parameter])

    return optimizer.register_step_pre_hook(multiply_gradients)


def preconditioner(net: nn.Module, statistics: list[LayerStatistics]) -> list[float]:
    """Return a factor for the gradient by each parameter tensor, in the order of `net.parameters()`.

    It is the reciprocal of the gradient's a priori standard deviation for a standard normal gradient at the output.
    A loss has another gradient there. That it changes all tensors' gradients by the same factor, and so is the learning
    rate's affair, is an assumption; README.md says how far it holds.
    """
    return [1 / std for std in gradient_stds(net, statistics)]
