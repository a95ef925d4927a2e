"""The tables that the study prints, in Markdown."""
from __future__ import annotations

from typing import Callable, Iterator, Sequence

import numpy as np

from util.network import TUTORIAL_DEPTH
from util.study.statistics import (EARLY, ORDER, OUTCOMES, PAIRS, PRIMARY, TRAINED, Contender, Results, good_rates,
                                   holm, interval)
from util.study.theory import INITIALIZATIONS, Ends, ends

LAYERS = ("conv1", "conv2", "fc1", "fc2", "fc3")  # of the network at the tutorial's depth
QUANTITIES = ("weights", "gradients, measured", "gradients, predicted")


def tables(results: Results, method: str, rate: float | None) -> Iterator[str]:
    """Yield all tables that have rows; `method` and `rate` are the reference, None being its best rate."""
    return filter(None, all_tables(results, method, rate))


def all_tables(results: Results, method: str, rate: float | None) -> Iterator[str]:
    """Yield all tables, "" for those without rows."""
    depths = results.depths()
    if len(depths) > 1:
        for decay in (False, True):
            yield from depth_tables(results, decay)
        yield gradient_table(depths)
        yield difference_left_table(depths)
    yield outcome_table(results)
    yield rate_table(results)
    for reference in results.references(method, rate):
        best = results.best_of(*reference.setting)
        same = [contender for contender in results.runs if contender.setting == reference.setting]
        yield difference_table(results, reference, best if rate is None else same)
    yield growth_table(results)


def depth_tables(results: Results, decay: bool) -> Iterator[str]:
    """Yield where each method trains, and what the preconditioner adds."""
    if any(setting[0] == decay for setting in results.settings()):
        yield depth_table(results, decay)
        yield pair_table(results, decay)


def depth_table(results: Results, decay: bool) -> str:
    """Tabulate final losses by method and depth, and how many trainings learnt anything if not all did."""
    rows = []
    for method in ORDER:
        cells = [_depth_cell(results, results.best.get((method, decay, depth))) for depth in results.depths()]
        if any(cells):
            rows.append([f"`{method}`", *cells])
    return markdown(["last tenth, at depth", *results.depths()], rows)


def _depth_cell(results: Results, contender: Contender | None) -> str:
    if contender is None:
        return ""
    losses = results.outcomes(contender)[:, PRIMARY]
    if results.diverged(contender):
        return f"diverged: {results.diverged(contender)} of {len(losses)}"
    trained = int((losses <= TRAINED).sum())
    cell = mean_and_spread(losses)
    return cell if trained == len(losses) else f"{cell}, trained: {trained} of {len(losses)}"


def pair_table(results: Results, decay: bool) -> str:
    """Tabulate what the preconditioner adds over its initialization, each at its best rate, paired by seed."""
    rows, p_values = [], []
    for method, alone in PAIRS.items():
        for depth in results.depths():
            contender = results.best.get((method, decay, depth))
            reference = results.best.get((alone, decay, depth))
            if contender is None or reference is None:
                continue
            differences = results.differences(contender, reference)
            if len(differences):
                early, _, final, _, _ = map(interval, differences.T)
                rows.append([f"`{contender}`", f"`{reference}`", depth, len(differences), signed(early), signed(final)])
                p_values.append(final[2])
    for row, star in zip(rows, stars(p_values)):
        row[-1] += star
    return markdown(["method", "minus", "depth", "seeds", OUTCOMES[EARLY], OUTCOMES[PRIMARY]], rows)


def gradient_table(depths: Sequence[int]) -> str:
    """Tabulate the standard deviation of the gradient of the first layer's weights, by the theory."""
    return theory_table("gradient of conv1.weight, at depth", depths,
                        lambda network: network.first_gradient)


def difference_left_table(depths: Sequence[int]) -> str:
    """Tabulate how much two inputs' pre-activations differ in the last hidden layer, by the theory."""
    return theory_table("1 - rho in the last hidden layer, at depth", depths,
                        lambda network: network.difference_left)


def theory_table(title: str, depths: Sequence[int], quantity: Callable[[Ends], float]) -> str:
    """Tabulate a quantity for each initialization, by depth."""
    rows = []
    for name in INITIALIZATIONS:
        cells = [f"{quantity(ends(name, depth)):.2g}" for depth in depths]
        rows.append([name, *cells])
    return markdown([title, *depths], rows)


def outcome_table(results: Results) -> str:
    """Tabulate each contender's outcomes, mean and standard deviation over seeds; * marks a method's best rate."""
    rows = []
    for contender, runs in results.runs.items():
        star = " *" if results.is_best(contender) else ""
        seeds = results.seeds(contender)
        row = [f"`{contender}`{star}", contender.depth, len(seeds)]
        if results.diverged(contender):
            rows.append([*row, f"diverged: {results.diverged(contender)} of {len(seeds)}", *[""] * 6])
            continue
        spread = [mean_and_spread(values) for values in results.outcomes(contender).T]
        epochs = [epoch for epoch in results.overtakings(contender) if epoch is not None]
        median = f"{np.median(epochs):.2f}" if epochs else ""
        rows.append([*row, *spread, len(epochs), median])
    return markdown(["method=rate", "depth", "seeds", *OUTCOMES, "overtaken", "at epoch"], rows)


def rate_table(results: Results) -> str:
    """Tabulate best rates, and between which the loss is within 0.1 of the best; (edge): of those that were tried.

    Where no rate trains, none is good.
    """
    rows = []
    for group, best in results.best.items():
        contenders = results.rates(group)
        losses = [results.tuning_loss(contender) for contender in contenders]
        if len(contenders) > 1 and np.isfinite(min(losses)):
            rates = [contender.learning_rate for contender in contenders]
            good = [_rate_cell(rate, rates) for rate in good_rates(rates, losses)]
            if min(losses) > TRAINED:
                good = ["none", "none"]
            seeds = ", ".join(map(str, sorted(results.tuning_seeds(group))))
            rows.append([f"`{best}`", best.depth, seeds, f"{min(losses):.3f}", *good])
    return markdown(["best rate", "depth", "tuned on seeds", OUTCOMES[PRIMARY], "good from", "to"], rows)


def _rate_cell(rate: float, rates: Sequence[float]) -> str:
    edge = " (edge)" if np.isclose([rates[0], rates[-1]], rate, rtol=1e-9, atol=0).any() else ""
    return f"{rate:.2g}{edge}"


def difference_table(results: Results, reference: Contender, contenders: Sequence[Contender]) -> str:
    """Tabulate paired differences from a reference, with 95 % intervals; * is a significant primary outcome (Holm)."""
    rows, p_values = [], []
    for contender, differences in results.all_differences(contenders, reference).items():
        intervals = [interval(values) for values in differences.T]
        rows.append([f"`{contender}`", len(differences), *map(signed, intervals)])
        p_values.append(intervals[PRIMARY][2])
    for row, star in zip(rows, stars(p_values)):
        row[2 + PRIMARY] += star
    depth = "" if reference.depth == TUTORIAL_DEPTH else f", depth {reference.depth}"
    return markdown([f"minus `{reference}`{depth}", "seeds", *OUTCOMES], rows)


def growth_table(results: Results) -> str:
    """Tabulate how much each layer's weights, and the gradients by them, grew while they were trained."""
    rows = []
    for contender in results.runs:
        for quantity, growths in zip(QUANTITIES, results.growth(contender)):
            cells = [f"{growth:.2f}" for growth in growths]
            rows.append([f"`{contender}`", quantity, *cells])
    return markdown(["growth, times", "of", *LAYERS], rows)


def mean_and_spread(values: np.ndarray) -> str:
    """Return a mean, and the standard deviation if there are several values."""
    spread = f" ± {np.std(values, ddof=1):.3f}" if len(values) > 1 else ""
    return f"{np.mean(values):.3f}{spread}"


def signed(estimate: tuple[float, float, float]) -> str:
    """Return the mean and half width of an `interval`."""
    mean, half, _ = estimate
    return f"{mean:+.3f} ± {half:.3f}"


def stars(p_values: Sequence[float]) -> list[str]:
    """Return " *" for p-values of a table that are below 5 % after Holm's adjustment for all of them."""
    return [" *" if p < 0.05 else "" for p in holm(p_values)]


def markdown(head: Sequence[object], rows: Sequence[Sequence[object]]) -> str:
    """Return a Markdown table, "" without rows."""
    if not rows:
        return ""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(map(str, line)) + " |" for line in lines)
