"""The tutorial's way: PyTorch's default initialization, plain gradients."""
from __future__ import annotations

from typing import Callable

import numpy as np
import torch

from util.data import Images
from util.network import Net
from util.training import train


def default_train(net: Net, images: Images, learning_rate: float, epochs: int, seed: int,
                  report: Callable[[str], None] = print) -> np.ndarray:
    """Train a network from the parameters that PyTorch gave it.

    Takes a learning rate instead of an optimizer; else it takes and returns what `util.training.train` does.
    """
    optimizer = torch.optim.SGD(net.parameters(), lr=learning_rate, momentum=0.9, fused=True)
    return train(net, images, optimizer, epochs, seed, report)
