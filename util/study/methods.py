"""All methods that the study compares: an initialization, what is done to the gradient, and an optimizer."""
from __future__ import annotations

from functools import partial
from itertools import count
from typing import Callable, NamedTuple

import numpy as np
import torch
from torch import nn

from util.data import Images, scale
from util.signal_propagation import LayerStatistics, input_moments, predict, predict_current
from util.static_preconditioned_train import initialize, precondition
from util.training import FUSED, MINIBATCH

REFRESH_EVERY = 500  # steps
MEASURED_IMAGES = 500  # on which gradients are measured
SGD = partial(torch.optim.SGD, momentum=0.9, **FUSED)
ADAM = partial(torch.optim.Adam, **FUSED)


# Initializations change the network in place, and return the statistics of the random networks that it is now one of.

def pytorch(net: nn.Module, images: Images) -> list[LayerStatistics]:
    """Leave the network as PyTorch made it."""
    return predict_current(net)


def he(net: nn.Module, images: Images) -> list[LayerStatistics]:
    """Draw normal weights of the variance 2 / fan-in; biases are zero (He et al., 2015)."""
    for module in net.modules():
        if isinstance(module, (nn.Conv2d, nn.Linear)):
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
            nn.init.zeros_(module.bias)
    return predict_current(net)


def variance_preserving(net: nn.Module, images: Images, bias_variance: float = 0.04) -> list[LayerStatistics]:
    """Initialize as the demo does, with biases that carry a share of the pre-activations' variance."""
    statistics = predict(net, bias_variance=bias_variance)
    initialize(net, statistics)
    return statistics


def for_images(net: nn.Module, images: Images) -> list[LayerStatistics]:
    """Initialize by a theory that is told the images' moments instead of standard normal ones."""
    statistics = predict(net, input_moments=input_moments(scale(images.pixels)))
    initialize(net, statistics)
    return statistics


zero_bias = partial(variance_preserving, bias_variance=0.0)
half_bias = partial(variance_preserving, bias_variance=0.5)


# What is done to the gradient is done by hooks of the optimizer.

def plain(optimizer: torch.optim.Optimizer, net: nn.Module, statistics: list[LayerStatistics], images: Images,
          seed: int) -> None:
    """Leave the gradient as it is."""


def static(optimizer: torch.optim.Optimizer, net: nn.Module, statistics: list[LayerStatistics], images: Images,
           seed: int) -> None:
    """Multiply it by factors that are computed once, as the demo does."""
    precondition(optimizer, net, statistics)


def refreshed(estimate: Callable[[nn.Module, Images, int], list[LayerStatistics]], optimizer: torch.optim.Optimizer,
              net: nn.Module, statistics: list[LayerStatistics], images: Images, seed: int) -> None:
    """Multiply it by factors that are estimated anew every `REFRESH_EVERY` steps, for the network as it is."""
    handle = precondition(optimizer, net, estimate(net, images, seed))
    steps = count(start=1)

    def refresh(*_: object) -> None:
        nonlocal handle
        if next(steps) % REFRESH_EVERY == 0 and all(parameter.isfinite().all() for parameter in net.parameters()):
            handle.remove()
            handle = precondition(optimizer, net, estimate(net, images, seed))

    optimizer.register_step_post_hook(refresh)


def predict_by_theory(net: nn.Module, images: Images, seed: int) -> list[LayerStatistics]:
    """Predict the gradients' scales from the root mean squares of the parameters as they are."""
    return predict_current(net)


def measure(net: nn.Module, images: Images, seed: int) -> list[LayerStatistics]:
    """Measure what `predict_current` predicts, root mean squares of parameters and of one image's gradients by them.

    The gradient at the output is standard normal; the seed draws it, and `MEASURED_IMAGES` of the images.
    """
    generator = torch.Generator().manual_seed(seed)
    chosen = torch.randperm(len(images.labels), generator=generator)[:MEASURED_IMAGES]
    parameters = list(net.parameters())
    squares = np.zeros(len(parameters))
    for part in chosen.split(MINIBATCH):
        outputs = net(scale(images.pixels[part]))
        at_output = torch.randn(outputs.shape, generator=generator)
        # Since these are independent, the squares of the images' gradients add up, on average, when the gradients do.
        gradients = torch.autograd.grad(outputs, parameters, at_output)
        squares += [gradient.square().mean().item() for gradient in gradients]
    gradient_stds = dict(zip(parameters, np.sqrt(squares / len(chosen)).tolist()))
    layers = []
    for name, module in net.named_children():
        if isinstance(module, (nn.Conv2d, nn.Linear)):
            layers.append(LayerStatistics(
                name=name,
                weight_std=_root_mean_square(module.weight),
                bias_std=_root_mean_square(module.bias),
                weight_gradient_std=gradient_stds[module.weight],
                bias_gradient_std=gradient_stds[module.bias]))
    return layers


def measure_nonzero(net: nn.Module, images: Images, seed: int) -> list[LayerStatistics]:
    """Measure the same; a gradient that is zero counts as one of scale 1, since no factor changes it."""
    return [layer._replace(weight_gradient_std=layer.weight_gradient_std or 1.0,
                           bias_gradient_std=layer.bias_gradient_std or 1.0)
            for layer in measure(net, images, seed)]


def _root_mean_square(parameter: torch.Tensor) -> float:
    return parameter.detach().double().square().mean().sqrt().item()


by_theory = partial(refreshed, predict_by_theory)
by_measurement = partial(refreshed, measure_nonzero)


class Method(NamedTuple):
    """How a network is trained."""

    initialize: Callable[[nn.Module, Images], list[LayerStatistics]]
    precondition: Callable[..., None]
    optimizer: Callable[..., torch.optim.Optimizer]


METHODS = {
    "default": Method(pytorch, plain, SGD),
    "he": Method(he, plain, SGD),
    "initialization-only": Method(variance_preserving, plain, SGD),
    "initialization-zero-bias": Method(zero_bias, plain, SGD),
    "initialization-half-bias": Method(half_bias, plain, SGD),
    "preconditioned": Method(variance_preserving, static, SGD),
    "preconditioned-zero-bias": Method(zero_bias, static, SGD),
    "preconditioned-half-bias": Method(half_bias, static, SGD),
    "preconditioner-only": Method(pytorch, static, SGD),
    "preconditioned-images": Method(for_images, static, SGD),
    "dynamic": Method(variance_preserving, by_theory, SGD),
    "measured": Method(variance_preserving, by_measurement, SGD),
    "adam": Method(pytorch, plain, ADAM),
    "initialization-adam": Method(variance_preserving, plain, ADAM),
}
