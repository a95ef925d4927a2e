"""The one training loop, and the one evaluation, that all methods share."""
from __future__ import annotations

import math
from typing import Callable, NamedTuple

import numpy as np
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from util.data import Images, minibatches, scale

MINIBATCH = 4  # images, as in the tutorial
REPORT_EVERY = 2000  # steps, counted from each epoch's start, as in the tutorial


class Training(NamedTuple):
    """A method by its name, the function that trains by it (see `util.default_train`), and its learning rate."""

    method: str
    train: Callable[..., np.ndarray]
    learning_rate: float

    def __str__(self) -> str:
        return f"{self.method}, learning rate {self.learning_rate}"


class Result(NamedTuple):
    """What came out of a training."""

    losses: np.ndarray  # (steps,) float32: the cross-entropy in nats before each step, up to one that is not finite
    test_loss: float  # in nats
    test_accuracy: float  # from 0 to 1

    @property
    def diverged(self) -> bool:
        """Whether the last training loss, or the test loss, is not finite."""
        return not (math.isfinite(self.losses[-1]) and math.isfinite(self.test_loss))


def train(net: nn.Module, images: Images, optimizer: torch.optim.Optimizer, epochs: int, seed: int,
          report: Callable[[str], None] = print) -> np.ndarray:
    """Train a network in place on the cross-entropy.

    Args:
        net: maps (MINIBATCH, 3, 32, 32) scaled images to (MINIBATCH, 10) logits.
        images: all that it is trained on; a step takes MINIBATCH of them.
        optimizer: of the network's parameters; its hooks do what else is to happen before or after a step.
        epochs: passes through the images.
        seed: of the order of the images; the same seed gives the same minibatches, whatever the network.
        report: takes a line of progress, "[epoch, step] loss: mean since the last line of the epoch".

    Returns:
        (steps,) float32, the loss in nats before each step. Training ends with the first loss that is not finite.
    """
    net.train()
    order = torch.Generator().manual_seed(seed)
    report_every = min(REPORT_EVERY, len(images.labels) // MINIBATCH)
    losses: list[float] = []
    for epoch in range(1, epochs + 1):
        for step, (inputs, labels) in enumerate(minibatches(images, MINIBATCH, order), start=1):
            optimizer.zero_grad()
            loss = cross_entropy(net(inputs), labels)
            losses.append(loss.item())
            if not math.isfinite(losses[-1]):
                return np.array(losses, dtype=np.float32)
            loss.backward()
            optimizer.step()
            if step % report_every == 0:
                mean = np.mean(losses[-report_every:])
                report(f"[{epoch}, {step:5}] loss: {mean:.3f}")
    return np.array(losses, dtype=np.float32)


def evaluate(net: nn.Module, images: Images) -> tuple[float, float]:
    """Return a network's mean cross-entropy (in nats) and its accuracy (from 0 to 1), in evaluation mode."""
    mode = net.training
    net.eval()
    with torch.no_grad():
        logits = torch.cat([net(scale(pixels)) for pixels in images.pixels.split(500)])
    net.train(mode)
    correct = logits.argmax(dim=1) == images.labels
    return cross_entropy(logits, images.labels).item(), correct.float().mean().item()
