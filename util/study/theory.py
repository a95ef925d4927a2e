"""What the theory says of deep networks of white noise, before any training."""
from __future__ import annotations

from functools import lru_cache

from util.study.methods import INITIALIZATIONS
from util.study.networks import Network
from util.theory import LayerStatistics, predict_for, weight_gradient_spread

RESOLUTION = 1e-9  # of correlations, by the theory's quadrature
# the initializations in all tables of the theory, and in its picture
ALWAYS = ("PyTorch", "Glorot", "He", "variance-preserving", "zero bias", "fifth bias", "half bias")


@lru_cache(maxsize=None)
def predictions(name: str, network: Network) -> tuple[LayerStatistics, ...]:
    """Return a record for each layer of a network by an initialization, computed once for all tables and pictures."""
    return tuple(predict_for(INITIALIZATIONS[name].rule, network.build()))


def first_gradient(name: str, network: Network) -> float:
    """Return the standard deviation of the gradient with respect to the first layer's weights."""
    return predictions(name, network)[0].weight_gradient_std


def difference_left(name: str, network: Network) -> float:
    """Return 1 - rho in the last hidden layer (1e-9 if it is less).

    rho is the correlation of two inputs' pre-activations. The inputs are independent white noise. Then two inputs have
    in common what two positions of one input have, biases, so that the records' correlation is that of two inputs, too.
    A small 1 - rho leaves a network little to tell inputs apart (Poole et al., 2016; Schoenholz et al., 2017).
    """
    last_hidden = predictions(name, network)[-2]
    return max(1 - last_hidden.correlation, RESOLUTION)


def spread(name: str, network: Network) -> float:
    """Return how unequal the layers' weight gradients are for an initialization."""
    return weight_gradient_spread(predictions(name, network))


def rounded_spread(name: str, network: Network) -> float:
    """Return the same in three digits, as tables have it."""
    return float(f"{spread(name, network):.3g}")
