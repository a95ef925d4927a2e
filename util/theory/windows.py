"""The positions in each window of a convolution or pool, as matrices of zeros and ones."""
from __future__ import annotations

from functools import cached_property, partial
from typing import Callable, Iterator

import torch
from torch import nn
from torch.nn import functional


class Windows:
    """Windows on an H x W map, of which there are H' x W'. A window sees the rows times the columns that hold ones.

    Attributes:
        rows: (H', H) float64.
        columns: (W', W) float64.
        stride: from one window of a convolution to the next, vertical and horizontal.
    """

    def __init__(self, rows: torch.Tensor, columns: torch.Tensor, stride: tuple[int, int] = (1, 1)) -> None:
        self.rows = rows
        self.columns = columns
        self.stride = stride

    def __iter__(self) -> Iterator[torch.Tensor]:
        return iter((self.rows, self.columns))

    @cached_property
    def count(self) -> torch.Tensor:
        """(H', W'): the number of positions that each window sees, those outside of the map not among them."""
        return torch.outer(self.rows.sum(dim=1), self.columns.sum(dim=1))

    def after(self, other: Windows) -> Windows:
        """Return which positions these windows see through other ones, on whose outputs they lie."""
        return Windows(*((seen @ through > 0).double() for seen, through in zip(self, other)))

    def sum(self, values: torch.Tensor) -> torch.Tensor:
        """Sum an (H, W) map over each window: (H', W')."""
        return self.rows @ values @ self.columns.T

    def mean(self, values: torch.Tensor) -> torch.Tensor:
        """Average an (H, W) map over each window: (H', W')."""
        return self.sum(values) / self.count

    def distribute(self, values: torch.Tensor) -> torch.Tensor:
        """Add each window's (H', W') value to all positions that the window sees, (H, W): the transpose of `sum`."""
        return self.rows.T @ values @ self.columns

    def share(self, values: torch.Tensor) -> torch.Tensor:
        """Distribute each window's value in equal shares."""
        return self.distribute(values / self.count)

    @cached_property
    def shared(self) -> torch.Tensor:
        """(H', W'): the number of positions that a window shares with a neighbour, on average over its neighbours."""
        rows, columns = (_near(seen @ seen.T).sum(dim=1) for seen in self)
        return (torch.outer(rows, columns) - self.count) / self._neighbours.clamp(min=1)

    def weighted_by_share(self) -> Windows:
        """Weight each tap of a kernel by the share of windows for which this tap lies inside of the map."""
        rows, columns = (_weighted(taps, step, len(taps)) / len(taps) for taps, step in zip(self, self.stride))
        return Windows(rows, columns)

    def shared_maxima(self) -> torch.Tensor:
        """(H', W'): the expected number of neighbours whose largest value lies at the same position as the window's."""
        return self._neighbours * self.shared / (2 * self.count - self.shared)

    def sum_with_neighbours(self, values: torch.Tensor) -> torch.Tensor:
        """Sum a map over those taps of each window that lie inside of the map for a neighbouring window, too.

        Returns (H', W'): the average over the up to eight neighbours that a window has; the plain sum if it has none.
        """
        neighbours = self._neighbours
        if not neighbours.any():
            return self.sum(values)
        rows, columns = (_weighted(taps, step, 1) for taps, step in zip(self, self.stride))
        return (rows @ values @ columns.T - self.sum(values)) / neighbours

    @cached_property
    def _neighbours(self) -> torch.Tensor:
        """(H', W'): the number of windows no more than one step away."""
        windows = torch.ones_like(self.count).unsqueeze(0)
        return functional.avg_pool2d(windows, 3, stride=1, padding=1, divisor_override=1).squeeze(0) - 1


def _near(pairs: torch.Tensor) -> torch.Tensor:
    """Keep the entries of a matrix of pairs of windows that are no more than one step apart."""
    return pairs.triu(-1).tril(1)


def _weighted(taps: torch.Tensor, stride: int, reach: int) -> torch.Tensor:
    """Weight each tap by the number of windows for which the same tap of the kernel lies inside of the map.

    Counted are the window itself, and up to `reach` windows before and behind. From one window to the next, a tap moves
    by the stride, whatever the dilation and the padding.
    """
    outputs, inputs = taps.shape
    window = torch.arange(outputs).unsqueeze(1)
    position = torch.arange(inputs)
    before = torch.minimum(window, position // stride)
    behind = torch.minimum(window.flip(0), position.flip(0) // stride)
    return taps * (before.clamp(max=reach) + 1 + behind.clamp(max=reach))


def whole(shape: torch.Size) -> Windows:
    """Return a single window that sees a whole map of shape (H, W)."""
    return Windows(*(torch.ones(1, size).double() for size in shape))


def single(shape: torch.Size) -> Windows:
    """Return a window for each position of a map of shape (H, W)."""
    return Windows(*(torch.eye(size).double() for size in shape))


def of_convolution(layer: nn.Conv2d, shape: torch.Size) -> Windows:
    """Return the taps of a convolution on a map of shape (H, W); padding lies outside of it."""
    def count(lines: torch.Tensor, size: int, *sizes: int | str) -> torch.Tensor:
        kernel = torch.ones(1, 1, size).double()
        return functional.conv1d(lines, kernel, None, *sizes)

    taps = _windows(count, shape, layer.kernel_size, layer.stride, layer.padding, layer.dilation)
    return Windows(*taps, layer.stride)


def of_max_pool(pool: nn.MaxPool2d, shape: torch.Size) -> Windows:
    """Return the windows of a max pool, or of a pool of averages without padding, on a map of shape (H, W)."""
    pooled = partial(functional.max_pool1d, ceil_mode=pool.ceil_mode)
    return _windows(pooled, shape, pool.kernel_size, pool.stride, pool.padding, pool.dilation)


def of_adaptive_pool(pool: nn.AdaptiveAvgPool2d, shape: torch.Size) -> Windows:
    """Return the windows of an adaptive pool, of averages or maxima, on a map of shape (H, W)."""
    def pooled(lines: torch.Tensor, size: int | None) -> torch.Tensor:
        return functional.adaptive_avg_pool1d(lines, size or lines.shape[-1])

    return _windows(pooled, shape, pool.output_size)


def _both(size: int | tuple[int, ...]) -> tuple[int, int]:
    """Return a vertical and a horizontal size, which may be given as one number for both."""
    sizes = list(size) if isinstance(size, (tuple, list)) else [size]
    return (sizes[0], sizes[-1])


def _windows(operation: Callable[..., torch.Tensor], shape: torch.Size, *sizes: int | str | tuple[int, ...]) -> Windows:
    """Find the positions in each window: apply torch's own operation to unit vectors.

    Each of `sizes` is vertical and horizontal. Rows take the vertical ones, columns the horizontal ones.
    """
    seen = []
    for size, *own_sizes in zip(shape, *map(_both, sizes)):
        lines = torch.eye(size).double().unsqueeze(1)
        seen.append((operation(lines, *own_sizes).squeeze(1).T > 0).double())
    return Windows(*seen)
