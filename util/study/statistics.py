"""What a folder of trainings says: outcomes, best learning rates, paired differences with their intervals."""
from __future__ import annotations

import math
from typing import NamedTuple, Sequence

import numpy as np
from scipy import stats

from util.curves import final_loss, loss_around, overtaking_epoch
from util.runs import Run
from util.training import MINIBATCH

OUTCOMES = ("around 0.1", "around 1", "last tenth", "test loss", "test accuracy, %")
LAYERS = ("conv1", "conv2", "fc1", "fc2", "fc3")  # of the network, whose parameters are weight and bias of each
PRIMARY = 2  # the mean training loss over the last tenth decides; all other outcomes are exploratory


class Contender(NamedTuple):
    """A method at a learning rate, constant or decaying; it has a training for each seed."""

    method: str
    decay: bool
    learning_rate: float

    def __str__(self) -> str:
        return f"{self.method}{'-decay' if self.decay else ''}={self.learning_rate:g}"


class Results:
    """All trainings of a folder, and what is computed of them once, by contender and seed."""

    def __init__(self, runs: Sequence[Run]) -> None:
        self.runs = {}
        for run in sorted(runs, key=lambda run: (run.training.decay, run.training)):
            contender = Contender(run.training.method, run.training.decay, run.training.learning_rate)
            self.runs.setdefault(contender, {})[run.training.seed] = run
        self.outcomes = {contender: {seed: outcomes(run) for seed, run in by_seed.items()}
                         for contender, by_seed in self.runs.items()
                         if not any(run.diverged for run in by_seed.values())}
        self.final = {contender: np.mean([values[PRIMARY] for values in by_seed.values()])
                      for contender, by_seed in self.outcomes.items()}
        self.best = {}  # by method and decay
        for contender in sorted(self.final, key=self.final.get):
            self.best.setdefault(contender[:2], contender)

    def best_of(self, decay: bool) -> list[Contender]:
        """Return each method at its best learning rate of a schedule."""
        return sorted(contender for contender in self.best.values() if contender.decay == decay)

    def reference(self, text: str, decay: bool) -> Contender | None:
        """Return what METHOD=RATE means, or METHOD: at its best learning rate of a schedule."""
        return {str(contender): contender for contender in self.final}.get(text, self.best.get((text, decay)))

    def rates_and_losses(self, contender: Contender) -> list[tuple[float, float]]:
        """Return its method's learning rates, ascending, with their final losses; infinity where one diverged."""
        return [(each.learning_rate, self.final.get(each, math.inf))
                for each in self.runs if each[:2] == contender[:2]]

    def overtakings(self, contender: Contender) -> list[float | None]:
        """Return, for each seed, when the best default training of the same schedule overtakes."""
        default = self.runs.get(self.best.get(("default", contender.decay)), {})
        return [overtaking_epoch(default[seed].losses, run.losses, run.training.images // MINIBATCH)
                for seed, run in self.runs[contender].items() if seed in default]

    def differences(self, contender: Contender, reference: Contender | None) -> np.ndarray:
        """Return (seeds, outcomes) paired differences, contender minus reference: same seed, same minibatches."""
        ours, theirs = self.outcomes[contender], self.outcomes.get(reference, {})
        return np.array([ours[seed] - theirs[seed] for seed in ours if seed in theirs])

    def growth(self, contender: Contender) -> np.ndarray:
        """Return (3, layers) geometric means of last / first: weights, gradients measured, predicted; else nothing."""
        scales = [run.scales for run in self.runs.get(contender, {}).values() if run.scales.size]
        return stats.gmean([each[-1] / each[0] for each in scales], axis=0)[:, ::2] if scales else np.empty(0)


def outcomes(run: Run) -> np.ndarray:
    """Return a training's `OUTCOMES`; "around" an epoch is the mean loss over 4 % of all steps, 1,000 in two epochs."""
    steps_per_epoch = run.training.images // MINIBATCH
    around = [loss_around(run.losses, epoch * steps_per_epoch, max(1, len(run.losses) // 25)) for epoch in (0.1, 1)]
    return np.array([*around, final_loss(run.losses), run.test_loss, 100 * run.test_accuracy])


def interval(values: np.ndarray) -> tuple[float, float, float]:
    """Return the mean of n values, the half width of its 95 % interval by Student's t (n - 1), and the p-value of 0."""
    test = stats.ttest_1samp(values, 0)
    return values.mean(), values.mean() - test.confidence_interval().low, test.pvalue


def holm(p_values: Sequence[float]) -> np.ndarray:
    """Return p-values adjusted for one family (Holm, 1979): the k-th smallest of n times n - k + 1, made monotone."""
    order = np.argsort(p_values)
    adjusted = np.empty(len(order))
    adjusted[order] = np.minimum(np.maximum.accumulate(np.array(p_values)[order] * np.arange(len(order), 0, -1)), 1)
    return adjusted


def good_rates(rates: Sequence[float], losses: Sequence[float]) -> tuple[float, float]:
    """Return the lowest and highest rate at which the loss is within 0.1 of the best, interpolated in log(rate)."""
    between = np.geomspace(rates[0], rates[-1], 10_001)
    interpolated = np.interp(np.log(between), np.log(rates), np.minimum(losses, 10))  # instead of infinity
    good = between[interpolated <= min(losses) + 0.1]
    return float(good[0]), float(good[-1])
