"""The one training loop, and the one evaluation, that all methods share."""
from __future__ import annotations

import copy
import math
import time
from dataclasses import dataclass
from typing import Callable, NamedTuple, Sequence

import numpy as np
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from util.data import Images, minibatches, scale
from util.signal_propagation import gradient_stds, predict_current

MINIBATCH = 4  # images, as in the tutorial
MOMENTUM = 0.9  # as in the tutorial
REPORT_EVERY = 2000  # steps, as in the tutorial
REFRESH_EVERY = 500  # steps
MEASURED_IMAGES = 500  # on which the gradients are measured


class Settings(NamedTuple):
    """What all trainings of a comparison have in common."""

    epochs: int  # passes through the images
    decay: bool  # whether the learning rate falls linearly to zero over the training
    input_moments: tuple[float, float]  # of the images, as `util.signal_propagation` shall assume them


@dataclass
class TrainingRun:
    """What one training left behind; the scales are root mean squares before training and after each epoch."""

    losses: np.ndarray  # (steps,) float32: the cross-entropy in nats before each step, up to one that is not finite
    weight_rms: np.ndarray  # (completed epochs + 1, layers) float64
    gradient_rms: np.ndarray  # (completed epochs + 1, parameter tensors) float64, see `measure_gradients`
    predicted_rms: np.ndarray  # the same as `predict_current` says
    steps_per_second: float  # of wall-clock time, the measurements after each epoch included
    test_loss: float = math.nan  # in nats; nan until it is evaluated
    test_accuracy: float = math.nan  # from 0 to 1

    @property
    def diverged(self) -> bool:
        """Whether the last training loss, or the loss on the test images, is not finite (or not known yet)."""
        return not (math.isfinite(self.losses[-1]) and math.isfinite(self.test_loss))


def train(net: nn.Module, images: Images, factors: Sequence[float], learning_rate: float, seed: int, settings: Settings,
          report: Callable[[str], None],
          refresh: Callable[[nn.Module], Sequence[float]] | None = None) -> TrainingRun:
    """Train a network in place by SGD with momentum on the cross-entropy.

    Args:
        net: a chain that `util.signal_propagation` covers, from (N, 3, 32, 32) images to (N, 10) logits.
        images: to train on.
        factors: the preconditioner, a factor for the gradient by each parameter tensor in the order of
            `net.parameters()`; if there are none, the gradients stay as they are.
        learning_rate: step size per minibatch, for gradients that have been multiplied by their factors.
        seed: of the order of the images; the same seed gives the same minibatches, whatever the network.
        settings: see there.
        report: takes a line of progress, "[epoch, minibatch] loss: mean since the last line".
        refresh: gives new factors for the network as it is, every `REFRESH_EVERY` steps.

    Returns:
        The record of the training, which ends early if a loss is not finite.
    """
    parameters = list(net.parameters())
    # The fused step does the same, faster. (The version is not compared as a string: torch gives it an order.)
    fused = {"fused": True} if torch.__version__ >= "2.4" else {}
    optimizer = torch.optim.SGD(parameters, lr=learning_rate, momentum=MOMENTUM, **fused)
    order = torch.Generator().manual_seed(seed)
    steps = settings.epochs * (len(images.labels) // MINIBATCH)
    report_every = min(REPORT_EVERY, math.ceil(steps / 10))
    losses: list[float] = []
    scales = [measure_scales(net, images, seed, settings.input_moments)]
    start = time.perf_counter()

    def record() -> TrainingRun:
        return TrainingRun(np.array(losses, dtype=np.float32), *map(np.array, zip(*scales)),
                           steps_per_second=len(losses) / (time.perf_counter() - start))

    for epoch in range(1, settings.epochs + 1):
        for step, (inputs, labels) in enumerate(minibatches(images, MINIBATCH, order), start=1):
            if refresh and losses and len(losses) % REFRESH_EVERY == 0:
                factors = refresh(net)
            if settings.decay:
                optimizer.param_groups[0]["lr"] = learning_rate * (1 - len(losses) / steps)
            loss = cross_entropy(net(inputs), labels)
            losses.append(loss.item())
            if not math.isfinite(losses[-1]):
                return record()
            optimizer.zero_grad()
            loss.backward()
            for parameter, factor in zip(parameters, factors):
                if parameter.grad is not None:  # which a frozen parameter has none of
                    parameter.grad.mul_(factor)
            optimizer.step()
            if len(losses) % report_every == 0:
                report(f"[{epoch}, {step:5}] loss: {np.mean(losses[-report_every:]):.3f}")
        scales.append(measure_scales(net, images, seed, settings.input_moments))
    return record()


def measure_scales(net: nn.Module, images: Images, seed: int,
                   input_moments: tuple[float, float]) -> tuple[list[float], np.ndarray, list[float]]:
    """Return one row each of a `TrainingRun`'s weight_rms, gradient_rms and predicted_rms, of the network as it is."""
    statistics = predict_current(net, input_moments=input_moments)
    return ([layer.weight_std for layer in statistics], measure_gradients(net, images, seed),
            gradient_stds(net, statistics))


def measure_gradients(net: nn.Module, images: Images, seed: int) -> np.ndarray:
    """Measure what `predict` and `predict_current` predict: the gradients for a standard normal gradient at the output.

    Args:
        images: of which `MEASURED_IMAGES` are drawn.
        seed: of this draw, and of the gradients at the output.

    Returns:
        (tensors,) float64, in the order of `net.parameters()`: the root mean square of a gradient's entries, for a
        single image.
    """
    net = copy.deepcopy(net).requires_grad_()  # so that frozen parameters count, too
    generator = torch.Generator().manual_seed(seed)
    chosen = torch.randperm(len(images.labels), generator=generator)[:MEASURED_IMAGES]
    squares = np.zeros(len(list(net.parameters())))
    for part in chosen.split(MINIBATCH):
        outputs = net(scale(images.pixels[part]))
        at_output = torch.randn(outputs.shape, generator=generator)
        # Since these are independent, the squares of the images' gradients add up, on average, when the gradients do.
        gradients = torch.autograd.grad(outputs, list(net.parameters()), at_output)
        squares += [gradient.square().mean().item() for gradient in gradients]
    return np.sqrt(squares / len(chosen))


def evaluate(net: nn.Module, images: Images) -> tuple[float, float]:
    """Return a network's mean cross-entropy (in nats) and its accuracy (from 0 to 1)."""
    with torch.no_grad():
        logits = torch.cat([net(scale(pixels)) for pixels in images.pixels.split(500)])
    return cross_entropy(logits, images.labels).item(), (logits.argmax(dim=1) == images.labels).float().mean().item()
