"""Which positions windows see, held against loops over positions and against torch's own operations."""
import itertools

import pytest
import torch
from torch import nn

from util.theory import windows

CONVOLUTIONS = [
    (nn.Conv2d(1, 1, 3, padding=1), (2, 2)),
    (nn.Conv2d(1, 1, (3, 2), stride=(2, 1), padding=(1, 0), dilation=(1, 2)), (6, 5)),
    (nn.Conv2d(1, 1, 3, padding="same", dilation=2), (5, 3)),
]
POOLS = [
    (nn.MaxPool2d(3, 2, padding=1), (6, 5)), (nn.MaxPool2d((2, 3), stride=(1, 2), ceil_mode=True), (4, 6)),
    (nn.MaxPool2d(2, dilation=2), (6, 5)), (nn.AdaptiveMaxPool2d((2, None)), (5, 3))]


def windows_of(module, shape):
    kinds = {nn.Conv2d: windows.of_convolution, nn.MaxPool2d: windows.of_max_pool}
    of_module = kinds.get(type(module), windows.of_adaptive_pool)
    return of_module(module, torch.Size(shape))


def neighbours(outputs, one):
    """List the up to eight outputs around one."""
    row, column = one
    block = itertools.product((row - 1, row, row + 1), (column - 1, column, column + 1))
    return [place for place in block if place in outputs and place != one]


@pytest.mark.parametrize("layer, shape", CONVOLUTIONS)
def test_sums_over_taps_and_their_transpose_are_those_of_torch(layer, shape):
    values = torch.rand(shape, dtype=torch.float64, requires_grad=True)
    nn.init.ones_(layer.weight)
    nn.init.zeros_(layer.bias)
    sums = layer.double()(values[None, None])[0, 0]
    taps = windows_of(layer, shape)
    torch.testing.assert_close(taps.sum(values), sums)
    gradient = torch.rand_like(sums)
    (transposed,) = torch.autograd.grad(sums, values, gradient)
    torch.testing.assert_close(taps.distribute(gradient), transposed)


def taps_of(layer, shape, output):
    """Map each tap of an output that lies inside of the map to the position that it sees."""
    padding = layer.dilation if layer.padding == "same" else layer.padding  # for a kernel of three
    places = {}
    for tap in itertools.product(*map(range, layer.kernel_size)):
        sizes = zip(output, layer.stride, tap, layer.dilation, padding)
        place = tuple(o * s + t * d - p for o, s, t, d, p in sizes)
        if all(0 <= x < size for x, size in zip(place, shape)):
            places[tap] = place
    return places


@pytest.mark.parametrize("layer, shape", CONVOLUTIONS)
def test_sums_over_taps_that_neighbours_have_in_common_are_those_of_loops(layer, shape):
    values = torch.rand(shape, dtype=torch.float64)
    taps = windows_of(layer, shape)
    outputs = list(itertools.product(*map(range, taps.count.shape)))
    measured = taps.sum_with_neighbours(values, layer.stride)
    for one in outputs:
        own = taps_of(layer, shape, one)
        near = [taps_of(layer, shape, other) for other in neighbours(outputs, one)]
        common = [values[own[tap]] for other in near for tap in own.keys() & other.keys()]
        assert measured[one].item() == pytest.approx(sum(common).item() / len(near))


@pytest.mark.parametrize("pool, shape", POOLS)
def test_max_pools_see_what_torch_sees(pool, shape):
    """A single one on the map is the maximum of just the windows that see it."""
    seen = windows_of(pool, shape)
    for place in itertools.product(*map(range, shape)):
        values = torch.zeros(shape, dtype=torch.float64)
        values[place] = 1
        assert torch.equal(seen.sum(values), pool(values[None])[0])


def view(seen, output):
    """Map which positions an output sees."""
    row, column = output
    return torch.outer(seen.rows[row], seen.columns[column])


@pytest.mark.parametrize("pool, shape", POOLS)
def test_positions_shared_with_neighbours_are_those_of_loops(pool, shape):
    seen = windows_of(pool, shape)
    outputs = list(itertools.product(*map(range, seen.count.shape)))
    for one in outputs:
        near = neighbours(outputs, one)
        shared = sum((view(seen, one) * view(seen, other)).sum() for other in near)
        assert seen.shared[one].item() == pytest.approx(shared.item() / len(near))


def test_pools_in_a_row_see_through_each_other():
    """Two overlapping pools of 3 with stride 2 see 7 x 7 positions."""
    first = windows_of(nn.MaxPool2d(3, 2), (15, 15))
    both = windows_of(nn.MaxPool2d(3, 2), first.count.shape).after(first)
    assert torch.equal(both.count, torch.full((3, 3), 49.0, dtype=torch.float64))
