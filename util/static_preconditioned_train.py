"""The preconditioned way: an initialization that keeps signals at scale, and gradients times static factors."""
from __future__ import annotations

from functools import partial
from typing import Callable

import numpy as np
import torch
from scipy.stats import chi2
from torch import nn
from torch.utils.hooks import RemovableHandle

from util.data import Images
from util.network import Net
from util.theory import LayerStatistics, gradient_stds, initialize, predict
from util.training import train


def static_preconditioned_train(net: Net, images: Images, learning_rate: float, epochs: int, seed: int,
                                report: Callable[[str], None] = print) -> np.ndarray:
    """Initialize a network and train it with multiplied gradients; takes and returns what `default_train` does."""
    statistics = predict(net)
    initialize(net, statistics)
    handle = precondition(net, statistics)
    optimizer = torch.optim.SGD(net.parameters(), lr=learning_rate, momentum=0.9, fused=True)
    losses = train(net, images, optimizer, epochs, seed, report)
    handle.remove()
    return losses


def precondition(net: nn.Module, statistics: list[LayerStatistics]) -> Preconditioning:
    """Multiply the gradient by each parameter tensor by a fixed factor, as it arrives there.

    It needs no optimizer: `backward()` leaves multiplied gradients, whoever takes the step. So clipping between
    `backward()` and the step sees multiplied gradients, and so does `torch.autograd.grad`; remove the handle to measure
    plain ones. Weight decay, which an optimizer adds within its step, is not multiplied. Adam and its like divide
    gradients by their own size and so undo the factors. A second call takes the place of the first.

    Args:
        net: the network that `statistics` were computed for. Parameters that are frozen at the time of the call are
            left alone, and so are copies of the network.
        statistics: of its layers, by `predict` after `initialize`, or by `predict_current`.

    Returns:
        A handle, whose `remove()` ends the preconditioning.

    Raises:
        ValueError: if the statistics are of another network, or of other scales of the weights than it has.
    """
    factors = preconditioner(net, statistics)
    for layer in statistics:
        _check_scale(layer, net.get_submodule(layer.name).weight)
    handles = []
    for parameter, factor in zip(net.parameters(), factors):
        _remove_earlier(parameter)
        if parameter.requires_grad:
            hook = Multiplication(torch.mul, torch.tensor(factor, dtype=torch.float64))
            hook.handle = parameter.register_hook(hook)
            handles.append(hook.handle)
    return Preconditioning(handles)


class Multiplication(partial):
    """A hook that multiplies by a factor: as a tensor, and without Python code of its own, it costs the least time."""

    handle: RemovableHandle


def _remove_earlier(parameter: nn.Parameter) -> None:
    hooks = list((parameter._backward_hooks or {}).values())  # which have no public name
    for hook in hooks:
        if isinstance(hook, Multiplication):
            hook.handle.remove()


class Preconditioning:
    """The hooks of all parameters of a network, by their handles."""

    def __init__(self, handles: list[RemovableHandle]) -> None:
        self.handles = handles

    def remove(self) -> None:
        """End the preconditioning: gradients that arrive later are plain."""
        for handle in self.handles:
            handle.remove()


def _check_scale(layer: LayerStatistics, weight: nn.Parameter) -> None:
    """Refuse statistics of other weights: no random draw is that far from its mean square, by a factor of 1.5."""
    squares = (weight.detach().double() / layer.weight_std).square().sum().item()
    low, high = chi2.interval(1 - 1e-9, weight.numel())
    if not low / 1.5 < squares < 1.5 * high:
        raise ValueError(f"the weights of '{layer.name}' have another scale than the statistics say; call initialize "
                         "before precondition, or take the statistics from predict_current")


def preconditioner(net: nn.Module, statistics: list[LayerStatistics]) -> list[float]:
    """Return a factor for the gradient by each parameter tensor, in the order of `net.parameters()`.

    It is the reciprocal of the gradient's a priori standard deviation for a standard normal gradient at the output.
    A loss has another gradient there. That it changes all tensors' gradients by the same factor, and so is the learning
    rate's affair, is an assumption; README.md says how far it holds.
    """
    return [1 / std for std in gradient_stds(net, statistics)]
