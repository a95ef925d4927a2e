"""All methods that the study compares: an initialization, what is done to the gradient, and an optimizer."""
from __future__ import annotations

import math
from functools import partial
from itertools import count
from typing import Callable, NamedTuple

import numpy as np
import torch
from torch import nn
from torch.func import functional_call

from util.data import Images, scale
from util.static_preconditioned_train import precondition
from util.theory import LayerStatistics, initialize, input_moments, predict_current, predict_for
from util.theory.initializations import Initialization, glorot, he, pytorch, variance_preserving
from util.training import MINIBATCH

MEASURED_IMAGES = 500  # on which gradients are measured


# How parameters are drawn, in place. Each function returns the statistics of the random networks that this is one of.

def draw(net: nn.Module, rule: Initialization, images: Images) -> list[LayerStatistics]:
    """Draw normal weights and biases of the rule's variances."""
    statistics = predict_for(rule, net)
    initialize(net, statistics)
    return statistics


def draw_for_images(net: nn.Module, rule: Initialization, images: Images) -> list[LayerStatistics]:
    """Do the same by a theory that is told the images' moments instead of standard normal ones."""
    statistics = predict_for(rule, net, input_moments=input_moments(scale(images.pixels)))
    initialize(net, statistics)
    return statistics


def draw_kaiming(net: nn.Module, rule: Initialization, images: Images) -> list[LayerStatistics]:
    """Draw He's normal weights by PyTorch's own function; biases are zero."""
    for module in net.modules():
        if isinstance(module, (nn.Conv2d, nn.Linear)):
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
            nn.init.zeros_(module.bias)
    return predict_for(rule, net)


def leave(net: nn.Module, rule: Initialization, images: Images) -> list[LayerStatistics]:
    """Leave the parameters as PyTorch drew them."""
    return predict_current(net)


class Start(NamedTuple):
    """An initialization: its rule, its colour in all pictures, and how parameters are drawn by it."""

    rule: Initialization
    colour: str
    draw: Callable[[nn.Module, Initialization, Images], list[LayerStatistics]] = draw


INITIALIZATIONS = {  # in colours that the colour-blind can tell apart (Okabe and Ito)
    "PyTorch": Start(pytorch, "black", leave),
    "Glorot": Start(glorot, "#CC79A7"),
    "He": Start(he, "#009E73", draw_kaiming),
    "variance-preserving": Start(variance_preserving(), "#0072B2"),
    "zero bias": Start(variance_preserving(0.0), "#56B4E9"),
    "fifth bias": Start(variance_preserving(0.2), "#E69F00"),
    "half bias": Start(variance_preserving(0.5), "#D55E00"),
    "for the images": Start(variance_preserving(), "0.6", draw_for_images),
}


# What is done to the gradient of a network that was drawn with these statistics, in training with an optimizer.

def plain(net: nn.Module, statistics: list[LayerStatistics], optimizer: torch.optim.Optimizer, images: Images,
          seed: int) -> None:
    """Leave the gradient as it is."""


def static(net: nn.Module, statistics: list[LayerStatistics], optimizer: torch.optim.Optimizer, images: Images,
           seed: int) -> None:
    """Multiply it by factors that are computed once, as the demo does."""
    precondition(net, statistics)


Estimate = Callable[[nn.Module, Images, int], "list[LayerStatistics]"]


def refreshed(estimate: Estimate, every: int, net: nn.Module, statistics: list[LayerStatistics],
              optimizer: torch.optim.Optimizer, images: Images, seed: int) -> None:
    """Multiply it by factors that are estimated anew after every so many steps, for the network as it is."""
    precondition(net, estimate(net, images, seed))
    steps = count(start=1)

    def refresh(*_: object) -> None:
        if next(steps) % every == 0 and all(parameter.isfinite().all() for parameter in net.parameters()):
            precondition(net, estimate(net, images, seed))  # in place of the earlier factors

    optimizer.register_step_post_hook(refresh)


def predict_by_theory(net: nn.Module, images: Images, seed: int) -> list[LayerStatistics]:
    """Predict the gradients' scales from the root mean squares of the parameters as they are."""
    return predict_current(net)


def measure(net: nn.Module, images: Images, seed: int) -> list[LayerStatistics]:
    """Measure what `predict_current` predicts, root mean squares of parameters and of one image's gradients by them.

    The gradient at the output is standard normal; the seed draws it, and `MEASURED_IMAGES` of the images. The network
    is set to training. Correlations are not measured, they are NaN.
    """
    net.train()
    generator = torch.Generator().manual_seed(seed)
    chosen = torch.randperm(len(images.labels), generator=generator)[:MEASURED_IMAGES]
    # Gradients by these are not multiplied by the factors, whose hooks are the network's own parameters'.
    parameters = {name: parameter.detach().requires_grad_() for name, parameter in net.named_parameters()}
    squares = np.zeros(len(parameters))
    for part in chosen.split(MINIBATCH):
        outputs = functional_call(net, parameters, scale(images.pixels[part]))
        at_output = torch.randn(outputs.shape, generator=generator)
        # Since these are independent, the squares of the images' gradients add up, on average, when the gradients do.
        gradients = torch.autograd.grad(outputs, list(parameters.values()), at_output)
        squares += [gradient.square().mean().item() for gradient in gradients]
    gradient_stds = dict(zip(parameters, np.sqrt(squares / len(chosen)).tolist()))
    layers = []
    for name, module in net.named_modules():
        if isinstance(module, (nn.Conv2d, nn.Linear)):
            layers.append(LayerStatistics(
                name=name,
                weight_std=_root_mean_square(module.weight),
                bias_std=_root_mean_square(module.bias),
                weight_gradient_std=gradient_stds[f"{name}.weight"],
                bias_gradient_std=gradient_stds[f"{name}.bias"],
                correlation=math.nan))
    return layers


def measure_nonzero(net: nn.Module, images: Images, seed: int) -> list[LayerStatistics]:
    """Measure the same; a gradient that is zero counts as one of scale 1, since no factor changes it."""
    return [layer._replace(weight_gradient_std=layer.weight_gradient_std or 1.0,
                           bias_gradient_std=layer.bias_gradient_std or 1.0)
            for layer in measure(net, images, seed)]


def _root_mean_square(parameter: torch.Tensor) -> float:
    return parameter.detach().double().square().mean().sqrt().item()


GRADIENTS = {
    "plain": plain,
    "fixed factors": static,
    "theory every 500 steps": partial(refreshed, predict_by_theory, 500),
    "theory every 100 steps": partial(refreshed, predict_by_theory, 100),
    "measured every 500 steps": partial(refreshed, measure_nonzero, 500),
}
OPTIMIZERS = {
    "SGD": partial(torch.optim.SGD, momentum=0.9, fused=True),
    "Adam": partial(torch.optim.Adam, fused=True),
}


class Method(NamedTuple):
    """How a network is trained."""

    initialization: str  # one of INITIALIZATIONS
    gradient: str  # one of GRADIENTS
    optimizer: str  # one of OPTIMIZERS

    def begin(self, net: nn.Module, images: Images, learning_rate: float, seed: int) -> torch.optim.Optimizer:
        """Initialize a network in place, and return the optimizer that trains it by this method."""
        start = INITIALIZATIONS[self.initialization]
        statistics = start.draw(net, start.rule, images)
        optimizer = OPTIMIZERS[self.optimizer](net.parameters(), lr=learning_rate)
        prepare_gradient = GRADIENTS[self.gradient]
        prepare_gradient(net, statistics, optimizer, images, seed)
        return optimizer


METHODS = {
    "default": Method("PyTorch", "plain", "SGD"),
    "he": Method("He", "plain", "SGD"),
    "initialization-only": Method("variance-preserving", "plain", "SGD"),
    "initialization-zero-bias": Method("zero bias", "plain", "SGD"),
    "initialization-fifth-bias": Method("fifth bias", "plain", "SGD"),
    "initialization-half-bias": Method("half bias", "plain", "SGD"),
    "preconditioned": Method("variance-preserving", "fixed factors", "SGD"),
    "preconditioned-zero-bias": Method("zero bias", "fixed factors", "SGD"),
    "preconditioned-fifth-bias": Method("fifth bias", "fixed factors", "SGD"),
    "preconditioned-half-bias": Method("half bias", "fixed factors", "SGD"),
    "preconditioner-only": Method("PyTorch", "fixed factors", "SGD"),
    "preconditioned-images": Method("for the images", "fixed factors", "SGD"),
    "dynamic": Method("variance-preserving", "theory every 500 steps", "SGD"),
    "dynamic-only": Method("PyTorch", "theory every 100 steps", "SGD"),
    "measured": Method("variance-preserving", "measured every 500 steps", "SGD"),
    "adam": Method("PyTorch", "plain", "Adam"),
    "initialization-adam": Method("variance-preserving", "plain", "Adam"),
}


def pairs() -> dict[str, str]:
    """Return for each method with fixed factors the one that differs in nothing but its plain gradients, if any."""
    names = {method: name for name, method in METHODS.items()}
    found = {}
    for method, name in names.items():
        plain_one = names.get(method._replace(gradient="plain"))
        if method.gradient == "fixed factors" and plain_one:
            found[name] = plain_one
    return found


PAIRS = pairs()
