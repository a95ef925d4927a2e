"""What is compared: methods at learning rates; and which learning rate is each method's best."""
from __future__ import annotations

import math
from statistics import mean
from typing import Dict, List, NamedTuple

import numpy as np

from util.training import TrainingRun


class Contender(NamedTuple):
    """A method at a learning rate; each of its seeds makes one training run."""

    method: str
    learning_rate: float

    def __str__(self) -> str:
        return f"{self.method}={self.learning_rate:g}"


Runs = Dict[Contender, List[TrainingRun]]  # the runs of each contender, one for each seed, in the order of the seeds


def several_rates(contenders: list[Contender] | Runs) -> bool:
    """Say whether a method has more than one learning rate, of which the best is to be found."""
    return len(contenders) > len({contender.method for contender in contenders})


def final_loss(run: TrainingRun) -> float:
    """Return the mean training loss over the last tenth of the steps; infinity if the training diverged."""
    if run.diverged:
        return math.inf
    return float(np.mean(run.losses[-math.ceil(len(run.losses) / 10):], dtype=np.float64))


def without_divergence(runs: Runs) -> Runs:
    """Return the runs of the contenders no training of which diverged."""
    return {contender: several for contender, several in runs.items() if not any(run.diverged for run in several)}


def best_of_each_method(runs: Runs) -> dict[str, Contender]:
    """Return, by method, the contender with the lowest final loss, on average over the seeds.

    A method is left out if each of its learning rates let a training diverge.
    """
    losses = {contender: mean(map(final_loss, several)) for contender, several in without_divergence(runs).items()}
    best = {}
    for method in dict.fromkeys(contender.method for contender in runs):
        candidates = [contender for contender in losses if contender.method == method]
        if candidates:
            best[method] = min(candidates, key=losses.__getitem__)
    return best
