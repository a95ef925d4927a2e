"""The study's pictures show numbers worked out by hand, where the axes were given them."""
import math

import numpy as np
import pytest

from tests.study.helpers import holding, study, trainings

RISING = np.arange(200) / 100  # over the last tenth 1.895, around epoch 0.1 0.095
LATE = np.repeat([0.0, 1.0], 100)
DEVIATIONS = 0.01 * 3**0.5 * np.array([[1], [1], [-1], [-1]])
HE, HALF_BIAS, VARIANCE_PRESERVING = "#009E73", "#D55E00", "#0072B2"
SIGNIFICANCE = ["significant after Holm's adjustment", "not significant"]


def marks_of(axes):
    """Describe each mark with an error bar: its height, half of the bar, its colour, filling and shape."""
    found = []
    for container in axes.containers:
        mark, _, (bars,) = container.lines
        looks = mark.get_color(), mark.get_markerfacecolor(), mark.get_marker()
        for y, bar in zip(mark.get_ydata(), bars.get_segments()):
            half = np.ptp(bar, axis=0).max() / 2
            found.append(" ".join([f"{y:.3f} ± {half:.3f}", *looks]))
    return found


def places_of(axes):
    """Return how far to the right each mark with an error bar is."""
    return [x for container in axes.containers for x in container.lines[0].get_xdata()]


def line_of(axes, colour):
    """Return the heights of the one line of a colour without error bars."""
    (line,) = [line for line in axes.lines if line.get_color() == colour]
    return list(line.get_ydata())


def texts_of(labels):
    return [label.get_text() for label in labels]


def legend_of(axes):
    """Return the texts of the legend below all panels."""
    return texts_of(axes.figure.legends[0].get_texts())


def paired(method, alone, difference, **conditions):
    """Return trainings of four seeds that end about so much apart, with a standard error of 0.01; early, they agree."""
    with_factors = LATE * (1 + difference + DEVIATIONS)
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
        "1.995 ± 0.141 #009E73 #009E73 o", "2.301 ± 0.002 #009E73 #009E73 o", "1.000 ± 0.000 #D55E00 #D55E00 s"]
    assert [container.lines[0].get_linestyle() for container in top.containers] == ["-", "--"]
    assert places_of(top) == pytest.approx([5, 10, 5], rel=0.05)  # a little aside
    assert line_of(top, "0.6") == [math.log(10)] * 2
    assert line_of(middle, HALF_BIAS) == pytest.approx([0.239, 0.0423], rel=0.01)  # times 2^(-5/2)
    assert line_of(bottom, HE)[0] == pytest.approx(0.089, rel=0.01)
    assert len(middle.lines) == len(bottom.lines) == 2
    assert texts_of(bottom.get_xticklabels()) == ["5", "10"]
    assert top.get_title().startswith("training, decaying learning rate; mean and standard deviation")
    initializations, gradients = top.artists[-1], top.get_legend()
    assert texts_of(initializations.get_texts()) == ["He", "half bias"]
    assert texts_of(gradients.get_texts()) == ["plain", "fixed factors"]


@holding(paired("preconditioned-half-bias", "initialization-half-bias", -0.3, decay=True, depth=10),
         paired("preconditioner-only", "default", 0.04, decay=True),
         paired("preconditioned", "initialization-only", 0.5))  # at a constant rate
def test_the_rule_sets_differences_and_their_intervals_against_unequal_gradients(figures):
    """Half of the interval are 3.1824 standard errors (three degrees of freedom)."""
    (axes,) = figures["rule"]
    assert marks_of(axes) == ["0.040 ± 0.032 black black o", "-0.300 ± 0.032 #D55E00 #D55E00 o"]
    assert places_of(axes)[0] == pytest.approx(3.95, rel=0.01)
    assert texts_of(axes.texts) == ["10 layers "]
    assert axes.get_xscale() == "log" and "minus without" in axes.get_ylabel()
    assert set(legend_of(axes)) == {"PyTorch", "half bias", *SIGNIFICANCE}


@holding(paired("preconditioner-only", "default", 0.04),
         paired("preconditioner-only", "default", 0.04, depth=7, activation="tanh"))
def test_the_rule_leaves_marks_hollow_that_are_not_significant_after_holms_adjustment(figures):
    """p = 0.028 of four standard errors, 0.056 for two of them; a triangle is of tanh."""
    (axes,) = figures["rule"]
    assert marks_of(axes) == ["0.040 ± 0.032 black white o", "0.040 ± 0.032 black white ^"]
    assert texts_of(axes.texts) == []
    assert "tanh instead of relu" in legend_of(axes)


@holding(trainings("default", 0.001, 2.3, 2.3, depth=10), trainings("default", 0.001, 1.0),
         trainings("preconditioner-only", 0.001, 2.0, 2.1, depth=10))
def test_the_rule_names_deep_networks_that_learn_nothing_without_the_preconditioner(figures):
    (label,) = figures["rule"][0].texts
    assert label.get_text() == "10 layers, \nwhich learn nothing without "
    assert label.xy[1] == pytest.approx(-0.25)


@holding(trainings("adam", 0.001, 1.0))
def test_scales_are_of_the_tutorials_network_and_a_deep_one(figures):
    top, deep_top, bottom, deep_bottom = figures["scales"]
    expected = [0.7899, 0.7787, 0.2762, 0.2390, 0.7071]
    assert line_of(bottom, VARIANCE_PRESERVING) == pytest.approx(expected, abs=1e-4)
    assert line_of(top, VARIANCE_PRESERVING)[-1] == pytest.approx(0.5**0.5)
    assert bottom.lines[-1].get_ydata() == [1, 1]  # preconditioned
    assert len(deep_top.lines[0].get_xdata()) == 40
    assert deep_bottom.get_yscale() == "log"


@pytest.mark.parametrize("held, expected", [
    (trainings("adam", 0.001, 1.0) + trainings("adam", 0.001, 1.0, depth=7), ["scales"]),
    (trainings("default", 0.001, 1.0, 1.1) + trainings("he", 0.001, 1.0, 1.0), ["scales"]),
    (trainings("default", 0.001, math.nan) + trainings("he", 0.001, math.nan, depth=7), ["depth", "scales"])],
    ids=["other methods", "one depth", "diverged"])
def test_no_picture_is_drawn_without_data(figures, expected):
    assert sorted(figures) == expected


@holding(trainings("he", 0.001, 1.0))
def test_pictures_are_written_into_a_folder_that_is_made(path, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("HOME", str(tmp_path))
    study(path, "--pictures", "~/new")
    assert (tmp_path / "new" / "scales.png").read_bytes().startswith(b"\x89PNG")
    assert f"drawing pictures into '{tmp_path / 'new'}'" in capsys.readouterr().err
