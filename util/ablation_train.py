"""The two ways in between: only the initialization of the preconditioned training, and only its preconditioner."""
from __future__ import annotations

from typing import Callable

from util.data import Images
from util.network import Net
from util.signal_propagation import predict, predict_current
from util.static_preconditioned_train import initialize, preconditioner
from util.training import TrainingRun, train


def initialization_only_train(net: Net, images: Images, input_moments: tuple[float, float], learning_rate: float,
                              epochs: int, seed: int, decay: bool, report: Callable[[str], None]) -> TrainingRun:
    """Initialize a network so that it preserves variance, and train it with plain gradients.

    Args and returns: as of `util.training.train`. The parameters are drawn by the global torch generator.
    """
    initialize(net, predict(net, input_moments=input_moments))
    return train(net, images, (), input_moments, learning_rate, epochs, seed, decay, report)


def preconditioner_only_train(net: Net, images: Images, input_moments: tuple[float, float], learning_rate: float,
                              epochs: int, seed: int, decay: bool, report: Callable[[str], None]) -> TrainingRun:
    """Train a network from the parameters that PyTorch gave it, with gradients preconditioned for just these.

    Args and returns: as of `util.training.train`.
    """
    factors = preconditioner(net, predict_current(net, input_moments=input_moments))
    return train(net, images, factors, input_moments, learning_rate, epochs, seed, decay, report)
