"""The preconditioned way with factors that follow the weights: every few steps, they are computed anew.

The theory stays that of random weights; it is told how large the weights are by now.
"""
from __future__ import annotations

from typing import Callable, Sequence

import numpy as np
from torch import nn

from util.data import Images
from util.network import Net
from util.signal_propagation import predict, predict_current
from util.static_preconditioned_train import initialize, preconditioner
from util.training import Settings, TrainingRun, train


def dynamic_preconditioned_train(net: Net, images: Images, learning_rate: float, seed: int, settings: Settings,
                                 report: Callable[[str], None], follow: str = "both") -> TrainingRun:
    """Initialize a network so that it preserves variance, and train it with gradients preconditioned for it as it is.

    Args and returns: as of `util.training.train`, besides
        follow: what of the factors' change to follow. The common change is the geometric mean, over the parameter
            tensors, of the ratio of current to initial factor. "scale" multiplies the initial factors by it,
            "proportions" divides the current factors by it, and "both" takes the current factors as they are.

    The parameters are drawn by the global torch generator.
    """
    def current_factors(net: nn.Module) -> list[float]:
        return preconditioner(net, predict_current(net, input_moments=settings.input_moments))

    initialize(net, predict(net, input_moments=settings.input_moments))
    initial = current_factors(net)
    return train(net, images, initial, learning_rate, seed, settings, report,
                 refresh=lambda net: follow_change(initial, current_factors(net), follow))


def follow_change(initial: Sequence[float], current: Sequence[float], follow: str) -> list[float]:
    """Return the current factors, or only a part of their change, see `dynamic_preconditioned_train`."""
    initial, current = np.array(initial), np.array(current)
    common = np.exp(np.log(current / initial).mean())
    return {"both": current, "scale": common * initial, "proportions": current / common}[follow].tolist()
