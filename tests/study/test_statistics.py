"""The tables of files whose losses were made up, against numbers by hand or by scipy."""
import math

import numpy as np
import pytest
from scipy import stats

from tests.study.helpers import holding, study, tables, trainings

BEFORE, AFTER = np.repeat([1.0, 0.0], 100), np.repeat([0.0, 1.0], 100)  # the first epoch, and the second
EARLY, LATE = np.repeat([-1.0, 1.0], [90, 110]), np.repeat([-2.0, 2.0], 100)  # turns after 90 parts, and after 100
CONDITIONS = [{}, {"decay": True}, {"depth": 7}, {"activation": "tanh"}]
COMPARED = {
    "Differences from `default=0.001`": ["he=0.001"],
    "Differences from `default=0.001`, depth 7": ["he=0.001"],
    "Differences from `default-decay=0.001`": ["he-decay=0.001"],
    "Differences from `default-tanh=0.001`": ["he-tanh=0.001"],
}
ADDED = [
    "| 3.3 | `preconditioned=0.001` | `initialization-only=0.001` | 7 | 3 | -0.990 ± 0.025 | -0.990 ± 0.025 * |",
    "| 3.95 | `preconditioner-only=0.001` | `default=0.001` | 5 | 3 | +0.000 ± 2.484 | +0.000 ± 2.484 |",
    "| 14.8 | `preconditioner-only=0.001` | `default=0.001` | 7 | 3 | +0.000 ± 2.484 | +0.000 ± 2.484 |",
]
RANDOM = np.random.default_rng(0).normal(2, 0.1, (2, 5))


def name_of(row):
    """Return the configuration that a row of a table is about."""
    return row.split("`")[1]


def starred(p_values):
    """Return trainings that differ over the last tenth with these p-values, and early for certain.

    Of two seeds that differ by t - 1 and t + 1, the mean is t standard errors.
    """
    rows = trainings("default", 0.001, 5.0, 5.0)
    for method, t in zip(("he", "dynamic", "adam"), stats.t(1).isf(np.array(p_values) / 2)):
        low, high = (5 - 0.001 * AFTER * (t + side) - BEFORE * (3 + 0.001 * side) for side in (-1, 1))
        rows += trainings(method, 0.001, low, high)
    return rows


def led(leads, gains):
    """Return trainings that lie below the best default one by such leads in the first epoch, then above by gains."""
    curves = [5 - lead * BEFORE + gain * AFTER for lead, gain in zip(leads, gains)]
    return trainings("default", 0.001, 5, 5, 5, depth=7) + trainings("he", 0.001, *curves, 0, depth=7)


@holding(trainings("he", 0.001, np.arange(200) ** 2 / 4000))
def test_outcomes_are_means_around_two_epochs_and_of_the_last_tenth(page):
    """Eight squares around the square of 10, eight around that of 100, and the last twenty."""
    assert page["Outcomes"] == ["| **`he=0.001`** | 5 | 1 | 0.024 | 2.476 | 8.986 | 2.000 | 50.000 |  |"]


@pytest.mark.parametrize("held, diverged", [
    (trainings("he", 0.001, 1.0), False),
    (trainings("he", 0.001, 1.0, test_loss=math.nan), True),
    (trainings("he", 0.001, np.append(np.ones(199), math.nan)), True),
    (trainings("he", 0.001, 10.0), False),
    (trainings("he", 0.001, 10.1), True),
    (trainings("he", 0.001, 1 + 10 * AFTER), True),
    (trainings("he", 0.001, 1 + 10 * BEFORE), False)])
def test_trainings_diverged_if_a_loss_is_not_finite_or_the_last_tenth_above_10(page, diverged):
    assert ("diverged: 1 of 1" in page["Outcomes"][0]) == diverged


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("held", [trainings("default", 0.001, loss, loss) + trainings("adam", 0.001, loss, depth=7)
                                  for loss in (math.nan, math.inf, 8e17)], ids=["nan", "inf", "8e17"])
def test_a_study_of_which_all_diverged_is_reported_without_comparisons(page):
    assert page["Final loss by depth, constant learning rate"] == [
        "| `default` | trained: 0 of 2, diverged: 2 |  |", "| `adam` |  | trained: 0 of 1, diverged: 1 |"]
    assert [heading for heading in page if heading.startswith("Differences from")] == []


@holding(trainings("default", 0.001, *RANDOM[0], 9.0),
         trainings("he", 0.001, *RANDOM[1, ::-1], 9.0, seeds=[4, 3, 2, 1, 0, 6]))
def test_differences_are_paired_by_seed_with_intervals_by_students_t(page):
    """Seeds that only one of both has do not count."""
    differences = RANDOM[1] - RANDOM[0]
    half = stats.t(4).isf(0.025) * stats.sem(differences)
    (row,) = page["Differences from `default=0.001`"]
    assert row.startswith(f"| `he=0.001` | 5 | {differences.mean():+.3f} ± {half:.3f} |")


@pytest.mark.parametrize("held, significant", [
    (starred([0.01, 0.02, 0.03]), ["he=0.001", "dynamic=0.001", "adam=0.001"]),
    (starred([0.01, 0.03, 0.031]), ["he=0.001"]),
    (starred([0.012, 0.018, 0.9]), ["he=0.001", "dynamic=0.001"]),
    (starred([0.9, 0.03, 0.02]), [])])
def test_stars_mark_last_tenths_that_are_significant_after_holms_adjustment(page, significant):
    rows = page["Differences from `default=0.001`"]
    assert [name_of(row) for row in rows if row.split(" | ")[4].endswith(" *")] == significant
    assert "".join(rows).count("*") == len(significant)


@holding(*[trainings(method, 0.001, 1.0, 2.0, **each) for method in ("default", "he") for each in CONDITIONS])
@pytest.mark.parametrize("arguments", [[], ["--reference", "default"], ["--reference", "default=0.001"]])
def test_no_training_is_compared_with_one_under_other_conditions(path, arguments):
    page = tables(study(path, *arguments))
    compared = {heading: list(map(name_of, rows)) for heading, rows in page.items() if "from" in heading}
    assert compared == COMPARED


@holding(trainings("he", 0.001, 1.0, 2.0), trainings("he", 0.01, 1.5, 2.6), trainings("default", 0.1, 2.0, 2.0))
@pytest.mark.parametrize("reference, others", [("default", ["he=0.001"]), ("he=0.01", ["default=0.1", "he=0.001"])])
def test_a_reference_at_its_best_rate_is_compared_with_best_rates_and_one_at_a_rate_with_all(path, reference, others):
    (compared,) = tables(study(path, "--reference", reference)).values()
    assert list(map(name_of, compared)) == others


@holding(trainings("adam", 0.1, 1.5, 5.0, 7.0, 1.0, seeds=[0, 1, 2, 20]), trainings("adam", 0.05, 1.0, seeds=[20]),
         trainings("adam", 0.2, 1.4, 2.0, seeds=[0, 20]), trainings("adam", 0.5, 2.0, 2.0, seeds=[0, 20]),
         trainings("adam", 1.0, math.nan, seeds=[0]))
def test_the_best_rate_is_chosen_on_the_seeds_of_the_tuning_and_reported_on_the_others(page):
    """With all rates on seed 0 alone, 0.2 were best; 0.05 and 1.0 have not all seeds of the others."""
    reported = "\n".join(page["Outcomes"])
    assert "| **`adam=0.1`** | 5 | 2 | 6.000 ± 1.414 |" in reported
    assert "| `adam=0.2` | 5 | 2 | 1.700 ± 0.424 |" in reported
    assert page["Best learning rates"][0].startswith("| `adam=0.1` | 5 | 0, 20 | 1.250 |")


@holding(trainings("adam", 0.1, 1.0, 5.0), trainings("adam", 0.01, 2.0, 3.0))
def test_two_rates_are_no_tuning_so_that_all_seeds_choose_and_are_reported(page):
    assert page["Outcomes"][0].startswith("| **`adam=0.01`** | 5 | 2 |")
    assert page["Best learning rates"][0].startswith("| `adam=0.01` | 5 | 0, 1 | 2.500 |")


@holding(*[trainings("adam", rate, rate, seeds=[0]) for rate in (0.1, 0.2, 0.3)],
         *[trainings("adam", rate, rate, seeds=[1]) for rate in (0.4, 0.5, 0.6)])
def test_a_seed_that_no_rate_shares_does_not_keep_a_rate_from_being_the_best(page):
    assert page["Best learning rates"][0].startswith("| `adam=0.1` |")


@pytest.mark.parametrize("held, good", [
    # a quarter of a decade below, half a decade above
    (trainings("adam", 1e-4, 1.4) + trainings("adam", 1e-3, 1.0) + trainings("adam", 1e-2, 1.2), "0.00056 | 0.0032"),
    (trainings("adam", 1e-3, 1.0) + trainings("adam", 1e-2, math.nan), "0.001 (edge) | 0.001"),  # which counts as 10
    (trainings("adam", 1e-9, 1.0) + trainings("adam", 4e-9, 1.2), "1e-09 (edge) | 2e-09"),
    (trainings("adam", 0.01, 2.31) + trainings("adam", 0.1, 2.3), "none | none")])  # which have learnt nothing
def test_rates_are_good_where_the_interpolated_loss_is_within_a_tenth_of_the_best(page, good):
    assert page["Best learning rates"][0].endswith(f" | {good} |")


@holding(trainings("default", 0.01, 9, 9, 9, depth=7), trainings("default", 0.001, 1, 1, 1),
         trainings("default", 0.001, 1, 1, 1, activation="tanh", depth=7))
@pytest.mark.parametrize("others, epoch", [
    (led([1, 2, 3], [1, 2, 3]), "1.00"),  # t = 3.46 by 2.92, p = 0.037
    (led([0, 2, 4], [1, 2, 3]), ""),  # t = 1.73, p = 0.113
    (led([1, 2, 3], [0, 2, 4]), ""),
    (led([1, 2, 3], [-1, -2, -3]), "")], ids=["both", "no lead", "no gain", "a loss"])
def test_a_method_is_overtaken_if_lead_and_gain_are_significant_over_the_seeds(path, others, epoch):
    """By the best default training of the same depth and activation; the others in the file would not overtake."""
    with path.open("a") as file:
        file.write(others)
    (row,) = [row for row in tables(study(path))["Outcomes"] if "he" in row]
    assert row.endswith(f"| {epoch} |")


@holding(trainings("default", 0.001, 5, 5, 5), trainings("he", 0.001, 5 + EARLY, 5 + LATE, 5 + LATE))
def test_a_method_is_overtaken_where_its_lead_is_greatest_on_average(page):
    default, he = page["Outcomes"]
    assert default.endswith("|  |") and he.endswith("| 1.00 |")


@holding(trainings("default", 0.001, 1.5), trainings("default", 0.001, 2.0, 2.29, 2.3, depth=7),
         trainings("default", 0.001, 1.0, 1.1, activation="tanh", depth=7))
def test_depths_show_how_many_trainings_learnt_anything_if_not_all_did(page):
    title = "Final loss by depth, constant learning rate"
    assert page[title] == ["| `default` | 1.500 | 2.197 ± 0.170, trained: 2 of 3 |"]
    assert page[f"{title}, tanh"] == ["| `default` |  | 1.050 ± 0.071 |"]


@pytest.mark.filterwarnings("ignore:Precision loss")
@holding(*[trainings("default", 0.001, 2.0, 2.0, 2.0, **each) for each in ({"depth": 7}, {"depth": 5})],
         *[trainings("preconditioner-only", 0.001, 1.0, 2.0, 3.0, **each) for each in ({"depth": 7}, {"depth": 5})],
         trainings("initialization-only", 0.001, 2.0, 2.0, 2.0, depth=7),
         trainings("preconditioned", 0.001, 1.0, 1.01, 1.02, depth=7),
         trainings("initialization-half-bias", 0.001, 1.0, math.nan),
         trainings("preconditioned-half-bias", 0.001, 1.0, 1.0))
def test_what_the_preconditioner_adds_is_sorted_by_the_spread_and_adjusted_as_one_family(page):
    """The spread is 3.95 and 14.8 for PyTorch's initialization, 3.30 for the demo's."""
    assert page["What the preconditioner adds, constant learning rate"] == ADDED
