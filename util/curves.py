"""What noisy loss curves say: smoothing, means, and when one overtakes another."""
from __future__ import annotations

import math

import numpy as np
from scipy.signal import fftconvolve
from scipy.signal.windows import gaussian


def smooth(losses: np.ndarray, width: int) -> np.ndarray:
    """Average (steps,) losses with Gaussian weights, `width` steps being +-3 sigma; the run is mirrored at its ends."""
    radius = width // 2
    kernel = gaussian(2 * radius + 1, std=width / 6)
    return fftconvolve(np.pad(losses.astype(np.float64), radius, mode="symmetric"), kernel / kernel.sum(), mode="valid")


def loss_around(losses: np.ndarray, step: float, width: int) -> float:
    """Return the mean loss over `width` steps (or one more, if odd) around a step, as far as they lie in the run."""
    centre, half = round(step), math.ceil(width / 2)
    return float(np.mean(losses[max(0, centre - half):centre + half], dtype=np.float64))


def final_loss(losses: np.ndarray) -> float:
    """Return the mean loss over the last tenth of the steps."""
    return float(np.mean(losses[-math.ceil(len(losses) / 10):], dtype=np.float64))


def overtaking_epoch(default: np.ndarray, other: np.ndarray, steps_per_epoch: int) -> float | None:
    """Find the epoch in which the default training overtakes another one of the same seed; None if it does not.

    Let D be the difference of the raw (steps,) losses, other minus default, and S its running sum. The other training
    gains on the default one until S is smallest; from there on, the default one gains: that step is the overtaking, if
    both gains exceed three standard errors of a sum of as many steps. The squared standard error of one step is half
    the mean square of D's successive differences, which the trend does not inflate (von Neumann, 1941). Between equally
    good trainings with independent noise, the gain at the end does so with a probability of exp(-9/2) = 1.1 % (a random
    walk seen from its minimum is a Brownian meander; Durrett, Iglehart and Miller, 1977), and both far more rarely.
    """
    difference = other.astype(np.float64) - default
    running_sum = np.concatenate([[0.0], np.cumsum(difference)])
    turn = int(running_sum.argmin())
    gain_before, gain_after = -running_sum[turn], running_sum[-1] - running_sum[turn]
    error = math.sqrt(np.square(np.diff(difference)).sum() / 2 / max(1, len(difference) - 1))
    both = gain_before > 3 * error * math.sqrt(turn) and gain_after > 3 * error * math.sqrt(len(difference) - turn)
    return turn / steps_per_epoch if both else None
