"""The tutorial's way: PyTorch's default initialization, plain gradients."""
from __future__ import annotations

from typing import Callable

from util.data import Images
from util.network import Net
from util.training import Settings, TrainingRun, train


def default_train(net: Net, images: Images, learning_rate: float, seed: int, settings: Settings,
                  report: Callable[[str], None]) -> TrainingRun:
    """Train a network as the tutorial does, from the parameters that PyTorch gave it.

    Args and returns: as of `util.training.train`.
    """
    return train(net, images, (), learning_rate, seed, settings, report)
