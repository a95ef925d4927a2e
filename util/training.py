"""The one training loop, and the one evaluation, that all methods share."""
from __future__ import annotations

import math
from functools import partial
from typing import Callable, Sequence

import numpy as np
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from util.data import Images, minibatches, scale

MINIBATCH = 4  # images, as in the tutorial
REPORT_EVERY = 2000  # steps, as in the tutorial
FUSED = {"fused": True} if torch.__version__ >= (2, 4) else {}  # the same steps, faster
SGD = partial(torch.optim.SGD, momentum=0.9, **FUSED)  # as in the tutorial


def train(net: nn.Module, images: Images, learning_rate: float, epochs: int, seed: int, *,
          factors: Sequence[float] = (), report: Callable[[str], None] = print,
          hook: Callable[[int, torch.optim.Optimizer], Sequence[float] | None] = lambda steps, optimizer: None,
          optimizer_type: Callable[..., torch.optim.Optimizer] = SGD) -> np.ndarray:
    """Train a network in place on the cross-entropy.

    Args:
        learning_rate: step size per minibatch, for gradients that have been multiplied by their factors.
        epochs: passes through the images.
        seed: of the order of the images; the same seed gives the same minibatches, whatever the network.
        factors: the preconditioner, one for the gradient by each of `net.parameters()`, or none for all.
        report: takes a line of progress, "[epoch, minibatch] loss: mean since the last line".
        hook: takes the number of steps done and the optimizer, before each step and after the last one; it may return
            the factors from then on.
        optimizer_type: takes the parameters and the learning rate `lr`.

    Returns:
        (steps,) float32, the loss in nats before each step. They end early with one that is not finite, if there is.
    """
    parameters = list(net.parameters())
    optimizer = optimizer_type(parameters, lr=learning_rate)
    order = torch.Generator().manual_seed(seed)
    report_every = min(REPORT_EVERY, math.ceil(epochs * (len(images.labels) // MINIBATCH) / 10))
    losses: list[float] = []
    for epoch in range(1, epochs + 1):
        for step, (inputs, labels) in enumerate(minibatches(images, MINIBATCH, order), start=1):
            factors = hook(len(losses), optimizer) or factors
            loss = cross_entropy(net(inputs), labels)
            losses.append(loss.item())
            if not math.isfinite(losses[-1]):
                return np.array(losses, dtype=np.float32)
            optimizer.zero_grad()
            loss.backward()
            for parameter, factor in zip(parameters, factors):
                if parameter.grad is not None:  # of a frozen layer
                    parameter.grad.mul_(factor)
            optimizer.step()
            if len(losses) % report_every == 0:
                report(f"[{epoch}, {step:5}] loss: {np.mean(losses[-report_every:]):.3f}")
    hook(len(losses), optimizer)
    return np.array(losses, dtype=np.float32)


def evaluate(net: nn.Module, images: Images) -> tuple[float, float]:
    """Return a network's mean cross-entropy (in nats) and its accuracy (from 0 to 1)."""
    with torch.no_grad():
        logits = torch.cat([net(scale(pixels)) for pixels in images.pixels.split(500)])
    return cross_entropy(logits, images.labels).item(), (logits.argmax(dim=1) == images.labels).float().mean().item()
