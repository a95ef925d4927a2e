"""The two ways in between: only the initialization of the preconditioned training, and only its preconditioner."""
from __future__ import annotations

from typing import Callable

from util.data import Images
from util.network import Net
from util.signal_propagation import predict, predict_current
from util.static_preconditioned_train import initialize, preconditioner
from util.training import Settings, TrainingRun, train


def initialization_only_train(net: Net, images: Images, learning_rate: float, seed: int, settings: Settings,
                              report: Callable[[str], None]) -> TrainingRun:
    """Initialize a network so that it preserves variance, and train it with plain gradients.

    Args and returns: as of `util.training.train`. The parameters are drawn by the global torch generator.
    """
    initialize(net, predict(net, input_moments=settings.input_moments))
    return train(net, images, (), learning_rate, seed, settings, report)


def preconditioner_only_train(net: Net, images: Images, learning_rate: float, seed: int, settings: Settings,
                              report: Callable[[str], None]) -> TrainingRun:
    """Train a network from the parameters that PyTorch gave it, with gradients preconditioned for just these.

    Args and returns: as of `util.training.train`.
    """
    factors = preconditioner(net, predict_current(net, input_moments=settings.input_moments))
    return train(net, images, factors, learning_rate, seed, settings, report)
