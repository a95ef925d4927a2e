"""The study's pictures show numbers worked out by hand, where the axes were given them."""
import math

import numpy as np
import pytest

from tests.study.helpers import holding, study, trainings

RISING = np.arange(200) / 100  # over the last tenth 1.895, around epoch 0.1 0.095
LATE = np.repeat([0.0, 1.0], 100)
DEVIATIONS = [0.0173205, 0.0173205, -0.0173205, -0.0173205]  # whose standard error is 0.01
HALF_BIAS, VARIANCE_PRESERVING = "#D55E00", "#0072B2"
SIGNIFICANCE = ["significant after Holm's adjustment", "not significant"]


def marks_of(axes):
    """Describe each mark with an error bar: its place, its height, half of the bar, its colour, filling and shape."""
    found = []
    for container in axes.containers:
        mark, _, (bars,) = container.lines
        looks = f"{mark.get_color()} {mark.get_markerfacecolor()} {mark.get_marker()}"
        halves = np.ptp(bars.get_segments(), axis=1)[:, 1] / 2
        for (x, y), half in zip(mark.get_xydata(), halves):
            found.append(f"{x:.3g}: {y:.3f} ± {half:.3f} {looks}")
    return found


def line_of(axes, colour):
    """Return the heights of the one line of a colour without error bars."""
    (line,) = [line for line in axes.lines if line.get_color() == colour]
    return list(line.get_ydata())


def texts_of(labels):
    return [label.get_text() for label in labels]


def paired(method, alone, difference, **conditions):
    """Return trainings of four seeds that end about so much apart, with a standard error of 0.01; early, they agree."""
    with_factors = [LATE * (1 + difference + deviation) for deviation in DEVIATIONS]
    rows = trainings(method, 0.001, *with_factors, **conditions)
    return rows + trainings(alone, 0.001, LATE, LATE, LATE, LATE, **conditions)


@holding(trainings("he", 0.001, 1.0, RISING, RISING + 0.2, decay=True), trainings("he", 0.002, 5.0, decay=True),
         trainings("he", 0.005, 5.0, decay=True), trainings("he", 0.001, math.nan, 2.3, decay=True, depth=10),
         trainings("preconditioned-half-bias", 0.001, 1.0, decay=True), trainings("default", 0.001, 1.0),
         trainings("adam", 0.001, 1.0, decay=True))
def test_depth_shows_means_and_deviations_at_the_best_rates_above_what_the_theory_says(figures):
    """Trainings that diverged are shown as guessing; a constant rate is not shown, since others decay."""
    top, middle, bottom = figures["depth"]
    assert marks_of(top) == [
        "4.85: 1.995 ± 0.141 #009E73 #009E73 o", "9.7: 2.301 ± 0.002 #009E73 #009E73 o",
        "5.15: 1.000 ± 0.000 #D55E00 #D55E00 s"]  # a little aside
    assert line_of(top, "0.6") == [math.log(10)] * 2
    assert line_of(middle, HALF_BIAS) == pytest.approx([0.239, 0.0423], rel=0.01)  # times 2^(-5/2)
    assert line_of(bottom, "#009E73")[0] == pytest.approx(0.089, rel=0.01)
    assert texts_of(bottom.get_xticklabels()) == ["5", "10"]
    assert top.get_title().startswith("training, decaying learning rate; mean and standard deviation")
    assert texts_of(top.artists[-1].get_texts()) == ["He", "half bias"]
    assert texts_of(top.get_legend().get_texts()) == ["plain", "fixed factors"]


@pytest.mark.parametrize("held, marks, texts, legend", [
    (paired("preconditioned-half-bias", "initialization-half-bias", -0.3, decay=True, depth=10)
     + paired("preconditioner-only", "default", 0.04, decay=True)
     + paired("preconditioned", "initialization-only", 0.5),  # at a constant rate
     ["3.95: 0.040 ± 0.032 black black o", "32: -0.300 ± 0.032 #D55E00 #D55E00 o"],
     ["10 layers "], ["PyTorch", "half bias", *SIGNIFICANCE]),
    # p = 0.028 of four standard errors, 0.056 for two of them
    (paired("preconditioner-only", "default", 0.04)
     + paired("preconditioner-only", "default", 0.04, depth=7, activation="tanh"),
     ["3.95: 0.040 ± 0.032 black white o", "8.58: 0.040 ± 0.032 black white ^"],
     [], ["PyTorch", *SIGNIFICANCE, "tanh instead of relu"]),
    (trainings("default", 0.001, 2.3, 2.3, depth=10) + trainings("default", 0.001, 1.0)
     + trainings("preconditioner-only", 0.001, 2.0, 2.02, depth=10),
     ["213: -0.290 ± 0.127 black black o"],
     ["10 layers, \nwhich learn nothing without "], ["PyTorch", *SIGNIFICANCE])],
    ids=["significant", "not significant", "learns nothing without"])
def test_the_rule_sets_differences_and_their_intervals_against_unequal_gradients(figures, marks, texts, legend):
    """Half of the interval are 3.1824 standard errors (three degrees of freedom), or 12.706 (one)."""
    (axes,) = figures["rule"]
    assert marks_of(axes) == marks
    assert texts_of(axes.texts) == texts
    assert axes.get_xscale() == "log" and "minus without" in axes.get_ylabel()
    assert texts_of(axes.figure.legends[0].get_texts()) == legend


@holding(trainings("adam", 0.001, 1.0))
def test_scales_are_of_the_tutorials_network_and_a_deep_one(figures):
    top, deep_top, bottom, deep_bottom = figures["scales"]
    expected = [0.7899, 0.7787, 0.2762, 0.2390, 0.7071]
    assert line_of(bottom, VARIANCE_PRESERVING) == pytest.approx(expected, abs=1e-4)
    first, *_, last = line_of(top, VARIANCE_PRESERVING)
    assert (first, last) == pytest.approx((1, 0.5**0.5))
    assert bottom.lines[-1].get_ydata() == [1, 1]  # preconditioned
    assert list(deep_top.lines[0].get_xdata()) == list(range(1, 41))
    assert deep_bottom.get_yscale() == "log"


@pytest.mark.parametrize("held, expected", [
    (trainings("adam", 0.001, 1.0) + trainings("adam", 0.001, 1.0, depth=7), ["scales"]),
    (trainings("default", 0.001, 1.0, 1.1) + trainings("he", 0.001, 1.0, 1.0), ["scales"]),
    (trainings("default", 0.001, math.nan) + trainings("he", 0.001, math.nan, depth=7), ["depth", "scales"])],
    ids=["other methods", "one depth", "diverged"])
def test_no_picture_is_drawn_without_data(figures, expected):
    assert sorted(figures) == expected


@holding(trainings("he", 0.001, 1.0))
def test_pictures_are_written_into_a_folder_that_is_made(path, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    study(path, "--pictures", "~/new")
    assert (tmp_path / "new" / "scales.png").read_bytes().startswith(b"\x89PNG")
