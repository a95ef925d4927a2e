"""The tables that the demo prints."""
from __future__ import annotations

import math
from statistics import mean, median, stdev
from typing import Sequence

import numpy as np

from util.experiment import Result
from util.layer_statistics import LayerStatistics


def preconditioner_table(statistics: list[LayerStatistics]) -> str:
    """Tabulate the analytic statistics of each layer, and the factors by which its gradients are multiplied."""
    rows = [["layer", "weight std", "bias std", "gradient std: weight", "bias", "preconditioner: weight", "bias"]]
    for layer in statistics:
        gradient = (layer.weight_gradient_std, layer.bias_gradient_std)
        numbers = [layer.weight_std, layer.bias_std, *gradient, *(1 / std for std in gradient)]
        rows.append([layer.name, *(f"{number:.4f}" for number in numbers)])
    return _table(rows)


def result_table(results: dict[str, list[Result]], overtaking: dict[str, list[float]]) -> str:
    """Tabulate each method's results, as mean ± standard deviation where there are several seeds.

    Args:
        results: by method, one for each seed.
        overtaking: by method, for each seed the epoch at which the default run overtakes it, from
            `util.curves.overtaking_epoch`.
    """
    rows = [["method", "training loss", "test loss", "test accuracy", "overtaken at epoch", "steps per second"]]
    for method, runs in results.items():
        losses = [float(np.mean(result.run.losses[-math.ceil(len(result.run.losses) / 10):])) for result in runs]
        rows.append([
            method,
            _spread(losses, ".3f"),
            _spread([result.test_loss for result in runs], ".3f"),
            _spread([100 * result.test_accuracy for result in runs], ".1f") + " %",
            _epochs(overtaking[method]) if method in overtaking else "",
            _spread([result.run.steps_per_second for result in runs], ".0f"),
        ])
    note = "training loss: over the last tenth of the steps"
    if any(len(runs) > 1 for runs in results.values()):
        note += "; ±: standard deviation over seeds; overtaken by the default run: median (range) over seeds"
    return f"{_table(rows)}\n({note})"


def drift_table(results: list[Result]) -> str:
    """Tabulate each layer's standard deviation of the weights after each epoch, relative to before training.

    Args:
        results: of one method, one for each seed; several are given as mean ± standard deviation.
    """
    epochs = len(next(iter(results[0].run.weight_std.values())))
    rows = [["weight std / before training", *(f"epoch {epoch}" for epoch in range(1, epochs))]]
    for layer in results[0].run.weight_std:
        stds = [result.run.weight_std[layer] for result in results]
        rows.append([layer, *(_spread([std[epoch] / std[0] for std in stds], ".3f") for epoch in range(1, epochs))])
    return _table(rows)


def _spread(values: Sequence[float], format: str) -> str:
    text = f"{mean(values):{format}}"
    return text if len(values) == 1 else f"{text} ± {stdev(values):{format}}"


def _epochs(epochs: list[float]) -> str:
    lowest, highest = _epoch(min(epochs)), _epoch(max(epochs))
    return lowest if lowest == highest else f"{_epoch(median(epochs))} ({lowest} to {highest})"


def _epoch(epoch: float) -> str:
    if epoch == math.inf:
        return "not overtaken"
    return "never ahead" if epoch == 0 else f"{epoch:.2f}"


def _table(rows: list[list[str]]) -> str:
    """Align columns: the first to the left, the others to the right."""
    widths = [max(map(len, column)) for column in zip(*rows)]
    lines = []
    for row in rows:
        cells = [row[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:]))]
        lines.append("  ".join(cells))
    return "\n".join(lines)
