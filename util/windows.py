"""Which positions of a map the windows of a convolution or pool see, as matrices of zeros and ones."""
from __future__ import annotations

from typing import Callable, NamedTuple

import torch
from torch import nn
from torch.nn import functional


class Windows(NamedTuple):
    """Windows on an H x W map, of which there are H' x W'. A window sees the rows times the columns that hold ones."""

    rows: torch.Tensor  # (H', H)
    columns: torch.Tensor  # (W', W)

    @property
    def count(self) -> torch.Tensor:
        """(H', W'): the number of positions that each window sees, those outside of the map not among them."""
        return torch.outer(self.rows.sum(dim=1), self.columns.sum(dim=1))

    @property
    def overlap(self) -> bool:
        """Whether some position is seen by more than one window."""
        return bool((self.rows.sum(dim=0) > 1).any() or (self.columns.sum(dim=0) > 1).any())

    def after(self, other: Windows) -> Windows:
        """Return which positions these windows see through other ones, on whose outputs they lie."""
        rows, columns = ((seen @ through > 0).double() for seen, through in zip(self, other))
        return Windows(rows, columns)

    def sum(self, values: torch.Tensor) -> torch.Tensor:
        """Sum an (H, W) map over each window: (H', W')."""
        return self.rows @ values @ self.columns.T

    def mean(self, values: torch.Tensor) -> torch.Tensor:
        """Average an (H, W) map over each window: (H', W')."""
        return self.sum(values) / self.count

    def spread(self, values: torch.Tensor) -> torch.Tensor:
        """Hand each window's (H', W') value to all positions that it sees, and add up there: the transpose of `sum`."""
        return self.rows.T @ values @ self.columns

    def shared(self) -> torch.Tensor:
        """(H', W'): the number of positions that a window shares with a neighbour, on average over its neighbours."""
        rows, columns = (_near(seen @ seen.T).sum(dim=1) for seen in self)
        return (torch.outer(rows, columns) - self.count) / self._neighbours().clamp(min=1)

    def with_distant(self, stride: tuple[int, int]) -> Windows:
        """Weight each tap by the share of all windows for which it lies inside of the map, as for a distant partner."""
        return Windows(*(_shared_by_all(taps, step) for taps, step in zip(self, stride)))

    def sum_with_neighbours(self, values: torch.Tensor, stride: tuple[int, int]) -> torch.Tensor:
        """Sum a map over those taps of each window that lie inside of the map for a neighbouring window, too.

        Returns (H', W'): the average over the up to eight neighbours that a window has; the plain sum if it has none.
        """
        neighbours = self._neighbours()
        if not neighbours.any():
            return self.sum(values)
        rows, columns = (_paired_taps(taps, step) for taps, step in zip(self, stride))
        return (rows @ values @ columns.T - self.sum(values)) / neighbours

    def _neighbours(self) -> torch.Tensor:
        rows, columns = (_near(torch.ones(len(seen), len(seen)).double()).sum(dim=1) for seen in self)
        return torch.outer(rows, columns) - 1


def _near(pairs: torch.Tensor) -> torch.Tensor:
    """Keep the entries of a matrix of pairs of windows that are no more than one step apart."""
    return pairs.triu(-1).tril(1)


def _paired_taps(taps: torch.Tensor, stride: int) -> torch.Tensor:
    """Count the windows, among the one before, the same and the one behind, for which a tap lies inside as well."""
    pairs = taps.clone()
    pairs[:-1, :-stride] += taps[:-1, :-stride]
    pairs[1:, stride:] += taps[1:, stride:]
    return pairs


def _shared_by_all(taps: torch.Tensor, stride: int) -> torch.Tensor:
    outputs, inputs = taps.shape
    if outputs == 1:
        return taps
    tap = torch.arange(inputs) - stride * torch.arange(outputs).unsqueeze(1)  # which one of the kernel an entry is
    tap -= tap.min().item()
    inside = torch.bincount(tap.flatten(), weights=taps.flatten())
    return taps * inside[tap] / outputs


def whole(shape: torch.Size) -> Windows:
    """Return a single window that sees a whole map of shape (H, W)."""
    return Windows(*(torch.ones(1, size).double() for size in shape))


def single(shape: torch.Size) -> Windows:
    """Return a window for each position of a map of shape (H, W)."""
    return Windows(*(torch.eye(size).double() for size in shape))


def of_convolution(layer: nn.Conv2d, shape: torch.Size) -> Windows:
    """Return the taps of a convolution on a map of shape (H, W); padding lies outside of it."""
    def taps(size: int, dimension: int) -> torch.Tensor:
        kernel = torch.ones(1, 1, layer.kernel_size[dimension]).double()
        padding = layer.padding if isinstance(layer.padding, str) else layer.padding[dimension]
        return _seen(size, lambda lines: functional.conv1d(
            lines, kernel, stride=layer.stride[dimension], padding=padding, dilation=layer.dilation[dimension]))

    return Windows(*(taps(size, dimension) for dimension, size in enumerate(shape)))


def of_max_pool(pool: nn.MaxPool2d, shape: torch.Size) -> Windows:
    """Return the windows of a max pool on a map of shape (H, W)."""
    sizes = map(both, (pool.kernel_size, pool.stride, pool.padding, pool.dilation))
    return Windows(*(
        _seen(size, lambda lines: functional.max_pool1d(lines, *arguments, ceil_mode=pool.ceil_mode))
        for size, *arguments in zip(shape, *sizes)))


def of_average_pool(pool: nn.AvgPool2d, shape: torch.Size) -> Windows:
    """Return the windows of an average pool on a map of shape (H, W)."""
    sizes = map(both, (pool.kernel_size, pool.stride, pool.padding))
    return Windows(*(
        _seen(size, lambda lines: functional.avg_pool1d(lines, *arguments, ceil_mode=pool.ceil_mode))
        for size, *arguments in zip(shape, *sizes)))


def of_adaptive_pool(pool: nn.AdaptiveAvgPool2d, shape: torch.Size) -> Windows:
    """Return the windows of an adaptive pool, of averages or maxima, on a map of shape (H, W)."""
    return Windows(*(
        _seen(size, lambda lines: functional.adaptive_avg_pool1d(lines, target or size))
        for size, target in zip(shape, both(pool.output_size))))


def both(size: int | tuple[int, ...]) -> tuple[int, int]:
    """Return the vertical and the horizontal one of a size that may be given once for both."""
    sizes = list(size) if isinstance(size, (tuple, list)) else [size]
    return (sizes[0], sizes[-1])


def _seen(size: int, operation: Callable[[torch.Tensor], torch.Tensor]) -> torch.Tensor:
    """Find by torch's own operation, on lines that hold a single one each, which of `size` positions a window sees."""
    lines = torch.eye(size).double().unsqueeze(1)
    return (operation(lines).squeeze(1).T > 0).double()
