"""Smoothing and means, on curves whose answer is known."""
import numpy as np
import pytest

from util.curves import final_loss, loss_around, smooth

NOISE = np.random.default_rng(0).standard_normal(2000)


@pytest.mark.parametrize("width", [1, 2, 3, 120, 121, 2000, 9999])
def test_smoothing_is_a_gaussian_of_three_sigma_to_either_side(width):
    """Also over more steps than there are."""
    radius = width // 2
    weights = np.exp(-np.square(np.arange(-radius, radius + 1) / (width / 6)) / 2)
    mirrored = np.pad(NOISE, radius, mode="symmetric")
    expected = np.convolve(mirrored, weights / weights.sum(), mode="valid")
    np.testing.assert_allclose(smooth(NOISE, width), expected, rtol=1e-10, atol=1e-12)


def test_means():
    losses = np.arange(25, dtype=np.float32)
    assert final_loss(losses) == 23  # of the last three steps
    assert loss_around(losses, step=10.2, width=6) == np.mean([7, 8, 9, 10, 11, 12])
    assert loss_around(losses, step=9.8, width=6) == np.mean([7, 8, 9, 10, 11, 12])
    assert loss_around(losses, step=1, width=6) == np.mean([0, 1, 2, 3])
    assert loss_around(losses, step=1, width=5) == np.mean([0, 1, 2, 3])
    assert loss_around(losses, step=25, width=6) == np.mean([22, 23, 24])
