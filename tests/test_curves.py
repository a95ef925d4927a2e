"""Smoothing and the overtaking epoch on curves whose answer is known."""
import math

import numpy as np
import pytest
from scipy import stats
from scipy.ndimage import gaussian_filter1d

from util.curves import overtaking_epoch, smooth, smoothing_radius

pytestmark = pytest.mark.filterwarnings("error")
STEPS_PER_EPOCH = 1000
STEPS = np.arange(2 * STEPS_PER_EPOCH)
NOISE = 0.4


def noise(seed):
    return NOISE * np.random.default_rng(seed).standard_normal(len(STEPS))


def test_smoothing_is_a_gaussian_of_three_sigma_to_either_side():
    width, sigma, radius = 121, 121 / 6, 60
    expected = gaussian_filter1d(noise(0), sigma, truncate=radius / sigma)
    np.testing.assert_allclose(smooth(noise(0), width), expected[radius:-radius], rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("width", [1, 2, 3, 10, 11, 2000])
def test_smoothing_keeps_straight_lines_in_place(width):
    """So entry i belongs to step i + radius."""
    radius = smoothing_radius(width)
    smoothed = smooth(3 + 0.5 * STEPS, width)
    np.testing.assert_allclose(smoothed, 3 + 0.5 * STEPS[radius:len(STEPS) - radius])


def test_smoothing_wider_than_the_run_is_refused():
    with pytest.raises(ValueError, match="2001 steps is wider than the run of 2000 steps"):
        smooth(noise(0), 2001)


def overtaking(difference, width=101):
    """The overtaking epoch of a default run of loss 2 and another one that is this much worse."""
    return overtaking_epoch(np.full(len(STEPS), 2.0), 2.0 + difference, width, STEPS_PER_EPOCH)


def test_one_crossing_is_found_to_the_step():
    assert overtaking((STEPS - 700) * 1e-3) == pytest.approx(0.7, abs=1 / STEPS_PER_EPOCH)


@pytest.mark.parametrize("seed", range(10))
def test_one_crossing_under_noise(seed):
    """The smoothed curves cross up to 20 times here. Tolerance: a tenth of an epoch, where the curves differ by 0.1."""
    assert overtaking((STEPS - 700) * 1e-3 + noise(seed)) == pytest.approx(0.7, abs=0.1)


def test_never_overtaken():
    assert overtaking(np.full(len(STEPS), -0.1)) == math.inf
    assert overtaking(-0.1 + noise(0)) == math.inf


def test_coming_closer_is_not_overtaking():
    assert overtaking(-1 / (1 + STEPS / 100) + noise(1)) == math.inf


def test_never_ahead():
    assert overtaking(np.full(len(STEPS), 0.1)) == 0
    assert overtaking(0.1 + noise(0)) == 0


def test_of_several_crossings_the_one_that_balances_the_others_counts():
    """Ahead until 0.4, behind for 0.05, ahead for another 0.25, behind for good from 0.7 on."""
    difference = np.where((STEPS < 400) | ((STEPS >= 450) & (STEPS < 700)), -0.3, 0.3)
    assert overtaking(difference, width=11) == pytest.approx(0.7, abs=0.003)
    assert overtaking(difference + noise(2), width=101) == pytest.approx(0.7, abs=0.05)


def test_overtaken_and_back_ahead_for_good_is_not_overtaken():
    difference = np.where((STEPS > 900) & (STEPS < 1000), 0.3, -0.3)
    assert overtaking(difference, width=11) == math.inf


def test_equal_curves_are_a_tie():
    assert overtaking(np.zeros(len(STEPS))) == math.inf


@pytest.mark.parametrize("steps", [1, 2])
@pytest.mark.parametrize("difference", [-0.1, 0, 0.1])
def test_the_shortest_runs_have_an_answer(steps, difference):
    """A single step is no verdict, since nothing tells how noisy it is; two equal differences have no noise."""
    default = np.full(steps, 2.0, dtype=np.float32)
    epoch = overtaking_epoch(default, default + np.float32(difference), 1, 1)
    assert epoch == (0 if steps == 2 and difference > 0 else math.inf)


FALSE_GAIN = math.exp(-9 / 2)  # the probability that the docstring of overtaking_epoch states


@pytest.mark.parametrize("steps, width, runs", [
    (100, 1, 1000), (100, 2, 1000), (100, 4, 1000), (200, 101, 1000), (2000, 2, 1000), (25_000, 1, 100),
    (25_000, 1001, 100)])
def test_noise_around_a_tie_is_not_overtaking(steps, width, runs):
    """If the stated probability holds, chance fails each of these cases with less than one of 1,000 seeds."""
    random = np.random.default_rng(0)
    epochs = [overtaking_epoch(np.zeros(steps), random.standard_normal(steps), width, STEPS_PER_EPOCH)
              for _ in range(runs)]
    assert sum(epoch != math.inf for epoch in epochs) <= stats.binom.ppf(0.999, runs, FALSE_GAIN)


def test_noise_around_a_tie_after_a_lead_is_not_overtaking():
    lead = np.where(STEPS < 500, -0.5, 0)
    epochs = [overtaking(lead + noise(seed)) for seed in range(300)]
    assert sum(epoch != math.inf for epoch in epochs) <= stats.binom.ppf(0.999, 300, FALSE_GAIN)
