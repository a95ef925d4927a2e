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
    check(images.ndim in (2, 4) and images.is_floating_point(), "images must be floats of shape (N, C, H, W) or "
          f"(N, features), not {images.dtype} of {tuple(images.shape)}")
    second = _inner_product(images, images) / images.numel()
    if images.ndim == 2:
        return second, 0.0
    horizontal = images[..., 1:], images[..., :-1]
    vertical = images[..., 1:, :], images[..., :-1, :]
    neighbours = [horizontal, vertical]
    pairs = sum(one.numel() for one, _ in neighbours)
    check(pairs, f"images must have neighbouring positions, but are of shape {tuple(images.shape)}")
    cross = sum(_inner_product(one, other) for one, other in neighbours) / pairs
    if cross > second:
        squares = sum(_inner_product(one, one) + _inner_product(other, other) for one, other in neighbours)
        cross *= second / (squares / (2 * pairs))
    return second, cross


def _inner_product(one: torch.Tensor, other: torch.Tensor) -> float:
    """Sum the products of entries in double precision, a hundred images at a time, which bounds the memory."""
    parts = zip(one.detach().split(100), other.detach().split(100))
    return sum((part.double() * other_part).sum().item() for part, other_part in parts)
