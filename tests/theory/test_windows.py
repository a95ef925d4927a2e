"""Which positions windows see, held against what torch's own operations make of unit vectors."""
import math

import pytest
import torch
from torch import nn
from torch.func import functional_call
from torch.testing import assert_close

from util.theory import windows

CONVOLUTIONS = [
    (nn.Conv2d(1, 1, 3, padding=1, bias=False), (2, 2)),
    (nn.Conv2d(1, 1, (3, 2), stride=(2, 1), padding=(1, 0), dilation=(1, 2), bias=False), (6, 5)),
    (nn.Conv2d(1, 1, 3, padding="same", dilation=2, bias=False), (5, 3)),
]
POOLS = [
    (windows.of_max_pool, nn.MaxPool2d(3, 2, padding=1), torch.Size((6, 5))),
    (windows.of_max_pool, nn.MaxPool2d((2, 3), stride=(1, 2), ceil_mode=True), torch.Size((4, 6))),
    (windows.of_max_pool, nn.MaxPool2d((3, 2), stride=1, dilation=(1, 2)), torch.Size((6, 5))),
    (windows.of_adaptive_pool, nn.AdaptiveMaxPool2d((2, None)), torch.Size((5, 3))),
]


def seen_by_taps(layer, values):
    """Return (taps, H', W'): what each tap of the kernel sees of an (H, W) map."""
    taps = torch.eye(layer.weight.numel()).double()
    kernels = taps.reshape(-1, 1, *layer.kernel_size)
    return functional_call(layer, {"weight": kernels}, values[None, None])[0]


def mean_over_neighbours(pairs, shape):
    """Average (H W, H W) numbers of pairs of positions over the up to eight neighbours of the first one."""
    places = torch.cartesian_prod(*map(torch.arange, shape)).double()
    near = torch.cdist(places, places, p=math.inf) == 1
    sums = (pairs * near).sum(dim=1)
    return sums / near.sum(dim=1)


@pytest.mark.parametrize("layer, shape", CONVOLUTIONS)
def test_convolution_sees_and_sends_gradients_to_the_same_positions_as_torch(layer, shape):
    values = torch.rand(shape, dtype=torch.float64, requires_grad=True)
    sums = seen_by_taps(layer, values).sum(dim=0)
    taps = windows.of_convolution(layer, values.shape)
    assert_close(taps.sum(values), sums)
    gradient = torch.rand_like(sums)
    (sent_back,) = torch.autograd.grad(sums, values, gradient)
    assert_close(taps.distribute(gradient), sent_back)


@pytest.mark.parametrize("layer, shape", CONVOLUTIONS)
def test_neighbouring_outputs_of_a_convolution_share_the_taps_inside_of_the_map(layer, shape):
    values = torch.rand(shape, dtype=torch.float64)
    taps = windows.of_convolution(layer, values.shape)
    seen = seen_by_taps(layer, values).flatten(1)
    inside = seen_by_taps(layer, torch.ones_like(values)).flatten(1)
    expected = mean_over_neighbours(seen.T @ inside, taps.count.shape)
    measured = taps.sum_with_neighbours(values)
    assert_close(measured.flatten(), expected)


@pytest.mark.parametrize("of_pool, pool, shape", POOLS)
def test_pool_sees_the_same_positions_as_torch(of_pool, pool, shape):
    units = torch.eye(shape.numel()).double()
    maxima = pool(units.reshape(-1, 1, *shape)).flatten(1)
    rows, columns = of_pool(pool, shape)
    assert torch.equal(torch.kron(rows, columns), maxima.T)


@pytest.mark.parametrize("of_pool, pool, shape", POOLS)
def test_neighbouring_windows_of_a_pool_share_the_positions_that_both_see(of_pool, pool, shape):
    seen = of_pool(pool, shape)
    view = torch.kron(seen.rows, seen.columns)
    expected = mean_over_neighbours(view @ view.T, seen.count.shape)
    assert_close(seen.shared.flatten(), expected)


def test_pools_in_a_row_see_through_each_other():
    """Two overlapping pools of 3 with stride 2 see 7 x 7 positions."""
    pool = nn.MaxPool2d(3, 2)
    first = windows.of_max_pool(pool, torch.Size((15, 15)))
    both = windows.of_max_pool(pool, first.count.shape).after(first)
    assert both.count.tolist() == [[49, 49, 49]] * 3
