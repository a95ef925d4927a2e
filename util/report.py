"""The tables that the demo prints."""
from __future__ import annotations

import math
from itertools import zip_longest
from statistics import median_low
from typing import Sequence

import numpy as np

from util.comparison import Contender, Runs, best_of_each_method, final_loss, several_rates, without_divergence
from util.curves import overtaking_epoch
from util.signal_propagation import LayerStatistics
from util.training import TrainingRun


def preconditioner_table(statistics: list[LayerStatistics]) -> str:
    """Tabulate the analytic statistics of each layer, and the factors of the static preconditioner."""
    rows = [["layer", "weight std", "bias std", "gradient std: weight", "bias", "preconditioner: weight", "bias"]]
    for layer in statistics:
        gradient = (layer.weight_gradient_std, layer.bias_gradient_std)
        numbers = [layer.weight_std, layer.bias_std, *gradient, *(1 / std for std in gradient)]
        rows.append([layer.name, *(f"{number:.4f}" for number in numbers)])
    return _table(rows)


def finished_line(seed: int, contender: Contender, run: TrainingRun, left: int, seconds: float) -> str:
    """Say how a training went, how many are left, and about how long these take."""
    return (f"{contender} seed {seed}: training loss {final_loss(run):.3f}, test loss {run.test_loss:.3f}, "
            f"test accuracy {run.test_accuracy:.1%}; {left} left, about {seconds / 60:.0f} min")


def result_tables(runs: Runs, statistics: list[LayerStatistics], width: int, steps_per_epoch: int) -> str:
    """Tabulate all results: of each contender, differences between methods, and what became of the gradients' scales.

    Args:
        runs: of all contenders.
        statistics: from `util.signal_propagation`, for the layers' names.
        width: of the smoothing, in steps; rounded up to an even number, also of the windows around an epoch.
        steps_per_epoch: steps in an epoch.
    """
    best = best_of_each_method(runs)
    parts = ["\n".join([result_table(runs, width, steps_per_epoch), *edge_warnings(runs)])]
    several_seeds = len(next(iter(runs.values()))) > 1
    references = [method for method in ("default", "initialization-only", "preconditioned") if method in best]
    if several_seeds and len(best) > 1:
        for reference in references if len(best) > 2 else references[:1]:  # of two methods, one difference says all
            parts.append(difference_table(runs, reference, width, steps_per_epoch))
    layers = [layer.name for layer in statistics]
    parts += [gradient_table(contender, runs[contender], layers) for contender in best.values()]
    return "\n\n".join(parts)


def result_table(runs: Runs, width: int, steps_per_epoch: int) -> str:
    """Tabulate each contender's results, as mean ± standard deviation where there are several seeds."""
    best = best_of_each_method(runs)
    names, outcomes = _outcomes(runs, width, steps_per_epoch)
    rows = [["method=learning rate", *names, "overtaken at epoch", "steps per second"]]
    for contender, several in runs.items():
        label = f"{contender} *" if several_rates(runs) and best.get(contender.method) == contender else str(contender)
        if contender not in outcomes:
            rows.append([label, f"diverged at step {min(len(run.losses) for run in several if run.diverged)}"])
            continue
        overtaking = ""
        if contender.method != "default" and "default" in best:
            overtaking = _epochs([overtaking_epoch(default.losses, run.losses, width, steps_per_epoch)
                                  for default, run in zip(runs[best["default"]], several)])
        *losses, accuracy = outcomes[contender].T
        rows.append([label, *(_spread(loss, ".3f") for loss in losses), _spread(accuracy, ".1f") + " %", overtaking,
                     _spread([run.steps_per_second for run in several], ".0f")])
    notes = ["losses are in nats; around an epoch: mean training loss over the smoothing window"]
    if len(several) > 1:
        notes.append("±: standard deviation over seeds; overtaken by the default run: median (range) over seeds")
    if several_rates(runs):
        notes.append("*: the method's best learning rate, by the training loss over the last tenth of the steps")
    return "\n".join([_table(rows), *(f"({note})" for note in notes)])


def edge_warnings(runs: Runs) -> list[str]:
    """Say of each method with several learning rates whether the best is at an edge of them."""
    warnings = []
    for method, best in best_of_each_method(runs).items():
        rates = [contender.learning_rate for contender in runs if contender.method == method]
        if len(rates) > 1 and best.learning_rate in (min(rates), max(rates)):
            warnings.append(f"{best} is the best of its method, but at the edge of the learning rates that were tried")
    return warnings


def difference_table(runs: Runs, reference: str, width: int, steps_per_epoch: int) -> str:
    """Tabulate how each method at its best rate differs from a reference method that saw the same minibatches."""
    best = best_of_each_method(runs)
    names, outcomes = _outcomes(runs, width, steps_per_epoch)
    rows = [[f"minus {best[reference]}", *names]]
    for method, contender in best.items():
        if method != reference:
            *losses, accuracy = (outcomes[contender] - outcomes[best[reference]]).T
            rows.append([str(contender), *(_with_error(loss, "+.3f") for loss in losses),
                         _with_error(accuracy, "+.2f") + " %"])
    return f"{_table(rows)}\n(paired: same seed, same minibatches; ±: standard error of the mean over seeds)"


def gradient_table(contender: Contender, several: list[TrainingRun], layers: Sequence[str]) -> str:
    """Tabulate how the scales of gradients and weights change while a network is trained.

    Args:
        contender, several: its runs, one for each seed; several are given as mean ± standard deviation.
        layers: the names of the weight layers, each of which has a weight and a bias.
    """
    first, *others = [f"epoch {epoch}" for epoch in range(1, len(several[0].gradient_rms))]
    rows = [["", "static: before", first, *others, f"now: {first}", *others, f"weights: {first}", *others]]
    to_static = np.array([run.gradient_rms / run.predicted_rms[0] for run in several])
    to_current = np.array([run.gradient_rms / run.predicted_rms for run in several])
    growth = np.array([run.weight_rms / run.weight_rms[0] for run in several])
    for tensor, name in enumerate(f"{layer}.{kind}" for layer in layers for kind in ("weight", "bias")):
        gradients = [*to_static[:, :, tensor].T, *to_current[:, 1:, tensor].T]
        weights = [] if name.endswith("bias") else [*growth[:, 1:, tensor // 2].T]
        rows.append([name, *(_spread(values, ".2f") for values in gradients + weights)])
    return (f"{contender}: measured gradients relative to predicted ones, and how the weights grow\n{_table(rows)}\n"
            "(static: gradient / prediction before training; now: gradient / prediction of that time; weights: "
            "weight / before; all RMS)")


def _outcomes(runs: Runs, width: int, steps_per_epoch: int) -> tuple[list[str], dict[Contender, np.ndarray]]:
    """Return the outcomes' names, and (seeds, outcomes) values of each contender that did not diverge with any seed."""
    finished = without_divergence(runs)
    total = max((len(several[0].losses) for several in finished.values()), default=0) / steps_per_epoch
    epochs = [0.1, total / 2, total] if finished else []
    half = math.ceil(width / 2)

    def outcome(run: TrainingRun) -> list[float]:
        centres = [round(epoch * steps_per_epoch) for epoch in epochs]
        around = [np.mean(run.losses[max(0, centre - half):centre + half], dtype=np.float64) for centre in centres]
        return [*around, final_loss(run), run.test_loss, 100 * run.test_accuracy]

    names = [*(f"loss around {epoch:g}" for epoch in epochs), "last tenth", "test loss", "test accuracy"]
    return names, {contender: np.array([outcome(run) for run in several]) for contender, several in finished.items()}


def _spread(values: Sequence[float], format: str) -> str:
    text = f"{np.mean(values):{format}}"
    return text if len(values) == 1 else f"{text} ± {np.std(values, ddof=1):{format}}"


def _with_error(values: Sequence[float], format: str) -> str:
    return f"{np.mean(values):{format}} ± {np.std(values, ddof=1) / math.sqrt(len(values)):{format[1:]}}"


def _epochs(epochs: list[float]) -> str:
    lowest, highest = _epoch(min(epochs)), _epoch(max(epochs))
    return lowest if lowest == highest else f"{_epoch(median_low(epochs))} ({lowest} to {highest})"


def _epoch(epoch: float) -> str:
    if epoch == math.inf:
        return "not overtaken"
    return "never ahead" if epoch == 0 else f"{epoch:.2f}"


def _table(rows: list[list[str]]) -> str:
    """Align columns: the first to the left, the others to the right. A row may end early."""
    widths = [max(map(len, column)) for column in zip_longest(*rows, fillvalue="")]
    lines = []
    for first, *others in rows:
        cells = [first.ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(others, widths[1:]))]
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines)
