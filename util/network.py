"""The network that is trained: the one of PyTorch's CIFAR-10 tutorial, or a deeper one."""
from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional

TUTORIAL_DEPTH = 5  # weight layers
ACTIVATIONS = {"relu": functional.relu, "tanh": torch.tanh}


class Net(nn.Module):
    """Maps (N, 3, 32, 32) images to (N, 10) class scores (logits); 62,006 parameters at the tutorial's depth.

    It is written as in the tutorial, https://pytorch.org/tutorials/beginner/blitz/cifar10_tutorial.html, which has
    neither a depth nor another activation.

    Args:
        depth: the number of weight layers, at least 5; beyond 5, each is a `Linear(84, 84)` with an activation before
            the last layer.
        activation: one of `ACTIVATIONS`; the tutorial's is "relu".

    Raises:
        ValueError: for a smaller depth.
    """

    def __init__(self, depth: int = TUTORIAL_DEPTH, activation: str = "relu") -> None:
        if depth < TUTORIAL_DEPTH:
            raise ValueError(f"depth must be at least {TUTORIAL_DEPTH}, but is {depth}")
        super().__init__()
        self.activation = ACTIVATIONS[activation]
        self.conv1 = nn.Conv2d(3, 6, 5)
        self.pool = nn.MaxPool2d(2, 2)
        self.conv2 = nn.Conv2d(6, 16, 5)
        self.fc1 = nn.Linear(16 * 5 * 5, 120)
        self.fc2 = nn.Linear(120, 84)
        self.hidden = nn.ModuleList(nn.Linear(84, 84) for _ in range(depth - TUTORIAL_DEPTH))
        self.fc3 = nn.Linear(84, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the logits."""
        x = self.pool(self.activation(self.conv1(x)))
        x = self.pool(self.activation(self.conv2(x)))
        x = torch.flatten(x, 1)
        x = self.activation(self.fc1(x))
        x = self.activation(self.fc2(x))
        for layer in self.hidden:
            x = self.activation(layer(x))
        return self.fc3(x)
