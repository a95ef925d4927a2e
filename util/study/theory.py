"""What the theory says of deep networks of white noise, before any training."""
from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

from util.network import Net
from util.study.methods import INITIALIZATIONS, draw_for_images
from util.theory import LayerStatistics, predict_for, weight_gradient_spread

RESOLUTION = 1e-9  # of correlations, by the theory's quadrature
NAMES = [name for name, start in INITIALIZATIONS.items() if start.draw is not draw_for_images]  # those of white noise


@lru_cache(maxsize=None)
def predictions(name: str, depth: int, activation: str = "relu") -> tuple[LayerStatistics, ...]:
    """Return a record for each layer of a network by one of `NAMES`, computed once for all tables and pictures."""
    return tuple(predict_for(INITIALIZATIONS[name].rule, Net(depth, activation)))


class Ends(NamedTuple):
    """What reaches the two ends of a network."""

    first_gradient: float  # standard deviation of the gradient by the first layer's weights
    difference_left: float  # 1 - rho in the last hidden layer (1e-9 if it is less)


def ends(name: str, depth: int, activation: str = "relu") -> Ends:
    """Compute what reaches the two ends.

    rho is the correlation of two inputs' pre-activations. The inputs are independent white noise. Then two inputs have
    in common what two positions of one input have, biases, so that the records' correlation is theirs, too. Where
    1 - rho is small, so is all that a network can tell inputs by (Poole et al., 2016; Schoenholz et al., 2017).
    """
    layers = predictions(name, depth, activation)
    return Ends(layers[0].weight_gradient_std, max(1 - layers[-2].correlation, RESOLUTION))


def spread(name: str, depth: int, activation: str = "relu") -> float:
    """Return how unequal the layers' weight gradients are for an initialization."""
    return weight_gradient_spread(predictions(name, depth, activation))
