"""What a file of trainings says: outcomes, best learning rates, paired differences with their intervals."""
from __future__ import annotations

import math
from typing import Sequence

import numpy as np
from scipy import stats

from util.curves import final_loss, loss_around, overtaking_epoch
from util.study.methods import METHODS
from util.study.results import Contender, Run

OUTCOMES = ("around 0.1", "around 1", "last tenth", "test loss", "test accuracy, %")
EARLY = 0
PRIMARY = 2  # the mean training loss over the last tenth decides; all other outcomes are exploratory
TRAINED = 2.29  # nats over the last tenth of a training, above which it has learnt nothing: guessing is ln 10 = 2.303
PAIRS = {  # a preconditioned method, and the same initialization with plain gradients
    "preconditioner-only": "default",
    "preconditioned": "initialization-only",
    "preconditioned-zero-bias": "initialization-zero-bias",
    "preconditioned-half-bias": "initialization-half-bias",
}
ORDER = list(METHODS)


class Results:
    """All trainings of a file, by contender and seed."""

    def __init__(self, runs: Sequence[Run]) -> None:
        self.runs: dict[Contender, dict[int, Run]] = {}
        for run in sorted(runs, key=_place):
            self.runs.setdefault(run.training.contender, {})[run.training.seed] = run
        self.best = {}  # by group
        for group in dict.fromkeys(contender.group for contender in self.runs):
            self.best[group] = self._best_rate(group)

    def rates(self, group: tuple[str, bool, int]) -> list[Contender]:
        """Return all contenders of a group, by ascending learning rate."""
        return [contender for contender in self.runs if contender.group == group]

    def tuning_seeds(self, group: tuple[str, bool, int]) -> set[int]:
        """Return the seeds that all learning rates of a group have in common; none if there is only one rate."""
        seeds = [set(self.runs[contender]) for contender in self.rates(group)]
        return set.intersection(*seeds) if len(seeds) > 1 else set()

    def tuning_loss(self, contender: Contender) -> float:
        """Return the mean final loss over the tuning seeds, or else all seeds; infinity if one diverged."""
        runs = self.runs[contender]
        seeds = self.tuning_seeds(contender.group) or set(runs)
        return float(np.mean([math.inf if runs[seed].diverged else outcomes(runs[seed])[PRIMARY] for seed in seeds]))

    def _best_rate(self, group: tuple[str, bool, int]) -> Contender:
        return min(self.rates(group), key=self.tuning_loss)

    def is_best(self, contender: Contender) -> bool:
        """Whether this is its method's best learning rate."""
        return self.best[contender.group] == contender

    def best_of(self, decay: bool, depth: int) -> list[Contender]:
        """Return each method at its best learning rate of a schedule and depth."""
        return [contender for contender in self.best.values() if contender.setting == (decay, depth)]

    def seeds(self, contender: Contender) -> list[int]:
        """Return the seeds to report on: those that the best learning rate was not chosen by, if there are any."""
        seeds = set(self.runs[contender])
        if self.is_best(contender):
            seeds = seeds - self.tuning_seeds(contender.group) or seeds
        return sorted(seeds)

    def reported(self, contender: Contender) -> list[Run]:
        """Return the trainings to report on."""
        return [self.runs[contender][seed] for seed in self.seeds(contender)]

    def diverged(self, contender: Contender) -> int:
        """Return how many of the trainings to report on diverged."""
        return sum(run.diverged for run in self.reported(contender))

    def outcomes(self, contender: Contender) -> np.ndarray:
        """Return (seeds, outcomes) of the trainings to report on."""
        return np.array([outcomes(run) for run in self.reported(contender)])

    def settings(self) -> list[tuple[bool, int]]:
        """Return the schedules and depths that were trained."""
        return list(dict.fromkeys(contender.setting for contender in self.runs))

    def depths(self) -> list[int]:
        """Return the depths that were trained, ascending."""
        return sorted({contender.depth for contender in self.runs})

    def references(self, method: str, rate: float | None) -> list[Contender]:
        """Return a method for each schedule and depth, at a rate or at the best one, unless a training diverged."""
        found = []
        for decay, depth in self.settings():
            best = self.best.get((method, decay, depth))
            reference = best if rate is None else Contender(method, decay, depth, rate)
            if reference in self.runs and not self.diverged(reference):
                found.append(reference)
        return found

    def differences(self, contender: Contender, reference: Contender) -> np.ndarray:
        """Return (seeds, outcomes) paired differences, contender minus reference: same seed, same minibatches.

        Nothing if one of the trainings to report on diverged, or if there are no two pairs, as an interval needs.
        """
        if self.diverged(contender) or self.diverged(reference):
            return np.empty((0, len(OUTCOMES)))
        ours, theirs = self.runs[contender], self.runs[reference]
        seeds = [seed for seed in self.seeds(contender) if seed in self.seeds(reference)]
        pairs = [outcomes(ours[seed]) - outcomes(theirs[seed]) for seed in seeds]
        return np.array(pairs) if len(pairs) > 1 else np.empty((0, len(OUTCOMES)))

    def all_differences(self, contenders: Sequence[Contender], reference: Contender) -> dict[Contender, np.ndarray]:
        """Return the differences of all other contenders that have some."""
        found = {}
        for contender in contenders:
            if contender != reference:
                differences = self.differences(contender, reference)
                if len(differences):
                    found[contender] = differences
        return found

    def overtakings(self, contender: Contender) -> list[float | None]:
        """Return when the default training of the same schedule and depth, at its best rate, overtakes.

        There is an entry for each seed that both have, and with which neither diverged.
        """
        default = self.best.get(("default", *contender.setting))
        found = []
        for run in self.reported(contender):
            other = self.runs[default].get(run.training.seed) if default else None
            if other and not other.diverged and not run.diverged:
                found.append(overtaking_epoch(np.array(other.losses), np.array(run.losses), _parts_per_epoch(run)))
        return found

    def growth(self, contender: Contender) -> np.ndarray:
        """Return (3, layers) geometric means of growths: weights, gradients measured, predicted; else nothing."""
        growths = [(run.weight_growth, run.measured_gradient_growth, run.predicted_gradient_growth)
                   for run in self.reported(contender) if run.weight_growth]
        return stats.gmean(growths, axis=0) if growths else np.empty(0)


def _place(run: Run) -> tuple[object, ...]:
    training = run.training
    return training.decay, training.depth, ORDER.index(training.method), training.learning_rate, training.seed


def _parts_per_epoch(run: Run) -> float:
    return len(run.losses) / run.training.epochs


def outcomes(run: Run) -> np.ndarray:
    """Return a training's `OUTCOMES`; "around" an epoch is the mean loss over 4 % of the training."""
    losses = np.array(run.losses)
    width = max(1, len(losses) // 25)
    early, later = (loss_around(losses, epoch * _parts_per_epoch(run), width) for epoch in (0.1, 1))
    return np.array([early, later, final_loss(losses), run.test_loss, 100 * run.test_accuracy])


def interval(values: np.ndarray) -> tuple[float, float, float]:
    """Return the mean of n values, the half width of its 95 % interval by Student's t (n - 1), and the p-value of 0."""
    test = stats.ttest_1samp(values, 0)
    mean = values.mean()
    return mean, mean - test.confidence_interval().low, test.pvalue


def holm(p_values: Sequence[float]) -> np.ndarray:
    """Return p-values adjusted for one family (Holm, 1979): the k-th smallest of n times n - k + 1, made monotone."""
    order = np.argsort(p_values)
    factors = np.arange(len(order), 0, -1)
    ascending = np.array(p_values, dtype=float)[order] * factors
    adjusted = np.empty(len(order))
    adjusted[order] = np.minimum(np.maximum.accumulate(ascending), 1)
    return adjusted


def good_rates(rates: Sequence[float], losses: Sequence[float]) -> tuple[float, float]:
    """Return the lowest and highest rate at which the loss is within 0.1 of the best, interpolated in log(rate).

    Between them, it may be worse: a gap is passed over.
    """
    between = np.geomspace(rates[0], rates[-1], 10_001)
    finite = np.minimum(losses, 10)  # instead of infinity
    interpolated = np.interp(np.log(between), np.log(rates), finite)
    good = between[interpolated <= min(losses) + 0.1]
    return float(good[0]), float(good[-1])
