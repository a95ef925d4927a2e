"""What two noisy loss curves say: smoothing, and when one overtakes the other."""
from __future__ import annotations

import math

import numpy as np
from scipy.signal import convolve
from scipy.signal.windows import gaussian


def smoothing_radius(width: int) -> int:
    """Return how many steps on each side of a step `smooth` averages over."""
    return (width - 1) // 2


def smooth(losses: np.ndarray, width: int) -> np.ndarray:
    """Average losses with Gaussian weights.

    Args:
        losses: (steps,) floats.
        width: of the window in steps, which spans +-3 standard deviations of the Gaussian.

    Returns:
        (steps - 2 radius,) floats, radius = `smoothing_radius(width)`: an average for each step whose window lies
        within the run. Entry i belongs to step i + radius.

    Raises:
        ValueError: if the window is wider than the run.
    """
    if width > len(losses):
        raise ValueError(f"a smoothing window of {width} steps is wider than the run of {len(losses)} steps")
    kernel = gaussian(2 * smoothing_radius(width) + 1, std=width / 6)
    return convolve(losses.astype(np.float64), kernel / kernel.sum(), mode="valid")


def overtaking_epoch(default: np.ndarray, other: np.ndarray, width: int, steps_per_epoch: int) -> float:
    """Find when the default run overtakes another run of the same seed, which saw the same minibatches.

    Let D be the difference of the two smoothed curves, other minus default, and S its running sum over the steps. The
    other run gains on the default run until S is smallest; from there on, the default run gains. That step is the
    overtaking: where D crosses zero once, it is the crossing, and where noise makes D cross zero several times, the
    crossing that balances them all. A gain counts if it exceeds three standard errors of a sum of as many steps. The
    standard error of one step is taken from the unsmoothed difference, as half the mean square of its successive
    differences, which the trend does not inflate (von Neumann, 1941). Between two equally good runs, either gain counts
    with a probability of exp(-9/2) = 1.1 %: a random walk seen from its minimum is a Brownian meander, whose end is
    Rayleigh distributed (Durrett, Iglehart and Miller, 1977).

    Args:
        default, other: (steps,) floats, the two runs' raw losses.
        width: of the smoothing, in steps.
        steps_per_epoch: steps in an epoch.

    Returns:
        The overtaking in epochs; infinity if the default run makes no gain at the end, so that it does not overtake;
        0 if it does, but the other run makes none before, so that there is nothing to overtake.
    """
    difference = other.astype(np.float64) - default
    if len(difference) < 2:
        return math.inf  # a single step does not tell a gain from noise
    smoothed = smooth(difference, width)
    noise = math.sqrt(np.mean(np.diff(difference) ** 2) / 2)
    running_sum = np.concatenate([[0.0], np.cumsum(smoothed)])
    turn = int(running_sum.argmin())
    gain_before, gain_after = -running_sum[turn], running_sum[-1] - running_sum[turn]
    if gain_after <= 3 * noise * math.sqrt(len(smoothed) - turn):
        return math.inf
    if gain_before <= 3 * noise * math.sqrt(turn):
        return 0.0
    return (turn + smoothing_radius(width)) / steps_per_epoch
