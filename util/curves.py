"""What noisy loss curves say: smoothing, means, and when one overtakes another."""
from __future__ import annotations

import math

import numpy as np
from scipy.ndimage import gaussian_filter1d


def smooth(losses: np.ndarray, width: int) -> np.ndarray:
    """Average (steps,) losses with Gaussian weights, `width` steps being +-3 sigma; the run is mirrored at its ends."""
    return gaussian_filter1d(losses.astype(np.float64), sigma=width / 6, radius=width // 2, mode="reflect")


def loss_around(losses: np.ndarray, step: float, width: int) -> float:
    """Return the mean loss over `width` steps (or one more, if odd) around a step, as far as they lie in the run."""
    centre = round(step)
    half = math.ceil(width / 2)
    around = losses[max(0, centre - half):centre + half]
    return float(np.mean(around, dtype=np.float64))


def final_loss(losses: np.ndarray) -> float:
    """Return the mean loss over the last tenth of the steps."""
    steps = math.ceil(len(losses) / 10)
    return float(np.mean(losses[-steps:], dtype=np.float64))


def overtaking_epoch(default: np.ndarray, other: np.ndarray, steps_per_epoch: int) -> float | None:
    """Find the epoch from which on the default training gains on another one of the same seed; None if there is none.

    It is where the running sum of the difference of the raw (steps,) losses, other minus default, is smallest: up to
    there, the other training gains on the default one. Both gains must exceed three standard errors of a sum of as many
    steps, whose square is half the mean square of the difference's changes from step to step (von Neumann, 1941). This
    describes two curves and is no verdict on their methods: real losses wander, so that equal methods have such epochs.
    """
    difference = other.astype(np.float64) - default
    steps = len(difference)
    running_sum = np.concatenate([[0.0], np.cumsum(difference)])
    turn = int(running_sum.argmin())
    gain_before = running_sum[0] - running_sum[turn]
    gain_after = running_sum[-1] - running_sum[turn]

    squared_changes = np.square(np.diff(difference))
    error = math.sqrt(squared_changes.sum() / 2 / max(1, steps - 1))
    clear_before = gain_before > 3 * error * math.sqrt(turn)
    clear_after = gain_after > 3 * error * math.sqrt(steps - turn)
    return turn / steps_per_epoch if clear_before and clear_after else None
