"""Smoothing and means, on curves whose answer is known."""
import numpy as np
import pytest

from util.curves import final_loss, loss_around, smooth

NOISE = np.random.default_rng(0).standard_normal(2000)


@pytest.mark.parametrize("width", [1, 2, 121, 2000, 9999])
def test_smoothing_is_a_gaussian_of_three_sigma_to_either_side(width):
    """Also over more steps than there are."""
    radius = width // 2
    steps = np.arange(-radius, radius + 1)
    sigma = width / 6
    weights = np.exp(-np.square(steps / sigma) / 2)
    mirrored = np.pad(NOISE, radius, mode="symmetric")
    expected = np.convolve(mirrored, weights / weights.sum(), mode="valid")
    np.testing.assert_allclose(smooth(NOISE, width), expected, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("step, width, mean", [
    (10.2, 6, 9.5), (9.8, 6, 9.5),  # of 7 to 12
    (1, 6, 1.5), (1, 5, 1.5),  # of 0 to 3, where the run begins
    (25, 6, 23)])  # of the last three
def test_the_mean_around_a_step_is_over_the_steps_that_lie_in_the_run(step, width, mean):
    assert loss_around(np.arange(25, dtype=np.float32), step, width) == mean


def test_the_final_loss_is_the_mean_over_the_last_tenth():
    assert final_loss(np.arange(25, dtype=np.float32)) == 23  # of the last three steps
