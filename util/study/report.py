"""The page that the study prints: tables in Markdown, each under a heading and a caption."""
from __future__ import annotations

from itertools import product
from typing import Any, Iterable, Iterator, Sequence

import numpy as np

from util.network import TUTORIAL_DEPTH
from util.study.methods import INITIALIZATIONS, METHODS
from util.study.networks import NAMED, Network
from util.study.results import SCHEDULES, Configuration, TrialResult
from util.study.statistics import EARLY, OUTCOMES, PRIMARY, TRAINED, Results, good_rates, holm, interval
from util.study.theory import ALWAYS, difference_left, first_gradient, rounded_spread

LAYERS = ("conv1", "conv2", "fc1", "fc2", "fc3")  # of the network at the tutorial's depth
QUANTITIES = ("weights", "gradients, measured", "gradients, predicted")
UNITS = "Losses are in nats; ± is a standard deviation over seeds, of a difference a 95 % interval by Student's t."
SIGNIFICANT = ("\\* marks differences over the last tenth that are significant (p < 0.05 after Holm's adjustment for "
               "this table).")

THEORY = (  # of each table: title, caption, quantity by what its networks differ in, function, format
    ("Spread",
     "Largest over smallest standard deviation of the layers' weight gradients before training, by the theory.",
     {"network": "spread"}, rounded_spread, "g"),
    ("First gradient",
     "Standard deviation of the gradient by the first layer's weights before training, by the theory.",
     {"depth": "gradient of conv1.weight", "network": "gradient of the first weights"}, first_gradient, ".2g"),
    ("Difference between inputs",
     "1 - rho (at least 1e-9) before training, by the theory; rho is the correlation of two inputs' pre-activations.",
     dict.fromkeys(["depth", "network"], "1 - rho in the last hidden layer"), difference_left, ".2g"),
)


def page(name: str, held: Sequence[TrialResult], tables: Iterable[str]) -> str:
    """Return a page: its title, what all trainings have in common, and the tables that have rows.

    Args:
        name: of the file.
        held: all results that it holds.
        tables: of `sections`, or of `difference_tables` alone.
    """
    first = held[0].trial
    settings = f"Data: {first.dataset}; images: {first.images}; epochs: {first.epochs}; trainings: {len(held)}."
    head = f"# {name}\n\n{settings} {UNITS}"
    return "\n\n".join([head, *filter(None, tables)])


def sections(results: Results) -> Iterator[str]:
    """Yield all sections, "" for those without rows."""
    for networks, decay in product(results.compared.values(), SCHEDULES):
        yield final_loss_table(results, networks, decay)
    for decay in SCHEDULES:
        yield pair_table(results, decay)
    for networks in results.compared.values():
        yield from theory_tables(results, networks)
    yield outcome_table(results)
    yield rate_table(results)
    yield from difference_tables(results, "default", rates=[])
    yield growth_table(results)


def network_table(title: str, caption: str, quantity: str, networks: list[Network], rows: dict[str, list[str]],
                  *more: str) -> str:
    """Tabulate a quantity: the cells of each row by its name, with a column for each of these networks of a family.

    The heading says what the networks differ in, `more`, and the activation unless it is ReLU.
    """
    first = networks[0]
    activation = [first.family] if first.suffix else []
    heading = ", ".join([f"{title} by {first.kind}", *more, *activation])
    place = "of network" if first.family == NAMED else "at depth"
    columns = [f"{quantity}, {place}", *(network.member for network in networks)]
    return section(heading, caption, columns, [[name, *cells] for name, cells in rows.items()])


def final_loss_table(results: Results, networks: list[Network], decay: bool) -> str:
    """Tabulate final losses by method and network, and how many trainings learnt anything if not all did."""
    rows = {}
    for method in METHODS:
        best = [results.best.get((method, network, decay)) for network in networks]
        if any(best):
            rows[f"`{method}`"] = [_depth_cell(results, configuration) for configuration in best]
    caption = f"Each method at its best learning rate; \"trained\" counts the seeds below {TRAINED}, if not all are."
    return network_table("Final loss", caption, "last tenth", networks, rows, SCHEDULES[decay])


def _depth_cell(results: Results, configuration: Configuration | None) -> str:
    if configuration is None:
        return ""
    losses = results.outcomes(configuration)[:, PRIMARY]
    diverged = results.diverged(configuration)
    trained = (losses <= TRAINED).sum()
    counts = f"trained: {trained} of {len(losses)}"
    if diverged:
        return f"{counts}, diverged: {diverged}"
    cell = mean_and_spread(losses)
    return cell if trained == len(losses) else f"{cell}, {counts}"


def pair_table(results: Results, decay: bool) -> str:
    """Tabulate what the preconditioner adds to an initialization, by the spread of the gradients it leaves."""
    rows = []
    for preconditioned, alone in results.pairs():
        network = alone.network
        differences = results.differences(preconditioned, alone)
        if alone.decay == decay and network.family in results.compared and len(differences):
            early, _, final, _, _ = map(interval, differences.T)
            spread = f"{rounded_spread(alone.initialization, network):g}"
            names = [f"`{preconditioned}`", f"`{alone}`", network.member]
            rows.append([spread, *names, len(differences), early, final])
    rows.sort(key=lambda row: float(row[0]))
    caption = (
        "A preconditioned method minus the same initialization with plain gradients, each at its best learning rate, "
        "paired by seed. The spread is the largest over the smallest standard deviation of the layers' weight "
        f"gradients, as the theory predicts them before training. {SIGNIFICANT}")
    columns = ["spread", "method", "minus", kinds(results), "seeds", OUTCOMES[EARLY], OUTCOMES[PRIMARY]]
    return section(f"What the preconditioner adds, {SCHEDULES[decay]}", caption, columns, with_stars(rows, -1))


def kinds(results: Results) -> str:
    """Return the head of the column that tells networks apart."""
    return " or ".join(dict.fromkeys(network.kind for network in results.networks))


def theory_tables(results: Results, networks: list[Network]) -> Iterator[str]:
    """Yield what the theory says of each initialization in networks of a family before training."""
    used = {configuration.initialization for configuration in results.by_seed} - {"for the images"}  # not white noise
    names = [name for name in INITIALIZATIONS if name in ALWAYS or name in used]
    for title, caption, quantities, predict, digits in THEORY:
        quantity = quantities.get(networks[0].kind)
        if quantity:
            rows = {name: [format(predict(name, network), digits) for network in networks] for name in names}
            yield network_table(title, caption, quantity, networks, rows)


def outcome_table(results: Results) -> str:
    """Tabulate each configuration's outcomes, mean and standard deviation over seeds."""
    rows = []
    for configuration, reported in results.reported.items():
        bold = "**" if results.is_best(configuration) else ""
        row = [f"{bold}`{configuration}`{bold}", configuration.network.member, len(reported)]
        rows.append(row + _outcome_cells(results, configuration))
    return section(
        "Outcomes",
        "A method's best learning rate is in bold. \"Overtaken\" says from which epoch on the default training gains, "
        "at its own best rate and paired by seed, if both the lead before and the gain after are significant.",
        ["method=rate", kinds(results), "seeds", *OUTCOMES, "overtaken at epoch"], rows)


def _outcome_cells(results: Results, configuration: Configuration) -> list[str]:
    diverged = results.diverged(configuration)
    if diverged:
        seeds = len(results.reported[configuration])
        return [f"diverged: {diverged} of {seeds}", *[""] * len(OUTCOMES)]
    epoch = results.overtaken(configuration)
    overtaken = "" if epoch is None else f"{epoch:.2f}"
    return [*map(mean_and_spread, results.outcomes(configuration).T), overtaken]


def rate_table(results: Results) -> str:
    """Tabulate the best rates, and the range of rates whose loss is within 0.1 of the best."""
    rows = []
    for sweep, best in results.best.items():
        configurations = results.rates(sweep)
        losses = list(map(results.tuning_loss, configurations))
        if len(configurations) > 1 and np.isfinite(min(losses)):
            rates = [configuration.learning_rate for configuration in configurations]
            good = [_rate_cell(rate, rates) for rate in good_rates(rates, losses)]
            if min(losses) > TRAINED:
                good = ["none", "none"]
            seeds = ", ".join(map(str, results.tuning(best)))
            loss = f"{results.tuning_loss(best):.3f}"
            rows.append([f"`{best}`", best.network.member, seeds, loss, *good])
    return section(
        "Best learning rates",
        "Between which rates the loss over the last tenth is within 0.1 of the best; gaps are passed over. An (edge) "
        "is the lowest or highest rate that was tried.",
        ["best rate", kinds(results), "tuned on seeds", OUTCOMES[PRIMARY], "good from", "to"], rows)


def _rate_cell(rate: float, rates: Sequence[float]) -> str:
    edge = " (edge)" if rate in (rates[0], rates[-1]) else ""
    return f"{rate:.2g}{edge}"


def difference_tables(results: Results, method: str, rates: Sequence[float]) -> Iterator[str]:
    """Yield a table of differences from a method in each network; without a rate, all methods are at their best."""
    for reference in results.references(method, rates):
        yield difference_table(results, reference, best_only=not rates)


def difference_table(results: Results, reference: Configuration, best_only: bool) -> str:
    """Tabulate paired differences from a reference in the same network, with 95 % intervals."""
    alike = [each for each in results.by_seed if each.network == reference.network and each.decay == reference.decay]
    alike.remove(reference)
    rows = []
    for configuration in filter(results.is_best, alike) if best_only else alike:
        differences = results.differences(configuration, reference)
        if len(differences):
            rows.append([f"`{configuration}`", len(differences), *map(interval, differences.T)])
    network = reference.network
    title = f"`{reference}`"
    if network.member != TUTORIAL_DEPTH:
        title += f", {network}"
    which = "its best learning rate" if best_only else "every learning rate"
    caption = f"Each method at {which}, paired by seed. {SIGNIFICANT}"
    columns = [f"minus {title}", "seeds", *OUTCOMES]
    return section(f"Differences from {title}", caption, columns, with_stars(rows, 2 + PRIMARY))


def growth_table(results: Results) -> str:
    """Tabulate how much each layer's weights, and the gradients by them, grew while they were trained."""
    rows = []
    for configuration in results.by_seed:
        for quantity, growths in zip(QUANTITIES, results.growth(configuration)):
            cells = [f"{growth:.2f}" for growth in growths]
            rows.append([f"`{configuration}`", quantity, *cells])
    return section(
        "Growth",
        "Root mean squares after training over those before it, geometric means over seeds: of each layer's weights, "
        "and of the gradients by them, measured and as the theory predicts them from the weights.",
        ["growth, times", "of", *LAYERS], rows)


def mean_and_spread(values: np.ndarray) -> str:
    """Return a mean, and the standard deviation if there are several values."""
    mean = f"{np.mean(values):.3f}"
    return f"{mean} ± {np.std(values, ddof=1):.3f}" if len(values) > 1 else mean


def with_stars(rows: list[list[Any]], column: int) -> list[list[Any]]:
    """Mark the intervals of a column whose p-values are below 5 % after Holm's adjustment for all of them."""
    p_values = [row[column].p_value for row in rows]
    for row, p in zip(rows, holm(p_values)):
        if p < 0.05:
            row[column] = f"{row[column]} *"
    return rows


def section(title: str, caption: str, columns: Sequence[object], rows: Sequence[Sequence[object]]) -> str:
    """Return a heading, a caption and a table, "" without rows."""
    if not rows:
        return ""
    lines = [columns, ["---"] * len(columns), *rows]
    table = "\n".join(f"| {' | '.join(map(str, line))} |" for line in lines)
    return f"## {title}\n\n{caption}\n\n{table}"
