"""The tables that the study prints, in Markdown."""
from typing import Iterator, Sequence

import numpy as np

from util.study.statistics import LAYERS, OUTCOMES, PRIMARY, Contender, Results, good_rates, holm, interval


def tables(results: Results, reference: str) -> Iterator[str]:
    """Yield all tables; `reference` is METHOD, for its best learning rate of each schedule, or METHOD=RATE."""
    yield results_table(results)
    yield rates_table(results)
    for base in filter(None, {results.reference(reference, decay): None for decay in (False, True)}):
        others = list(results.final) if str(base) == reference else results.best_of(base.decay)
        yield difference_table(results, base, others)
    yield growth_table(results)


def results_table(results: Results) -> str:
    """Tabulate each contender's outcomes, mean and standard deviation over seeds; * marks a method's best rate."""
    rows = []
    for contender, runs in results.runs.items():
        label = f"`{contender}`{' *' if contender in results.best.values() else ''}"
        if contender not in results.final:
            steps = min(len(run.losses) for run in runs.values() if run.diverged)
            rows.append([label, len(runs), f"diverged at step {steps}"])
            continue
        spread = [f"{np.mean(values):.3f}" + (f" ± {np.std(values, ddof=1):.3f}" if len(values) > 1 else "")
                  for values in zip(*results.outcomes[contender].values())]
        epochs = [epoch for epoch in results.overtakings(contender) if epoch is not None]
        rows.append([label, len(runs), *spread, len(epochs), f"{np.median(epochs):.2f}" if epochs else ""])
    return markdown(["method=rate", "seeds", *OUTCOMES, "overtaken", "at epoch"], rows)


def rates_table(results: Results) -> str:
    """Tabulate best rates, and between which the loss is within 0.1 of the best; (edge): of those that were tried."""
    rows = []
    for best in sorted(results.best.values()):
        rates, losses = zip(*results.rates_and_losses(best))
        if len(rates) > 1:
            good = (f"{rate:.2g}{' (edge)' * (rate in (rates[0], rates[-1]))}" for rate in good_rates(rates, losses))
            rows.append([f"`{best}`", f"{min(losses):.3f}", *good])
    return markdown(["best rate", OUTCOMES[PRIMARY], "good from", "to"], rows)


def difference_table(results: Results, reference: Contender, contenders: Sequence[Contender]) -> str:
    """Tabulate paired differences from a reference, with 95 % intervals; * is significant in the whole table (Holm)."""
    rows = {}
    for contender in contenders:
        differences = results.differences(contender, reference)
        if contender != reference and len(differences) > 1:
            rows[contender] = len(differences), [interval(values) for values in differences.T]
    stars = iter(np.where(holm([p for _, row in rows.values() for _, _, p in row]) < 0.05, " *", ""))
    return markdown([f"minus `{reference}`", "seeds", *OUTCOMES], [
        [f"`{contender}`", seeds, *(f"{mean:+.3f} ± {half:.3f}{next(stars)}" for mean, half, _ in row)]
        for contender, (seeds, row) in rows.items()])


def growth_table(results: Results) -> str:
    """Tabulate how much each layer's weights, and the gradients by them, grew while they were trained."""
    rows = []
    for contender in results.final:
        for quantity, ratios in zip(("weights", "gradients, measured", "gradients, predicted"),
                                    results.growth(contender)):
            rows.append([f"`{contender}`", quantity, *map("{:.2f}".format, ratios)])
    return markdown(["growth, times", "of", *LAYERS], rows)


def markdown(head: Sequence[object], rows: Sequence[Sequence[object]]) -> str:
    """Return a Markdown table."""
    return "\n".join("| " + " | ".join(map(str, row)) + " |" for row in [head, ["---"] * len(head), *rows])
