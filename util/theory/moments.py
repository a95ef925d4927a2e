"""The moments (m_0, c_0) of a network's input: of white noise, or measured on images."""
from __future__ import annotations

import torch
from torch.func import vmap

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
    check(images.shape[2:].numel() > 1, f"images must have neighbouring positions, but are of shape {shape}")
    of_images = vmap(_moments_of_image, chunk_size=100)(images.detach())  # chunks bound the memory
    second, cross, second_of_pairs = (moments.mean().item() for moments in of_images)
    if cross > second:
        cross *= second / second_of_pairs
    return second, cross


def _moments_of_image(image: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return the mean square, and the mean product and mean square over all pairs of neighbours."""
    image = image.double()
    vertical = image[:, 1:], image[:, :-1]
    horizontal = image[:, :, 1:], image[:, :, :-1]
    products = torch.cat([(one * other).flatten() for one, other in (vertical, horizontal)])
    squares = torch.cat([(one**2 + other**2).flatten() for one, other in (vertical, horizontal)])
    return image.square().mean(), products.mean(), squares.mean() / 2
