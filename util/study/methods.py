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
from util.theory.initializations import Initialization, Variances, current, glorot, he, pytorch, variance_preserving
from util.theory.propagation import propagate
from util.theory.statistics import WEIGHT_LAYERS
from util.training import MINIBATCH

MEASURED_IMAGES = 500  # on which gradients are measured


# Each of these initializes a network in place, and returns the statistics of random networks of that kind.

def initialize_by_rule(net: nn.Module, rule: Initialization, images: Images) -> list[LayerStatistics]:
    """Draw normal weights and biases of the rule's variances."""
    statistics = predict_for(rule, net)
    initialize(net, statistics)
    return statistics


def initialize_for_images(net: nn.Module, rule: Initialization, images: Images) -> list[LayerStatistics]:
    """Do the same for inputs with the moments of the images."""
    statistics = predict_for(rule, net, input_moments=input_moments(scale(images.pixels)))
    initialize(net, statistics)
    return statistics


def initialize_by_kaiming(net: nn.Module, rule: Initialization, images: Images) -> list[LayerStatistics]:
    """Draw He's normal weights by PyTorch's own function; biases are zero."""
    for module in net.modules():
        if isinstance(module, WEIGHT_LAYERS):
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
            nn.init.zeros_(module.bias)
    return predict_for(rule, net)


def keep(net: nn.Module, rule: Initialization, images: Images) -> list[LayerStatistics]:
    """Keep the parameters that PyTorch drew."""
    return predict_current(net)


def keep_weights(net: nn.Module, rule: Initialization, images: Images) -> list[LayerStatistics]:
    """Keep the weights that PyTorch drew; biases are zero."""
    for module in net.modules():
        if isinstance(module, WEIGHT_LAYERS):
            nn.init.zeros_(module.bias)
    return predict_current(net)


def pytorch_zero_biases(layer: nn.Module, second_moment: float) -> Variances:
    """Weights of variance 1 / (3 fan-in), zero biases."""
    return pytorch(layer, second_moment)._replace(bias=0.0)


class Initializer(NamedTuple):
    """An initialization: its rule, its colour in all pictures, and the function that initializes a network by it."""

    rule: Initialization
    colour: str
    initialize: Callable[[nn.Module, Initialization, Images], list[LayerStatistics]] = initialize_by_rule


INITIALIZATIONS = {  # in colours that the colour-blind can tell apart (Okabe and Ito)
    "PyTorch": Initializer(pytorch, "black", keep),
    "PyTorch, zero biases": Initializer(pytorch_zero_biases, "#F0E442", keep_weights),
    "Glorot": Initializer(glorot, "#CC79A7"),
    "He": Initializer(he, "#009E73", initialize_by_kaiming),
    "variance-preserving": Initializer(variance_preserving(), "#0072B2"),
    "zero bias": Initializer(variance_preserving(0.0), "#56B4E9"),
    "fifth bias": Initializer(variance_preserving(0.2), "#E69F00"),
    "half bias": Initializer(variance_preserving(0.5), "#D55E00"),
    "for the images": Initializer(variance_preserving(), "0.6", initialize_for_images),
}


# Each of these prepares what happens to the gradients of a network with these statistics during training.

def plain(net: nn.Module, statistics: list[LayerStatistics], optimizer: torch.optim.Optimizer, images: Images,
          seed: int) -> None:
    """Do nothing."""


def use_fixed_factors(net: nn.Module, statistics: list[LayerStatistics], optimizer: torch.optim.Optimizer,
                      images: Images, seed: int) -> None:
    """Multiply gradients by factors that are computed once, as the demo does."""
    precondition(net, statistics)


def use_ratios_of_pytorch(net: nn.Module, statistics: list[LayerStatistics], optimizer: torch.optim.Optimizer,
                          images: Images, seed: int) -> None:
    """Multiply gradients by fixed factors that make them as unequal as PyTorch's initialization does.

    Between parameter tensors, their predicted standard deviations get the ratios that PyTorch's initialization has. The
    geometric mean of all factors is 1.
    """
    wanted = gradient_table(predict_for(pytorch, net))
    found = gradient_table(statistics)
    inverse = found / wanted  # of the factors, since `precondition` divides by standard deviations
    inverse /= np.exp(np.log(inverse).mean())
    precondition(net, [layer._replace(weight_gradient_std=weight, bias_gradient_std=bias)
                       for layer, (weight, bias) in zip(statistics, inverse.tolist())])


def gradient_table(statistics: list[LayerStatistics]) -> np.ndarray:
    """Return (layers, 2) standard deviations of the gradients with respect to weights and biases."""
    return np.array([[layer.weight_gradient_std, layer.bias_gradient_std] for layer in statistics])


Estimate = Callable[[nn.Module, Images, int], "list[LayerStatistics]"]


def renew_factors(estimate: Estimate, every: int, net: nn.Module, statistics: list[LayerStatistics],
                  optimizer: torch.optim.Optimizer, images: Images, seed: int) -> None:
    """Multiply gradients by factors that are estimated anew every `every` steps, for the network as it is then."""
    precondition(net, estimate(net, images, seed))
    steps = count(start=1)

    def renew(*_: object) -> None:
        if next(steps) % every == 0 and all(parameter.isfinite().all() for parameter in net.parameters()):
            precondition(net, estimate(net, images, seed))  # in place of the earlier factors

    optimizer.register_step_post_hook(renew)


def predict_by_theory(net: nn.Module, images: Images, seed: int) -> list[LayerStatistics]:
    """Predict the gradients' scales from the root mean squares of the parameters as they are."""
    return propagate(current, net)


def measure(net: nn.Module, images: Images, seed: int) -> list[LayerStatistics]:
    """Measure what `predict_current` predicts: root mean squares of parameters, and of gradients for one image.

    The gradient at the output is standard normal; the seed draws it, and `MEASURED_IMAGES` of the images. Correlations
    are not measured, they are NaN.
    """
    generator = torch.Generator().manual_seed(seed)
    chosen = torch.randperm(len(images.labels), generator=generator)[:MEASURED_IMAGES]
    # These copies have no hooks, so that their gradients are not multiplied by the factors.
    parameters = {name: parameter.detach().requires_grad_() for name, parameter in net.named_parameters()}
    squares = np.zeros(len(parameters))
    for part in chosen.split(MINIBATCH):
        outputs = functional_call(net, parameters, scale(images.pixels[part]))
        at_output = torch.randn(outputs.shape, generator=generator)
        # These are independent, so that the mean square of a sum of gradients is the sum of their mean squares.
        gradients = torch.autograd.grad(outputs, list(parameters.values()), at_output)
        squares += [gradient.square().mean().item() for gradient in gradients]
    gradient_stds = dict(zip(net.parameters(), np.sqrt(squares / len(chosen)).tolist()))
    layers = []
    for name, module in net.named_modules():
        if isinstance(module, WEIGHT_LAYERS):
            layers.append(LayerStatistics(
                name=name,
                weight_std=_root_mean_square(module.weight),
                bias_std=_root_mean_square(module.bias),
                weight_gradient_std=gradient_stds[module.weight],
                bias_gradient_std=gradient_stds[module.bias],
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
    "fixed factors": use_fixed_factors,
    "PyTorch's ratios": use_ratios_of_pytorch,
    "theory every 500 steps": partial(renew_factors, predict_by_theory, 500),
    "theory every 100 steps": partial(renew_factors, predict_by_theory, 100),
    "measured every 500 steps": partial(renew_factors, measure_nonzero, 500),
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
        initializer = INITIALIZATIONS[self.initialization]
        statistics = initializer.initialize(net, initializer.rule, images)
        optimizer = OPTIMIZERS[self.optimizer](net.parameters(), lr=learning_rate)
        prepare_gradient = GRADIENTS[self.gradient]
        prepare_gradient(net, statistics, optimizer, images, seed)
        return optimizer


METHODS = {
    "default": Method("PyTorch", "plain", "SGD"),
    "default-zero-bias": Method("PyTorch, zero biases", "plain", "SGD"),
    "he": Method("He", "plain", "SGD"),
    "initialization-only": Method("variance-preserving", "plain", "SGD"),
    "initialization-zero-bias": Method("zero bias", "plain", "SGD"),
    "initialization-fifth-bias": Method("fifth bias", "plain", "SGD"),
    "initialization-half-bias": Method("half bias", "plain", "SGD"),
    "unequal": Method("variance-preserving", "PyTorch's ratios", "SGD"),
    "preconditioned": Method("variance-preserving", "fixed factors", "SGD"),
    "preconditioned-zero-bias": Method("zero bias", "fixed factors", "SGD"),
    "preconditioned-fifth-bias": Method("fifth bias", "fixed factors", "SGD"),
    "preconditioned-half-bias": Method("half bias", "fixed factors", "SGD"),
    "preconditioner-only": Method("PyTorch", "fixed factors", "SGD"),
    "preconditioner-only-zero-bias": Method("PyTorch, zero biases", "fixed factors", "SGD"),
    "preconditioned-images": Method("for the images", "fixed factors", "SGD"),
    "dynamic": Method("variance-preserving", "theory every 500 steps", "SGD"),
    "dynamic-only": Method("PyTorch", "theory every 100 steps", "SGD"),
    "measured": Method("variance-preserving", "measured every 500 steps", "SGD"),
    "adam": Method("PyTorch", "plain", "Adam"),
    "initialization-adam": Method("variance-preserving", "plain", "Adam"),
}


def pairs() -> dict[str, str]:
    """Return for each method with fixed factors the one that differs in nothing but its plain gradients, if any."""
    alone = {method._replace(gradient="fixed factors"): name
             for name, method in METHODS.items() if method.gradient == "plain"}
    return {name: alone[method] for name, method in METHODS.items() if method in alone}


PAIRS = pairs()
