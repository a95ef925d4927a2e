"""Which positions windows see, held against loops over positions and against torch's own operations."""
import itertools

import pytest
import torch
from torch import nn

from util.theory import windows
from util.theory.windows import Windows

CONVOLUTIONS = [
    (nn.Conv2d(1, 1, 3), (5, 4)),
    (nn.Conv2d(1, 1, 3, padding=1), (2, 2)),
    (nn.Conv2d(1, 1, (3, 2), stride=(2, 1), padding=(1, 0), dilation=(1, 2)), (6, 5)),
    (nn.Conv2d(1, 1, 3, padding="same", dilation=2), (5, 3)),
    (nn.Conv2d(1, 1, 5, padding=4, stride=3), (4, 7)),
]


def constant(layer):
    """Let a convolution sum over its taps."""
    nn.init.ones_(layer.weight)
    nn.init.zeros_(layer.bias)
    return layer.double()


@pytest.mark.parametrize("layer, shape", CONVOLUTIONS)
def test_sums_and_their_transpose_are_those_of_torch(layer, shape):
    values = torch.rand(shape, dtype=torch.float64, requires_grad=True)
    sums = constant(layer)(values[None, None])[0, 0]
    taps = windows.of_convolution(layer, torch.Size(shape))
    torch.testing.assert_close(taps.sum(values), sums)
    gradient = torch.rand_like(sums)
    (transposed,) = torch.autograd.grad(sums, values, gradient)
    torch.testing.assert_close(taps.distribute(gradient), transposed)


def taps_of(layer, shape, output):
    """List, for one output position, the position that each tap sees, None outside of the map."""
    padding = [d * (k - 1) // 2 for d, k in zip(layer.dilation, layer.kernel_size)] \
        if layer.padding == "same" else layer.padding
    places = []
    for tap in itertools.product(*map(range, layer.kernel_size)):
        place = tuple(o * s + t * d - p for o, s, t, d, p in zip(output, layer.stride, tap, layer.dilation, padding))
        places.append(place if all(0 <= x < size for x, size in zip(place, shape)) else None)
    return places


def common_taps(values, layer, shape, one, other):
    """Sum over the taps that lie inside for both of two outputs."""
    pairs = zip(taps_of(layer, shape, one), taps_of(layer, shape, other))
    return sum(values[place].item() for place, partner in pairs if place and partner)


@pytest.mark.parametrize("layer, shape", CONVOLUTIONS)
def test_terms_in_common_with_neighbours_and_with_all_outputs(layer, shape):
    """Averages over the up to eight neighbours that there are, and, of each row and column on its own, over all."""
    values = torch.rand(shape, dtype=torch.float64)
    taps = windows.of_convolution(layer, torch.Size(shape))
    outputs = list(itertools.product(*map(range, taps.count.shape)))
    with_neighbours = taps.sum_with_neighbours(values, layer.stride)
    with_all = taps.weighted_by_share(layer.stride).sum(values)
    for one in outputs:
        near = [other for other in outputs if other != one and max(abs(o - p) for o, p in zip(one, other)) == 1]
        sums = [common_taps(values, layer, shape, one, other) for other in near or [one]]
        assert with_neighbours[one].item() == pytest.approx(sum(sums) / len(sums))
        sums = [common_taps(values, layer, shape, one, other) for other in outputs]
        assert with_all[one].item() == pytest.approx(sum(sums) / len(sums))


POOLS = [
    (nn.MaxPool2d(2), (5, 4)), (nn.MaxPool2d(3, 2), (7, 9)), (nn.MaxPool2d(3, 2, padding=1), (6, 5)),
    (nn.MaxPool2d((2, 3), stride=(1, 2), ceil_mode=True), (4, 6)), (nn.MaxPool2d(2, dilation=2), (6, 5)),
    (nn.AdaptiveMaxPool2d((2, None)), (5, 3))]


def windows_of(pool, shape):
    of_pool = windows.of_max_pool if isinstance(pool, nn.MaxPool2d) else windows.of_adaptive_pool
    return of_pool(pool, torch.Size(shape))


@pytest.mark.parametrize("pool, shape", POOLS)
def test_max_pools_see_what_torch_sees(pool, shape):
    """A single one on the map is the maximum of just the windows that see it."""
    seen = windows_of(pool, shape)
    for place in itertools.product(*map(range, shape)):
        values = torch.zeros(shape, dtype=torch.float64)
        values[place] = 1
        assert torch.equal(seen.sum(values), pool(values[None])[0])


@pytest.mark.parametrize("pool, shape", POOLS)
def test_share_with_neighbours(pool, shape):
    seen = windows_of(pool, shape)
    outputs = list(itertools.product(*map(range, seen.count.shape)))
    views = {one: {place for place in itertools.product(*map(range, shape))
                   if seen.rows[one[0], place[0]] and seen.columns[one[1], place[1]]} for one in outputs}
    for one in outputs:
        near = [other for other in outputs if other != one and max(abs(o - p) for o, p in zip(one, other)) == 1]
        shared = [len(views[one] & views[other]) for other in near]
        assert seen.shared[one].item() == pytest.approx(sum(shared) / max(1, len(near)))


def test_pools_in_a_row_see_through_each_other():
    """Two overlapping pools of 3 with stride 2 see 7 x 7 positions."""
    first = windows_of(nn.MaxPool2d(3, 2), (15, 15))
    both = windows_of(nn.MaxPool2d(3, 2), first.count.shape).after(first)
    assert torch.equal(both.count, torch.full((3, 3), 49.0, dtype=torch.float64))
    assert isinstance(both, Windows)
    values = torch.rand(1, 15, 15, dtype=torch.float64)
    net = nn.Sequential(nn.MaxPool2d(3, 2), nn.MaxPool2d(3, 2))
    seen = both.rows[0].bool().outer(both.columns[2].bool())
    assert values[0][seen].max() == net(values)[0, 0, 2]
