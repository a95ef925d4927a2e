"""The tables state what was measured."""
import math

import numpy as np
import pytest

from util.experiment import Result
from util.layer_statistics import LayerStatistics
from util.summary import drift_table, preconditioner_table, result_table
from util.training import Run


def result(method, seed, last_losses, test_loss, accuracy, conv_std=(0.1, 0.15, 0.2)):
    losses = np.array([9.0] * 18 + last_losses, dtype=np.float32)  # the last tenth of 20 steps is the last two
    return Result(method, seed, Run(losses, {"conv": list(conv_std), "fc": [0.5, 0.5, 0.25]}, 800 + 10 * seed),
                  test_loss, accuracy)


def cells(table):
    return [[cell.strip() for cell in line.split("  ") if cell.strip()] for line in table.splitlines()]


def test_one_seed():
    table = result_table({"default": [result("default", 0, [1.0, 1.5], 1.25, 0.5)],
                          "other": [result("other", 0, [2.0, 2.5], 2.5, 0.25)]}, {"other": [1.234]})
    _, default, other, note = cells(table)
    assert default == ["default", "1.250", "1.250", "50.0 %", "800"]
    assert other == ["other", "2.250", "2.500", "25.0 %", "1.23", "800"]
    assert note == ["(training loss: over the last tenth of the steps)"]


def test_several_seeds_are_mean_and_sample_standard_deviation():
    table = result_table({"default": [result("default", seed, [1.0 + seed] * 2, 1.0 + seed, 0.5 + 0.1 * seed)
                                      for seed in range(3)]}, {})
    assert cells(table)[1] == ["default", "2.000 ± 1.000", "2.000 ± 1.000", "60.0 ± 10.0 %", "810 ± 10"]


@pytest.mark.parametrize("epochs, text", [
    ([math.inf], "not overtaken"),
    ([0.0], "never ahead"),
    ([1.5], "1.50"),
    ([1.0, 1.5, 1.25], "1.25 (1.00 to 1.50)"),
    ([1.0, math.inf, 1.25], "1.25 (1.00 to not overtaken)"),
    ([1.0, math.inf, math.inf], "not overtaken (1.00 to not overtaken)"),
    ([math.inf, math.inf], "not overtaken"),
    ([0.0, 1.0, 1.5], "1.00 (never ahead to 1.50)"),
])
def test_overtaking_is_median_and_range(epochs, text):
    runs = [result("other", seed, [1.0, 1.0], 1.0, 0.5) for seed in range(len(epochs))]
    assert cells(result_table({"other": runs}, {"other": epochs}))[1][4] == text


def test_drift_is_relative_to_before_training():
    runs = [result("other", 0, [1.0, 1.0], 1.0, 0.5)]
    assert cells(drift_table(runs)) == [["weight std / before training", "epoch 1", "epoch 2"],
                                        ["conv", "1.500", "2.000"], ["fc", "1.000", "0.500"]]
    runs.append(result("other", 1, [1.0, 1.0], 1.0, 0.5, conv_std=(0.2, 0.4, 0.4)))
    assert cells(drift_table(runs))[1] == ["conv", "1.750 ± 0.354", "2.000 ± 0.000"]


def test_preconditioner_is_the_reciprocal():
    table = preconditioner_table([LayerStatistics("fc", 0.1, 0.2, 0.5, 0.25)])
    assert cells(table)[1] == ["fc", "0.1000", "0.2000", "0.5000", "0.2500", "2.0000", "4.0000"]
