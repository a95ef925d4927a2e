"""The tutorial's way: PyTorch's default initialization, plain gradients."""
from __future__ import annotations

from typing import Callable

import torch

from util.data import Images
from util.network import Net
from util.training import Run, train

LEARNING_RATE = 0.001  # per minibatch, as in the tutorial


def default_train(images: Images, epochs: int, seed: int, report: Callable[[str], None]) -> tuple[Net, Run]:
    """Train the tutorial's network as the tutorial does.

    Args and errors: as of `util.training.train`; `seed` also seeds the global generator that draws the parameters.

    Returns:
        The trained network and the record of its training.
    """
    torch.manual_seed(seed)
    net = Net()
    return net, train(net, images, LEARNING_RATE, epochs, seed, report)
