"""The tutorial's way: PyTorch's default initialization, plain gradients."""
from typing import Any

import numpy as np

from util.data import Images
from util.network import Net
from util.training import train


def default_train(net: Net, images: Images, learning_rate: float, epochs: int, seed: int, **options: Any) -> np.ndarray:
    """Train a network from the parameters that PyTorch gave it; takes and returns what `util.training.train` does."""
    return train(net, images, learning_rate, epochs, seed, **options)
