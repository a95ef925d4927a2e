"""What a file of trainings says: outcomes, best learning rates, paired differences with their intervals."""
from __future__ import annotations

import math
from collections import Counter
from typing import Iterable, NamedTuple, Sequence

import numpy as np
from scipy import stats

from util.curves import loss_around
from util.study.methods import METHODS, PLAIN
from util.study.networks import NAMED, Network
from util.study.results import DIVERGED, Configuration, Sweep, TrialResult

OUTCOMES = ("around 0.1", "around 1", "last tenth", "test loss", "test accuracy, %")
EARLY = 0
PRIMARY = 2  # the mean training loss over the last tenth decides; all other outcomes are exploratory
TUNING_RATES = 3  # learning rates of a method, from which on a seed counts as one that it was tuned on
TRAINED = 2.29  # nats over the last tenth of a training, above which it has learnt nothing: guessing is ln 10 = 2.303


class Results:
    """All results of a file, by configuration and seed."""

    def __init__(self, results: Iterable[TrialResult]) -> None:
        self.by_seed: dict[Configuration, dict[int, TrialResult]] = {}
        for result in sorted(results, key=_place):
            self.by_seed.setdefault(result.trial.configuration, {})[result.trial.seed] = result
        self.networks = list(dict.fromkeys(configuration.network for configuration in self.by_seed))
        self.compared = self._compared()
        sweeps = dict.fromkeys(configuration.sweep for configuration in self.by_seed)
        self.best = {sweep: self._best_rate(sweep) for sweep in sweeps}
        self.reported = {configuration: self._reported(configuration) for configuration in self.by_seed}

    def rates(self, sweep: Sweep) -> list[Configuration]:
        """Return all configurations of a sweep, by ascending learning rate."""
        return [configuration for configuration in self.by_seed if configuration.sweep == sweep]

    def tuning_seeds(self, sweep: Sweep) -> set[int]:
        """Return the seeds at which enough learning rates of a sweep were trained to choose among them."""
        counts = Counter(seed for configuration in self.rates(sweep) for seed in self.by_seed[configuration])
        return {seed for seed, rates in counts.items() if rates >= TUNING_RATES}

    def tuning(self, configuration: Configuration) -> dict[int, TrialResult]:
        """Return what counts when the best learning rate is chosen, by seed: all results, if there was no tuning."""
        return _of_seeds(self.tuning_seeds(configuration.sweep), self.by_seed[configuration])

    def tuning_loss(self, configuration: Configuration) -> float:
        """Return the mean final loss that counts when the best learning rate is chosen; infinity if one diverged."""
        results = self.tuning(configuration).values()
        return float(np.mean([math.inf if result.diverged else result.final_loss for result in results]))

    def _best_rate(self, sweep: Sweep) -> Configuration:
        """Return the rate of the least `tuning_loss`, among those trained with all tuning seeds, if any."""
        rates = self.rates(sweep)
        tuning = self.tuning_seeds(sweep)
        tuned = [configuration for configuration in rates if tuning <= set(self.by_seed[configuration])]
        return min(tuned or rates, key=self.tuning_loss)

    def is_best(self, configuration: Configuration) -> bool:
        """Whether this is its sweep's best learning rate."""
        return self.best[configuration.sweep] == configuration

    def _reported(self, configuration: Configuration) -> dict[int, TrialResult]:
        """Return the reported results by seed: those by which the best learning rate was not chosen, if any."""
        by_seed = self.by_seed[configuration]
        tuning = self.tuning_seeds(configuration.sweep) if self.is_best(configuration) else set()
        return _of_seeds(by_seed.keys() - tuning, by_seed)

    def diverged(self, configuration: Configuration) -> int:
        """Return how many of the reported results diverged."""
        return sum(result.diverged for result in self.reported[configuration].values())

    def outcomes(self, configuration: Configuration) -> np.ndarray:
        """Return (seeds, outcomes) of the reported results."""
        return np.array([outcomes(result) for result in self.reported[configuration].values()])

    def members(self, kind: str) -> list[int | str]:
        """Return the depths, or the named networks, that were trained, in ascending order."""
        return sorted({network.member for network in self.networks if network.kind == kind})

    def _compared(self) -> dict[str, list[Network]]:
        """Return the networks that tables compare, by family: those with names, and all depths if there are several."""
        compared = {}
        for family, kind in {network.family: network.kind for network in self.networks}.items():
            members = self.members(kind)
            if family == NAMED or len(members) > 1:
                compared[family] = [Network(family, member) for member in members]
        return compared

    def references(self, method: str, rates: Sequence[float]) -> list[Configuration]:
        """Return a method in all networks, at some rates or else at its best one, unless a training diverged."""
        found = [each for each in self.by_seed if each.method == method and not self.diverged(each)]
        if rates:
            return [each for each in found if each.learning_rate in rates]
        return list(filter(self.is_best, found))

    def pairs(self) -> list[tuple[Configuration, Configuration]]:
        """Return each preconditioned method and its initialization alone in the same network, at their best rates."""
        pairs = []
        for (method, network, decay), best in self.best.items():
            alone = self.best.get((PLAIN.get(METHODS[method]), network, decay))
            if alone:
                pairs.append((best, alone))
        return pairs

    def paired(self, configuration: Configuration,
               reference: Configuration) -> list[tuple[TrialResult, TrialResult]]:
        """Return the reported results in pairs of the same seed, and so of the same minibatches.

        There are none if a reported training diverged, or if there is only one pair, since a test needs two.
        """
        if self.diverged(configuration) or self.diverged(reference):
            return []
        ours, theirs = self.reported[configuration], self.reported[reference]
        pairs = [(ours[seed], theirs[seed]) for seed in ours if seed in theirs]
        return pairs if len(pairs) > 1 else []

    def differences(self, configuration: Configuration, reference: Configuration) -> np.ndarray:
        """Return (seeds, outcomes) paired differences, configuration minus reference; see `paired`."""
        differences = [outcomes(ours) - outcomes(theirs) for ours, theirs in self.paired(configuration, reference)]
        return np.reshape(differences, (-1, len(OUTCOMES)))

    def overtaken(self, configuration: Configuration) -> float | None:
        """Return the `overtaking_epoch` of the default training in the same network, at its best rate."""
        default = self.best.get(("default", configuration.network, configuration.decay))
        pairs = self.paired(configuration, default) if default else []
        if not pairs:
            return None
        differences = [np.subtract(ours.losses, theirs.losses) for ours, theirs in pairs]
        return overtaking_epoch(np.array(differences), _parts_per_epoch(pairs[0][0]))

    def growth(self, configuration: Configuration) -> np.ndarray:
        """Return (3, layers) geometric means of growths: weights, gradients measured, predicted; else nothing."""
        growths = [result.growths for result in self.reported[configuration].values() if any(result.growths)]
        return np.prod(growths, axis=0) ** (1 / len(growths)) if growths else np.empty(0)


def _place(result: TrialResult) -> tuple[object, ...]:
    method, (family, member), decay, learning_rate = result.trial.configuration
    return family, decay, member, list(METHODS).index(method), learning_rate, result.trial.seed


def _of_seeds(seeds: set[int], by_seed: dict[int, TrialResult]) -> dict[int, TrialResult]:
    """Return the results of some seeds, all if there are none."""
    return {seed: result for seed, result in by_seed.items() if seed in seeds} or by_seed


def _parts_per_epoch(result: TrialResult) -> float:
    return len(result.losses) / result.trial.epochs


def outcomes(result: TrialResult) -> np.ndarray:
    """Return a training's `OUTCOMES`; "around" an epoch is the mean loss over 4 % of the training."""
    losses = np.array(result.losses)
    width = max(1, len(losses) // 25)
    epoch = _parts_per_epoch(result)
    around = loss_around(losses, epoch / 10, width), loss_around(losses, epoch, width)
    return np.array([*around, result.final_loss, result.test_loss, 100 * result.test_accuracy])


class Interval(NamedTuple):
    """The mean of n values, its 95 % interval by Student's t (n - 1), and whether it may be 0."""

    mean: float
    half: float  # width
    p_value: float  # of a mean of 0

    def __str__(self) -> str:
        return f"{self.mean:+.3f} ± {self.half:.3f}"


def interval(values: np.ndarray) -> Interval:
    """Return the interval of the mean of (n,) values."""
    test = stats.ttest_1samp(values, 0)
    mean = values.mean()
    return Interval(mean, mean - test.confidence_interval().low, test.pvalue)


def overtaking_epoch(differences: np.ndarray, parts_per_epoch: float) -> float | None:
    """Find the epoch from which on another training gains on a method; None if it does not overtake.

    Let S be the running sum of the (seeds, parts) differences of losses, method minus other, for each seed. The method
    gains on the other one until S, averaged over the seeds, is smallest; from there on, the other one gains. It
    overtakes if both gains are greater than 0 by one-sided t-tests over the seeds, each with p < 0.05. That the minimum
    is sought on the same seeds favours both tests; that both must succeed makes up for it: among 13 default trainings,
    five against five others, chance overtakes in 0.2 % of all comparisons.
    """
    running_sums = np.pad(differences, ((0, 0), (1, 0))).cumsum(axis=1)  # which begin with 0
    turn = running_sums.mean(axis=0).argmin()
    lead, gain = -running_sums[:, turn], running_sums[:, -1] - running_sums[:, turn]
    if not lead.any() or not gain.any():
        return None
    p_values = [stats.ttest_1samp(values, 0, alternative="greater").pvalue for values in (lead, gain)]
    return turn / parts_per_epoch if max(p_values) < 0.05 else None


def holm(p_values: Sequence[float]) -> np.ndarray:
    """Return p-values adjusted for one family (Holm, 1979): the k-th smallest of n times n - k + 1, made monotone."""
    factors = np.arange(len(p_values), 0, -1)
    adjusted = np.maximum.accumulate(np.sort(p_values) * factors)
    ranks = np.argsort(np.argsort(p_values))
    return np.minimum(adjusted, 1)[ranks]


def good_rates(rates: Sequence[float], losses: Sequence[float]) -> tuple[float, float]:
    """Return the lowest and highest rate at which the loss is within 0.1 of the best, interpolated in log(rate).

    Between them, it may be worse: a gap is passed over.
    """
    between = np.geomspace(rates[0], rates[-1], 10_001)
    finite = np.minimum(losses, DIVERGED)
    interpolated = np.interp(np.log(between), np.log(rates), finite)
    good = between[interpolated <= min(losses) + 0.1]
    return good[0], good[-1]
