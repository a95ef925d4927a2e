"""The moments (m_0, c_0) of a network's input: of white noise, or measured on images."""
from __future__ import annotations

import torch

from util.theory.checks import check

WHITE_NOISE = (1.0, 0.0)  # of independent standard normal inputs


def input_moments(images: torch.Tensor) -> tuple[float, float]:
    """Measure the moments (m_0, c_0) that `predict` takes.

    Args:
        images: (N, C, H, W) or (N, features) floats, scaled as they enter the network.

    Returns:
        The mean square, and the mean product of two horizontal or vertical neighbours in a channel. Where the latter is
        larger, since the border is darker than the rest, it is the neighbours' correlation times the mean square.
        Features have no neighbours, and c_0 = 0.

    Raises:
        ValueError: for another shape, or one without neighbours, and for integers, such as pixels not yet scaled.
    """
    shape = tuple(images.shape)
    check(images.is_floating_point() and len(shape) in (2, 4),
          f"images must be floats of shape (N, C, H, W) or (N, features), not {images.dtype} of {shape}")
    if len(shape) == 2:
        return images.double().square().mean().item(), 0.0
    squares = products = squares_of_pairs = 0.0
    pairs = 0
    for part in images.detach().split(100):
        part = part.double()
        squares += part.square().sum().item()
        horizontal = part[..., 1:], part[..., :-1]
        vertical = part[..., 1:, :], part[..., :-1, :]
        for one, other in (horizontal, vertical):
            products += (one * other).sum().item()
            squares_of_pairs += (one.square() + other.square()).sum().item() / 2
            pairs += one.numel()
    check(pairs > 0, f"images must have neighbouring positions, but are of shape {shape}")
    second, cross = squares / images.numel(), products / pairs
    if cross > second:
        cross = second * products / squares_of_pairs
    return second, cross
