"""The raw losses of every run as arrays that `numpy.load` reads without pickle."""
from __future__ import annotations

import numpy as np

from util.experiment import Experiment, Result
from util.training import MINIBATCH, MOMENTUM


def pack(experiments: list[Experiment], results: list[Result]) -> dict[str, np.ndarray]:
    """Name the losses of all runs, and the settings that led to them, for `numpy.savez`.

    Returns:
        "losses_METHOD_seed_N": (steps,) float32 for each run, with "learning_rate_METHOD", and the settings that are
        common to all: "dataset", "images", "epochs", "minibatch" (images a step), "momentum". Spaces in METHOD are
        replaced by underscores.
    """
    common = experiments[0]
    arrays = {"dataset": np.array(common.source), "images": np.array(common.images), "epochs": np.array(common.epochs),
              "minibatch": np.array(MINIBATCH), "momentum": np.array(MOMENTUM)}
    for experiment, result in zip(experiments, results):
        method = experiment.method.replace(" ", "_")
        arrays[f"learning_rate_{method}"] = np.array(experiment.learning_rate)
        arrays[f"losses_{method}_seed_{experiment.seed}"] = result.run.losses
    return arrays
