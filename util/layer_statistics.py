"""What is known of a weight layer before it is trained."""
from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class LayerStatistics:
    """Standard deviations of a single entry of a weight layer's parameters, and of the loss's gradient by it.

    The gradients' are for a standard normal gradient at the network's output, and one sample. A layer without bias has
    a `bias_std` of 0, and the `bias_gradient_std` that a bias would have.
    """

    name: str
    weight_std: float
    bias_std: float
    weight_gradient_std: float
    bias_gradient_std: float
