"""What is computed from files whose losses were made up, against numbers by hand; the pages show all else."""
import math

import numpy as np
import pytest

from tests.study.helpers import holding, trainings
from util.study.statistics import holm, overtaking_epoch

BEFORE, AFTER = np.repeat([1.0, 0.0], 100), np.repeat([0.0, 1.0], 100)  # the first epoch, and the second
EARLY, LATE = np.repeat([-1.0, 1.0], [90, 110]), np.repeat([-2.0, 2.0], 100)  # turns after 90 parts, and after 100


@holding(trainings("he", 0.001, np.arange(200) ** 2 / 4000))
def test_outcomes_are_means_around_two_epochs_and_of_the_last_tenth(page):
    """Eight squares around the square of 10, eight around that of 100, and the last twenty."""
    assert page["Outcomes"] == ["| **`he=0.001`** | 5 | 1 | 0.024 | 2.476 | 8.986 | 2.000 | 50.000 |  |"]


@pytest.mark.parametrize("held, diverged", [
    (trainings("he", 0.001, 1.0), False),
    (trainings("he", 0.001, 1.0, test_loss=math.nan), True),
    (trainings("he", 0.001, np.append(np.ones(199), math.nan)), True),
    (trainings("he", 0.001, 10.0), False),
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
    assert not [heading for heading in page if heading.startswith("Differences from")]


@pytest.mark.parametrize("p_values, adjusted", [
    ([0.5, 0.01, 0.04, 0.03], [0.5, 0.04, 0.09, 0.09]), ([0.6, 0.7], [1, 1])], ids=["grow", "at most 1"])
def test_stars_are_given_by_holms_adjustment(p_values, adjusted):
    assert holm(p_values) == pytest.approx(adjusted)


@holding(trainings("adam", 0.1, 1.5, 5.0, 7.0, 1.0, seeds=[0, 1, 2, 20]), trainings("adam", 0.05, 1.0, seeds=[20]),
         trainings("adam", 0.2, 1.4, 2.0, seeds=[0, 20]), trainings("adam", 0.5, 2.0, 2.0, seeds=[0, 20]),
         trainings("adam", 1.0, math.nan, seeds=[0]))
def test_the_best_rate_is_chosen_on_the_seeds_of_the_tuning_and_reported_on_the_others(page):
    """With all rates on seed 0 alone, 0.2 were best; 0.05 and 1.0 have not all seeds of the others."""
    reported = "\n".join(page["Outcomes"])
    assert "| **`adam=0.1`** | 5 | 2 | 6.000 ± 1.414 |" in reported
    assert "| `adam=0.2` | 5 | 2 | 1.700 ± 0.424 |" in reported
    assert page["Best learning rates"][0].startswith("| `adam=0.1` | 5 | 0, 20 | 1.250 |")


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


@pytest.mark.parametrize("leads, gains, epoch", [
    ([1, 2, 3], [1, 2, 3], 1),  # t = 3.46 by 2.92, p = 0.037
    ([0, 2, 4], [1, 2, 3], None),  # t = 1.73, p = 0.113
    ([1, 2, 3], [0, 2, 4], None),
    ([1, 2, 3], [-1, -2, -3], None)], ids=["both", "no lead", "no gain", "a loss"])
def test_a_method_is_overtaken_if_lead_and_gain_are_significant_over_the_seeds(leads, gains, epoch):
    differences = np.outer(gains, AFTER) - np.outer(leads, BEFORE)
    assert overtaking_epoch(differences, 100) == epoch


def test_a_method_is_overtaken_where_its_lead_is_greatest_on_average():
    assert overtaking_epoch(np.array([EARLY, LATE, LATE]), 100) == 1
