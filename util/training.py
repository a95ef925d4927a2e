"""The one training loop, and the one evaluation, that all methods share."""
from __future__ import annotations

import math
import time
from dataclasses import dataclass
from typing import Callable

import numpy as np
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from util.data import Images, minibatches, scale
from util.errors import DivergenceError

MINIBATCH = 4  # images, as in the tutorial
MOMENTUM = 0.9  # as in the tutorial
REPORT_EVERY = 2000  # minibatches, as in the tutorial


@dataclass(frozen=True)
class Run:
    """What one training left behind.

    losses: (steps,) float32, the cross-entropy (in nats) of each minibatch before the step that it causes.
    weight_std: for each weight layer by name, (epochs + 1,) floats: the standard deviation of its weights' entries
        before training and after each epoch.
    steps_per_second: optimizer steps per second of wall-clock time.
    """

    losses: np.ndarray
    weight_std: dict[str, list[float]]
    steps_per_second: float


def train(net: nn.Module, images: Images, learning_rate: float, epochs: int, seed: int,
          report: Callable[[str], None]) -> Run:
    """Train a network in place by SGD with momentum on the cross-entropy.

    Args:
        net: maps (N, 3, 32, 32) images to (N, 10) logits.
        learning_rate: step size per minibatch, for the gradients as backward() leaves them.
        epochs: passes through the images.
        seed: of the order of the images; the same seed gives the same minibatches, whatever the network.
        report: takes a line of progress, "[epoch, minibatch] loss: mean since the last line".

    Raises:
        DivergenceError: as soon as a loss is not finite.
    """
    optimizer = torch.optim.SGD(net.parameters(), lr=learning_rate, momentum=MOMENTUM)
    order = torch.Generator().manual_seed(seed)
    losses: list[float] = []
    weight_std = {name: [std] for name, std in weight_stds(net).items()}
    start = time.perf_counter()
    for epoch in range(1, epochs + 1):
        for step, (inputs, labels) in enumerate(minibatches(images, MINIBATCH, order), start=1):
            loss = cross_entropy(net(inputs), labels)
            losses.append(loss.item())
            if not math.isfinite(losses[-1]):
                raise DivergenceError(f"the loss became {losses[-1]} at step {step} of epoch {epoch}")
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            if step % REPORT_EVERY == 0:
                report(f"[{epoch}, {step:5}] loss: {np.mean(losses[-REPORT_EVERY:]):.3f}")
        for name, std in weight_stds(net).items():
            weight_std[name].append(std)
    return Run(np.array(losses, dtype=np.float32), weight_std, len(losses) / (time.perf_counter() - start))


def weight_stds(net: nn.Module) -> dict[str, float]:
    """Measure the standard deviation of the weights' entries in each weight layer, by the layer's name."""
    return {name: module.weight.detach().std().item()
            for name, module in net.named_modules() if isinstance(module, (nn.Conv2d, nn.Linear))}


def evaluate(net: nn.Module, images: Images) -> tuple[float, float]:
    """Return a network's mean cross-entropy (in nats) and its accuracy (from 0 to 1).

    Raises:
        DivergenceError: if the mean cross-entropy is not finite.
    """
    with torch.no_grad():
        logits = torch.cat([net(scale(pixels)) for pixels in images.pixels.split(500)])
    loss = cross_entropy(logits, images.labels).item()
    if not math.isfinite(loss):
        raise DivergenceError(f"the test loss is {loss}")
    return loss, (logits.argmax(dim=1) == images.labels).float().mean().item()
