"""All methods that the study compares, and what it measures; they take and return what `util.training.train` does."""
from __future__ import annotations

from functools import partial
from typing import Any, Callable

import numpy as np
import torch
from torch import nn

from util.data import Images, scale
from util.default_train import default_train
from util.signal_propagation import gradient_stds, predict, predict_current
from util.static_preconditioned_train import initialize, preconditioner, static_preconditioned_train
from util.training import FUSED, MINIBATCH, train

REFRESH_EVERY = 500  # steps
MEASURED_IMAGES = 500  # on which gradients are measured
ADAM = partial(torch.optim.Adam, **FUSED)


def initialization_only(net: nn.Module, *arguments: Any, **options: Any) -> np.ndarray:
    """Train with plain gradients from the variance-preserving initialization."""
    initialize(net, predict(net))
    return train(net, *arguments, **options)


def preconditioner_only(net: nn.Module, *arguments: Any, **options: Any) -> np.ndarray:
    """Train with static factors for PyTorch's initialization, as it was drawn."""
    return train(net, *arguments, factors=preconditioner(net, predict_current(net)), **options)


def preconditioned_images(net: nn.Module, images: Images, *arguments: Any, **options: Any) -> np.ndarray:
    """Train as the demo does, with a theory that is told the images' moments instead of standard normal ones."""
    statistics = predict(net, input_moments=input_moments(images))
    initialize(net, statistics)
    return train(net, images, *arguments, factors=preconditioner(net, statistics), **options)


def refreshed(factors: Callable[..., np.ndarray], combine: Callable[..., np.ndarray]) -> Callable[..., np.ndarray]:
    """Return a method with the demo's initialization, and factors that are refreshed every `REFRESH_EVERY` steps.

    `factors` gives them for the network as it is; `combine` makes them of the demo's, those at the start, and of now.
    """
    def method(net: nn.Module, images: Images, learning_rate: float, epochs: int, seed: int, *,
               hook: Callable[..., Any], **options: Any) -> np.ndarray:
        statistics = predict(net)
        initialize(net, statistics)
        static, start = np.array(preconditioner(net, statistics)), factors(net, images, seed)

        def refresh(steps: int, optimizer: torch.optim.Optimizer) -> list[float] | None:
            hook(steps, optimizer)
            due = steps % REFRESH_EVERY == 0
            return combine(static, start, factors(net, images, seed)).tolist() if due else None

        return train(net, images, learning_rate, epochs, seed, hook=refresh, **options)
    return method


def common_change(start: np.ndarray, now: np.ndarray) -> float:
    """Return the geometric mean of the ratios of factors."""
    return float(np.exp(np.log(now / start).mean()))


def _predicted(net: nn.Module, images: Images, seed: int) -> np.ndarray:
    return np.array(preconditioner(net, predict_current(net)))


METHODS = {
    "default": default_train,
    "preconditioned": static_preconditioned_train,
    "initialization-only": initialization_only,
    "preconditioner-only": preconditioner_only,
    "preconditioned-images": preconditioned_images,
    "dynamic": refreshed(_predicted, lambda static, start, now: now),
    "dynamic-scale": refreshed(_predicted, lambda static, start, now: start * common_change(start, now)),
    "dynamic-proportions": refreshed(_predicted, lambda static, start, now: now / common_change(start, now)),
    "measured": refreshed(lambda *state: 1 / measure_gradients(*state), lambda static, start, now: now),
    "measured-scale": refreshed(lambda *state: 1 / measure_gradients(*state),
                                lambda static, start, now: static * common_change(start, now)),
    "adam": partial(train, optimizer_type=ADAM),
    "initialization-adam": partial(initialization_only, optimizer_type=ADAM),
}


def input_moments(images: Images) -> tuple[float, float]:
    """Measure the second moment of scaled pixels, and the mean product of two neighbours in a channel."""
    sums = np.zeros(2)
    for pixels in images.pixels.split(100):
        x = scale(pixels).double()
        neighbours = (x[..., 1:] * x[..., :-1]).mean() + (x[..., 1:, :] * x[..., :-1, :]).mean()
        sums += len(pixels) * np.array([x.square().mean().item(), neighbours.item() / 2])
    return tuple((sums / len(images.labels)).tolist())


def measure_gradients(net: nn.Module, images: Images, seed: int) -> np.ndarray:
    """Measure what the theory predicts, (tensors,) root mean squares of an image's gradients; the seed draws."""
    generator = torch.Generator().manual_seed(seed)
    chosen = torch.randperm(len(images.labels), generator=generator)[:MEASURED_IMAGES]
    parameters, squares = list(net.parameters()), 0
    for part in chosen.split(MINIBATCH):
        outputs = net(scale(images.pixels[part]))
        at_output = torch.randn(outputs.shape, generator=generator)
        # Since these are independent, the squares of the images' gradients add up, on average, when the gradients do.
        gradients = torch.autograd.grad(outputs, parameters, at_output)
        squares += np.array([gradient.square().mean().item() for gradient in gradients])
    return np.sqrt(squares / len(chosen))


def measure_scales(net: nn.Module, images: Images, seed: int) -> np.ndarray:
    """Return (3, tensors) root mean squares: of parameters, and of gradients, measured and by the theory."""
    parameters = [parameter.detach().double().square().mean().sqrt().item() for parameter in net.parameters()]
    return np.array([parameters, measure_gradients(net, images, seed), gradient_stds(net, predict_current(net))])
