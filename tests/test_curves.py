"""Smoothing, means, and the overtaking epoch, on curves whose answer is known."""
import math

import numpy as np
import pytest
from scipy import stats

from util.curves import final_loss, loss_around, overtaking_epoch, smooth

STEPS_PER_EPOCH = 1000
STEPS = np.arange(2 * STEPS_PER_EPOCH)
BEFORE_700 = np.where(STEPS < 700, -0.3, 0.3)  # how much worse the other training is: ahead until step 700
# By chance, the gain at the end exceeds its threshold with this probability: a random walk, split at its minimum, is
# two meanders (Denisov, 1984), and such is the tail of a Brownian meander's end (Durrett, Iglehart and Miller, 1977).
FALSE_ALARM = math.exp(-9 / 2)


def noise(seed):
    return 0.4 * np.random.default_rng(seed).standard_normal(len(STEPS))


def overtaking(difference):
    """The overtaking epoch of a default training of loss 2 and another one that is this much worse."""
    return overtaking_epoch(np.full(len(difference), 2.0), 2.0 + difference, STEPS_PER_EPOCH)


@pytest.mark.parametrize("width", [1, 2, 3, 120, 121, 2000, 9999])
def test_smoothing_is_a_gaussian_of_three_sigma_to_either_side(width):
    """Also over more steps than there are."""
    radius = width // 2
    weights = np.exp(-np.square(np.arange(-radius, radius + 1) / (width / 6)) / 2)
    mirrored = np.pad(noise(0), radius, mode="symmetric")
    expected = np.convolve(mirrored, weights / weights.sum(), mode="valid")
    np.testing.assert_allclose(smooth(noise(0), width), expected, rtol=1e-10, atol=1e-12)


def test_means():
    losses = np.arange(25, dtype=np.float32)
    assert final_loss(losses) == 23  # of the last three steps
    assert loss_around(losses, step=10.2, width=6) == np.mean([7, 8, 9, 10, 11, 12])
    assert loss_around(losses, step=9.8, width=6) == np.mean([7, 8, 9, 10, 11, 12])
    assert loss_around(losses, step=1, width=6) == np.mean([0, 1, 2, 3])
    assert loss_around(losses, step=1, width=5) == np.mean([0, 1, 2, 3])
    assert loss_around(losses, step=25, width=6) == np.mean([22, 23, 24])


@pytest.mark.parametrize("difference, epoch", [
    ((STEPS - 700) * 1e-3, 0.7),
    (np.where((STEPS >= 400) & (STEPS < 450), 0.3, BEFORE_700), 0.7),  # behind for a short while before
    (np.full(len(STEPS), -0.3), None),  # always ahead
    (np.full(len(STEPS), 0.3), None),  # never ahead
    (-1 / (1 + STEPS / 100), None),  # ahead by less and less
    (-BEFORE_700, None),  # ahead from step 700 on
    (np.where(STEPS >= 1000, -0.3, BEFORE_700), None),  # ahead again at the end
    (np.zeros(len(STEPS)), None),
])
def test_overtaking(difference, epoch):
    assert overtaking(difference) == (epoch and pytest.approx(epoch, abs=1 / STEPS_PER_EPOCH))
    if np.any(difference):
        # under noise, chance may move a crossing at which the curves part slowly by a tenth of an epoch
        assert overtaking(difference + noise(0)) == (epoch and pytest.approx(epoch, abs=0.1))


@pytest.mark.parametrize("difference", [-0.1, 0, 0.1])
def test_the_shortest_run_has_an_answer(difference):
    assert overtaking(np.array([difference])) is None


@pytest.mark.parametrize("before, after, overtaken", [
    (1.05, 2, True), (0.95, 2, False), (2, 1.05, True), (2, 0.95, False)])
def test_both_gains_must_exceed_three_standard_errors(before, after, overtaken):
    """Gains in units of their thresholds; the noise alternates between two values, so that its sum plays no role."""
    size = 0.4
    error = math.sqrt(2) * size  # since successive values differ by twice the size
    lead = -before * 3 * error / math.sqrt(500)
    lag = after * 3 * error / math.sqrt(1500)
    trend = np.where(STEPS < 500, lead, lag)
    epoch = overtaking(trend + size * (-1.0) ** STEPS)
    assert epoch == (pytest.approx(0.5, abs=2 / STEPS_PER_EPOCH) if overtaken else None)


@pytest.mark.parametrize("lead", [0, -0.5])
def test_noise_is_rarely_taken_for_overtaking(lead):
    """Equally good trainings, after a lead over 500 steps. Tolerance: chance fails 2 of 1,000 seeds of this test."""
    difference = np.where(STEPS < 500, lead, 0)
    alarms = sum(overtaking(difference + noise(seed)) is not None for seed in range(1000))
    fewest, most = stats.binom.ppf([0.001, 0.999], 1000, FALSE_ALARM)
    assert alarms <= most
    assert alarms >= fewest or not lead  # without a lead, both gains must be large by chance
