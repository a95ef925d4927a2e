"""The preconditioned way without its factors: an initialization that keeps signals at scale, and plain gradients."""
from __future__ import annotations

from typing import Callable

import numpy as np
import torch

from util.data import Images
from util.network import Net
from util.theory import initialize, predict
from util.training import train


def initialization_only_train(net: Net, images: Images, learning_rate: float, epochs: int, seed: int,
                              report: Callable[[str], None] = print) -> np.ndarray:
    """Initialize a network as `static_preconditioned_train` does and train it; takes and returns what that does."""
    initialize(net, predict(net))
    optimizer = torch.optim.SGD(net.parameters(), lr=learning_rate, momentum=0.9, fused=True)
    return train(net, images, optimizer, epochs, seed, report)
