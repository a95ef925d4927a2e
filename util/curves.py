"""What noisy loss curves say: smoothing and means."""
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
