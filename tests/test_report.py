"""The tables state what was measured."""
import math

import numpy as np
import pytest

from tests.runs import diverged_run, made_up_run
from util.comparison import Contender
from util.report import (difference_table, edge_warnings, gradient_table, preconditioner_table, result_table,
                         result_tables)
from util.signal_propagation import LayerStatistics

pytestmark = pytest.mark.filterwarnings("error")
DEFAULT, PRECONDITIONED = Contender("default", 0.001), Contender("preconditioned", 0.001)
INITIALIZED = Contender("initialization-only", 0.001)
STATISTICS = [LayerStatistics("fc", 0.1, 0.2, 0.5, 0.25)]
WIDTH, STEPS_PER_EPOCH = 4, 20  # and two epochs, whose last tenth is the last four steps


def cells(table):
    return [[cell.strip() for cell in line.split("  ") if cell.strip()] for line in table.splitlines()]


def level(*losses, test_losses=None, accuracies=None):
    """One run for each seed, whose loss does not change."""
    count = len(losses)
    return [made_up_run([loss] * 40, test_loss, accuracy) for loss, test_loss, accuracy in zip(
        losses, test_losses or [1.0] * count, accuracies or [0.5] * count)]


def results(runs):
    return cells(result_table(runs, WIDTH, STEPS_PER_EPOCH))


def test_one_seed():
    other = made_up_run([2.0] * 36 + [2.5, 3.0, 3.5, 4.0], test_loss=2.5, test_accuracy=0.25, steps_per_second=812.4)
    heads, default, preconditioned, note = results({DEFAULT: level(1.25), PRECONDITIONED: [other]})
    assert heads == ["method=learning rate", "loss around 0.1", "loss around 1", "loss around 2", "last tenth",
                     "test loss", "test accuracy", "overtaken at epoch", "steps per second"]
    assert default == ["default=0.001", "1.250", "1.250", "1.250", "1.250", "1.000", "50.0 %", "800"]
    assert preconditioned == ["preconditioned=0.001", "2.000", "2.000", "3.750", "3.250", "2.500", "25.0 %",
                              "never ahead", "812"]
    assert "mean training loss over the smoothing window" in note[0]


def test_several_seeds_are_mean_and_sample_standard_deviation():
    runs = level(1.0, 2.0, 4.5, test_losses=[1.0, 2.0, 3.0], accuracies=[0.5, 0.6, 0.7])
    for run, speed in zip(runs, [790, 800, 810]):
        run.steps_per_second = speed
    _, default, *notes = results({DEFAULT: runs})
    loss = "2.500 ± 1.803"  # the square root of (1.5² + 0.5² + 2²) / 2
    assert default == ["default=0.001", loss, loss, loss, loss, "2.000 ± 1.000", "60.0 ± 10.0 %", "800 ± 10"]
    assert "±: standard deviation over seeds" in notes[1][0]


@pytest.mark.parametrize("width, around", [
    (1, [2, 20, 39]), (2, [2, 20, 39]), (4, [2, 20, 38.5]), (6, [2.5, 20, 38]), (20, [6, 20, 34.5])])
def test_loss_around_an_epoch_is_the_mean_over_the_window(width, around):
    """Step i has the loss i + 0.5, so that a whole window gives the number of steps to its centre: 2, 20 and 40.

    That of width 6 around step 2 lacks a step, that of width 20 lacks eight; around step 40, half of each is left.
    """
    run = made_up_run(np.arange(40) + 0.5)
    expected = [f"{loss + 0.5 * (index == 2):.3f}" for index, loss in enumerate(around)]
    assert cells(result_table({DEFAULT: [run]}, width, STEPS_PER_EPOCH))[1][1:4] == expected


def test_losses_of_any_number_of_epochs():
    heads = cells(result_table({DEFAULT: level(1.0)}, WIDTH, steps_per_epoch=8))[0]
    assert heads[1:4] == ["loss around 0.1", "loss around 2.5", "loss around 5"]


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
def test_overtaking_is_median_and_range(epochs, text, monkeypatch):
    remaining = iter(epochs)
    monkeypatch.setattr("util.report.overtaking_epoch", lambda *_: next(remaining))
    seeds = [1.0] * len(epochs)
    assert results({DEFAULT: level(*seeds), PRECONDITIONED: level(*seeds)})[2][7] == text


def test_overtaking_is_by_the_default_run_of_the_same_seed_at_its_best_rate():
    """Of these, the other run is overtaken at step 20, half way."""
    ahead = made_up_run([0.5] * 20 + [1.5] * 20)
    tables = results({Contender("default", 0.1): level(3.0, 3.0), DEFAULT: level(1.0, 1.2),
                      PRECONDITIONED: [ahead, made_up_run(ahead.losses + np.float32(0.2))]})
    assert tables[3][7] == "1.00"
    assert len(tables[1]) == len(tables[2]) == 8  # no entry for the default runs themselves


def test_overtaking_is_empty_without_a_default_run():
    assert len(results({INITIALIZED: level(1.0), PRECONDITIONED: level(1.0)})[1]) == 8


SWEEP = {
    Contender("default", 0.01): [*level(0.1), diverged_run(7), diverged_run(5)],
    Contender("default", 0.001): level(1.0, 2.0, 3.0),
    Contender("default", 0.0001): level(3.0, 3.0, 3.0),
    Contender("preconditioned", 0.01): level(2.0, 2.0, 2.0),
    Contender("preconditioned", 0.001): level(2.5, 2.5, 0.5),
    Contender("preconditioned", 0.0001): level(4.0, 4.0, 4.0),
    Contender("dynamic", 1.0): [diverged_run(9)] * 3,
    Contender("dynamic", 0.1): [diverged_run(30)] * 3,
    Contender("initialization-only", 0.001): level(2.5, 2.5, 2.5),
}


def test_the_best_rates_are_marked_and_divergence_is_a_row():
    _, *rows = results(SWEEP)
    assert [row[0] for row in rows[:9]] == [
        "default=0.01", "default=0.001 *", "default=0.0001", "preconditioned=0.01", "preconditioned=0.001 *",
        "preconditioned=0.0001", "dynamic=1", "dynamic=0.1", "initialization-only=0.001 *"]
    assert [rows[index][1:] for index in (0, 6, 7)] == [
        ["diverged at step 5"], ["diverged at step 9"], ["diverged at step 30"]]
    assert "*: the method's best learning rate" in rows[-1][0]


def test_without_several_rates_nothing_is_marked():
    assert "*" not in result_table({DEFAULT: level(1.0), PRECONDITIONED: level(2.0)}, WIDTH, STEPS_PER_EPOCH)


def test_a_best_rate_at_the_edge_of_its_grid_is_said():
    """A rate that diverged is tried, too, so the fastest that did not is no edge; neither is a method's only rate."""
    assert edge_warnings(SWEEP) == []
    at_edges = dict(list(SWEEP.items())[1:5])
    warnings = edge_warnings({**at_edges, INITIALIZED: level(2.0)})
    assert [warning.split(" is ")[0] for warning in warnings] == ["default=0.001", "preconditioned=0.001"]
    tables = result_tables(at_edges, STATISTICS, WIDTH, STEPS_PER_EPOCH)
    assert all(warning in tables.splitlines() for warning in warnings)


def test_difference_is_the_paired_mean_and_its_standard_error():
    """By hand: differences of 0, 0.5 and 1 have the mean 0.5 and the standard error 0.5 / sqrt(3)."""
    runs = {DEFAULT: level(1.0, 2.0, 3.0, test_losses=[3.0, 2.0, 1.0], accuracies=[0.5, 0.5, 0.5]),
            PRECONDITIONED: level(1.0, 2.5, 4.0, test_losses=[2.0, 1.0, 0.0], accuracies=[0.51, 0.52, 0.53])}
    heads, row, note = cells(difference_table(runs, "default", WIDTH, STEPS_PER_EPOCH))
    assert heads == ["minus default=0.001", "loss around 0.1", "loss around 1", "loss around 2", "last tenth",
                     "test loss", "test accuracy"]
    assert row == ["preconditioned=0.001", *["+0.500 ± 0.289"] * 4, "-1.000 ± 0.000", "+2.00 ± 0.58 %"]
    assert "standard error" in note[0]


def test_difference_is_at_each_methods_best_rate():
    default = cells(difference_table(SWEEP, "default", WIDTH, STEPS_PER_EPOCH))
    assert [row[:2] for row in default[:-1]] == [
        ["minus default=0.001", "loss around 0.1"], ["preconditioned=0.001", "-0.167 ± 1.202"],
        ["initialization-only=0.001", "+0.500 ± 0.577"]]
    initialized = cells(difference_table(SWEEP, "initialization-only", WIDTH, STEPS_PER_EPOCH))
    assert [row[0] for row in initialized[:-1]] == ["minus initialization-only=0.001", "default=0.001",
                                                    "preconditioned=0.001"]


@pytest.mark.parametrize("runs, references", [
    ({DEFAULT: level(1, 2), PRECONDITIONED: level(1, 2), INITIALIZED: level(1, 2)},
     ["default", "initialization-only", "preconditioned"]),
    ({DEFAULT: level(1, 2), PRECONDITIONED: level(1, 2)}, ["default"]),
    ({INITIALIZED: level(1, 2), PRECONDITIONED: level(1, 2)}, ["initialization-only"]),
    ({Contender("dynamic", 0.001): level(1, 2), PRECONDITIONED: level(1, 2)}, ["preconditioned"]),
    ({Contender("dynamic", 0.001): level(1, 2), Contender("dynamic-scale", 0.001): level(1, 2)}, []),
    ({DEFAULT: [diverged_run(3)] * 2, PRECONDITIONED: level(1, 2), INITIALIZED: level(1, 2)}, ["initialization-only"]),
    ({DEFAULT: level(1, 2), INITIALIZED: [diverged_run(3)] * 2, Contender("default", 1.0): level(1, 2)}, []),
    ({DEFAULT: level(1), PRECONDITIONED: level(1), INITIALIZED: level(1)}, []),  # a single seed
])
def test_differences_are_from_the_references_that_there_are(runs, references):
    tables = result_tables(runs, STATISTICS, WIDTH, STEPS_PER_EPOCH)
    assert [line.split("=")[0] for line in tables.splitlines() if line.startswith("minus")] == [
        f"minus {reference}" for reference in references]


def scaled_run(gradient_after=(0.4, 0.5), factor=1.0):
    """Two layers, two epochs; columns of gradients: a.weight, a.bias, b.weight, b.bias."""
    return made_up_run([1.0] * 40,
                       weight_rms=np.array([[2.0, 1.0], [3.0, 1.0], [4.0, 0.5]]),
                       gradient_rms=factor * np.array([[1.0, 3.0, 0.5, 1.0], [gradient_after[0], 3.0, 1.0, 2.0],
                                                       [gradient_after[1], 6.0, 2.0, 4.0]]),
                       predicted_rms=np.array([[1.0, 2.0, 1.0, 1.0], [2.0, 4.0, 1.0, 8.0], [4.0, 2.0, 1.0, 1.0]]))


def test_gradients_are_relative_to_both_predictions_and_weights_to_before():
    title, heads, *rows, legend = cells(gradient_table(DEFAULT, [scaled_run()], ["a", "b"]))
    assert title[0].startswith("default=0.001: ")
    assert heads == ["static: before", "epoch 1", "epoch 2", "now: epoch 1", "epoch 2", "weights: epoch 1", "epoch 2"]
    assert rows == [["a.weight", "1.00", "0.40", "0.50", "0.20", "0.12", "1.50", "2.00"],
                    ["a.bias", "1.50", "1.50", "3.00", "0.75", "3.00"],
                    ["b.weight", "0.50", "1.00", "2.00", "1.00", "2.00", "1.00", "0.50"],
                    ["b.bias", "1.00", "2.00", "4.00", "0.25", "4.00"]]
    assert all(f"{word}:" in legend[0] for word in ("static", "now", "weights"))


def test_gradients_of_several_seeds_are_mean_and_standard_deviation_of_the_ratios():
    table = gradient_table(DEFAULT, [scaled_run(), scaled_run((0.8, 0.9), factor=2.0)], ["conv1", "conv2"])
    assert cells(table)[2] == ["conv1.weight", "1.50 ± 0.71", "1.00 ± 0.85", "1.15 ± 0.92", "0.50 ± 0.42",
                               "0.29 ± 0.23", "1.50 ± 0.00", "2.00 ± 0.00"]
    assert max(map(len, table.splitlines())) <= 130


def test_gradients_are_shown_of_each_method_at_its_best_rate():
    tables = result_tables(SWEEP, STATISTICS, WIDTH, STEPS_PER_EPOCH)
    titles = [line.split(":")[0] for line in tables.splitlines() if "gradients" in line]
    assert titles == ["default=0.001", "preconditioned=0.001", "initialization-only=0.001"]
    assert tables.count("\nfc.weight ") == tables.count("\nfc.bias ") == 3


@pytest.mark.parametrize("seeds", [1, 2])
def test_tables_of_nothing_but_diverged_trainings(seeds):
    runs = {Contender("default", rate): [diverged_run(5)] * seeds for rate in (1.0, 10.0)}
    _, *rows = cells(result_tables(runs, STATISTICS, WIDTH, STEPS_PER_EPOCH))
    assert rows[:2] == [["default=1", "diverged at step 5"], ["default=10", "diverged at step 5"]]


def test_divergence_on_the_test_images_is_at_the_last_step():
    runs = {DEFAULT: [made_up_run([1.0] * 40, test_loss=math.inf)], Contender("default", 0.0001): level(1.0)}
    assert results(runs)[1] == ["default=0.001", "diverged at step 40"]


def test_columns_are_aligned_and_lines_end_with_text():
    tables = result_tables(SWEEP, STATISTICS, WIDTH, STEPS_PER_EPOCH).splitlines()
    assert all(line == line.rstrip() for line in tables)
    assert len({len(line) for line in tables[:1] + tables[2:7]}) == 1  # those that end with steps per second


def test_preconditioner_is_the_reciprocal():
    assert cells(preconditioner_table(STATISTICS))[1] == [
        "fc", "0.1000", "0.2000", "0.5000", "0.2500", "2.0000", "4.0000"]
