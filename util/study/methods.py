"""All methods that the study compares: an initialization, what is done to the gradient, and an optimizer."""
from __future__ import annotations

import math
from functools import partial
from itertools import count
from typing import Any, Callable, NamedTuple

import numpy as np
import torch
from torch import nn
from torch.func import functional_call

from util.data import Images, scale
from util.static_preconditioned_train import precondition
from util.theory import LayerStatistics, initialize, input_moments, predict_current, predict_for
from util.theory.initializations import Initialization, Variances, current, glorot, he, pytorch, variance_preserving
from util.theory.moments import WHITE_NOISE
from util.theory.propagation import propagate
from util.theory.statistics import WEIGHT_LAYERS
from util.training import MINIBATCH

MEASURED_IMAGES = 500  # on which gradients are measured


# Each of these initializes a network in place, and returns the statistics from which its factors are computed.

def initialize_by_rule(net: nn.Module, rule: Initialization, moments: tuple[float, float] = WHITE_NOISE,
                       **_: Any) -> list[LayerStatistics]:
    """Draw normal weights and biases of the rule's variances, for inputs with these moments."""
    statistics = predict_for(rule, net, input_moments=moments)
    initialize(net, statistics)
    return statistics


def initialize_for_images(net: nn.Module, rule: Initialization, images: Images) -> list[LayerStatistics]:
    """Do the same for inputs with the moments of the images."""
    return initialize_by_rule(net, rule, input_moments(scale(images.pixels)))


def initialize_by_kaiming(net: nn.Module, **_: Any) -> list[LayerStatistics]:
    """Draw He's normal weights by PyTorch's own function; biases are zero."""
    for module in net.modules():
        if isinstance(module, WEIGHT_LAYERS):
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
    return keep_weights(net)


def keep(net: nn.Module, **_: Any) -> list[LayerStatistics]:
    """Keep the parameters that PyTorch drew."""
    return predict_current(net)


def keep_weights(net: nn.Module, **_: Any) -> list[LayerStatistics]:
    """Keep the weights as they are; biases are zero."""
    for module in net.modules():
        if isinstance(module, WEIGHT_LAYERS):
            nn.init.zeros_(module.bias)
    return predict_current(net)


def pytorch_zero_biases(layer: nn.Module, second_moment: float) -> Variances:
    """Weights of variance 1 / (3 fan-in), zero biases."""
    return pytorch(layer, second_moment)._replace(bias=0.0)


class Initializer(NamedTuple):
    """An initialization: its rule, and the function that initializes a network by it."""

    rule: Initialization
    initialize: Callable[..., list[LayerStatistics]] = initialize_by_rule


INITIALIZATIONS = {
    "PyTorch": Initializer(pytorch, keep),
    "PyTorch, zero biases": Initializer(pytorch_zero_biases, keep_weights),
    "Glorot": Initializer(glorot),
    "He": Initializer(he, initialize_by_kaiming),
    "variance-preserving": Initializer(variance_preserving()),
    "zero bias": Initializer(variance_preserving(0.0)),
    "fifth bias": Initializer(variance_preserving(0.2)),
    "half bias": Initializer(variance_preserving(0.5)),
    "for the images": Initializer(variance_preserving(), initialize_for_images),
}


# Each of these prepares what happens to the gradients of a network with these statistics during training.

def plain(**_: Any) -> None:
    """Do nothing."""


def use_fixed_factors(net: nn.Module, statistics: list[LayerStatistics], **_: Any) -> None:
    """Multiply gradients by factors that are computed once, as the demo does."""
    precondition(net, statistics)


def use_ratios_of_pytorch(net: nn.Module, statistics: list[LayerStatistics], **_: Any) -> None:
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


def renew_factors(estimate: Callable[..., list[LayerStatistics]], every: int, net: nn.Module,
                  optimizer: torch.optim.Optimizer, images: Images, seed: int, **_: Any) -> None:
    """Multiply gradients by factors that are estimated anew every `every` steps, for the network as it is then."""
    precondition(net, estimate(net, images=images, seed=seed))
    steps = count(start=1)

    def renew(*_: object) -> None:
        if next(steps) % every == 0 and all(parameter.isfinite().all() for parameter in net.parameters()):
            precondition(net, estimate(net, images=images, seed=seed))  # in place of the earlier factors

    optimizer.register_step_post_hook(renew)


def predict_by_theory(net: nn.Module, **_: Any) -> list[LayerStatistics]:
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
            weight, bias = module.weight, module.bias
            stds = _root_mean_square(weight), _root_mean_square(bias), gradient_stds[weight], gradient_stds[bias]
            layers.append(LayerStatistics(name, *stds, correlation=math.nan))
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
        rule, initialize_net = INITIALIZATIONS[self.initialization]
        statistics = initialize_net(net, rule=rule, images=images)
        optimizer = OPTIMIZERS[self.optimizer](net.parameters(), lr=learning_rate)
        prepare_gradient = GRADIENTS[self.gradient]
        prepare_gradient(net=net, statistics=statistics, optimizer=optimizer, images=images, seed=seed)
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
# by a method with fixed factors, the name of the one that differs in nothing but its plain gradients
PLAIN = {method._replace(gradient="fixed factors"): name for name, method in METHODS.items()
         if method.gradient == "plain"}
