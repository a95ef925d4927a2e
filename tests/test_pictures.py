"""The study's pictures show numbers worked out by hand, where the axes were given them."""
import math

import numpy as np
import pytest

from tests.test_study import made
from util.study import pictures
from util.study.methods import INITIALIZATIONS, METHODS, PAIRS
from util.study.report import LAYERS
from util.study.statistics import Results

COLOURS = {name: start.colour for name, start in INITIALIZATIONS.items()}
RISING = np.arange(200) / 100  # over the last tenth 1.895, around epoch 0.1 0.095


def data_of(line):
    return np.asarray(line.get_xdata()).tolist(), np.asarray(line.get_ydata()).tolist()


def line_of(axes, **properties):
    """Return the one line with these properties that has data."""
    found = [line for line in axes.lines
             if len(line.get_xdata()) and all(getattr(line, f"get_{name}")() == value
                                              for name, value in properties.items())]
    assert len(found) == 1
    return found[0]


def handles_of(legend):
    return {text.get_text(): handle for text, handle in zip(legend.get_texts(), legend.legend_handles)}


def test_depth_shows_each_seed_and_the_mean_where_it_was_not_tuned():
    runs = made("he", 0.001, 1.0, RISING, RISING + 0.2, decay=True)
    runs += made("he", 0.002, 5.0, decay=True) + made("he", 0.005, 5.0, decay=True)
    runs += made("he", 0.001, 2.0, 2.3, decay=True, depth=10)
    runs += made("adam", 0.001, 1.0, decay=True)
    figure = pictures.depth(Results(runs), ["default", "he"])
    top, middle, bottom = figure.axes
    places = pytest.approx([5, 10], rel=0.05)  # a little aside
    assert data_of(line_of(top, color=COLOURS["He"], linestyle="-")) == (places, pytest.approx([1.995, 2.15]))
    seeds = [data_of(line) for line in top.lines if line.get_linestyle() == "None"]
    assert [losses for _, losses in seeds] == [pytest.approx([1.895, 2.095]), pytest.approx([2.0, 2.3])]
    assert [numbers for numbers, _ in seeds] == [pytest.approx([5, 5], rel=0.05), pytest.approx([10, 10], rel=0.05)]
    assert math.log(10) in line_of(top, color="0.6").get_ydata()
    assert [label.get_text() for label in bottom.get_xticklabels()] == ["5", "10"]
    assert (top.get_ylabel(), bottom.get_ylim()) == ("training loss over the last tenth, nats", (1e-8, 1))
    (legend,) = figure.legends
    handles = handles_of(legend)
    assert handles["he"].get_color() == handles["theory: He"].get_color() == COLOURS["He"]
    depths, gradients = data_of(line_of(middle, color=COLOURS["half bias"]))
    assert depths == [5, 6, 7, 8, 9, 10]
    assert gradients == pytest.approx([0.239 * 2 ** (-layers / 2) for layers in range(6)], rel=0.01)  # beta^2 = 0.5
    assert data_of(line_of(bottom, color=COLOURS["PyTorch"]))[1][0] == pytest.approx(0.067, rel=0.01)
    assert pictures.depth(Results(made("he", 0.001, 1.0)), ["he"]) is None


def test_one_picture_of_depth_is_of_sgd_and_one_of_all_methods(tmp_path, monkeypatch):
    drawn = []
    monkeypatch.setattr(pictures, "depth", lambda results, methods: drawn.append(methods))
    pictures.draw_all(Results(made("adam", 0.001, math.nan)), "default", None, str(tmp_path))
    assert drawn == [[name for name, method in METHODS.items() if method.optimizer == "SGD"], list(METHODS)]


def test_constant_learning_rates_are_drawn_where_there_are_no_others():
    runs = made("he", 0.001, 1.0) + made("he", 0.001, 2.0, depth=7)
    top = pictures.depth(Results(runs), ["he"]).axes[0]
    assert top.get_title().startswith("training, constant learning rate")
    assert data_of(line_of(top, color=COLOURS["He"], linestyle="-"))[1] == [1.0, 2.0]


def test_colours_tell_initializations_and_dashes_the_rest():
    looks = {(style["color"], style["linestyle"]) for style in pictures.STYLES.values()}
    assert len(looks) == len(METHODS)
    assert len(set(COLOURS.values())) == len(COLOURS)
    for name, alone in PAIRS.items():
        with_factors, plain = pictures.STYLES[name], pictures.STYLES[alone]
        assert with_factors["color"] == plain["color"] == COLOURS[METHODS[name].initialization]
        assert (with_factors["linestyle"], plain["linestyle"]) == ("--", "-")


def test_depth_draws_diverged_trainings_as_guessing_and_fills_the_marks_of_preconditioned_ones():
    runs = made("preconditioned", 0.001, 1.0, decay=True)
    runs += made("preconditioned", 0.001, math.nan, 2.0, decay=True, depth=10)
    runs += made("initialization-only", 0.001, 1.5, decay=True)
    top = pictures.depth(Results(runs), ["preconditioned", "initialization-only"]).axes[0]
    assert data_of(line_of(top, linestyle="--", label="_child0"))[1] == pytest.approx([1.0, (math.log(10) + 2) / 2])
    marks = {line.get_ydata()[0]: line.get_fillstyle() for line in top.lines if line.get_linestyle() == "None"}
    assert marks == {1.0: "full", math.log(10): "full", 1.5: "none"}


def test_learning_rates_have_a_panel_for_each_method_with_the_default_one_in_grey():
    runs = made("default", 0.001, 1.0, 1.2)
    runs += made("default", 0.01, 1.3, 1.5)
    runs += made("he", 0.001, 1.5)
    runs += made("he", 0.002, 2.1)
    runs += made("he", 0.005, 1.7)
    runs += made("adam", 0.001, 1.0)
    runs += made("default", 0.001, 0.5, decay=True)
    first, second = pictures.learning_rates(Results(runs)).axes
    assert (first.get_title(), second.get_title()) == ("default", "he")
    assert data_of(line_of(first, color="#0072B2")) == ([0.001, 0.01], pytest.approx([1.1, 1.4]))
    grey = line_of(second, color="0.7", linestyle="-")
    assert data_of(grey) == ([0.001, 0.01], pytest.approx([1.1, 1.4]))
    assert grey.get_label() == "default, constant learning rate"
    assert data_of(line_of(second, color="0.7", linestyle="--")) == ([0.001], [0.5])
    assert data_of(line_of(second, color="#0072B2")) == ([0.001, 0.005], pytest.approx([1.5, 1.7]))
    assert second.get_xscale() == "log" and second.get_xlabel() == "learning rate"


def test_differences_have_a_panel_for_the_primary_outcome_and_one_for_the_early_one():
    """Of two pairs: the mean -0.3 or so, and 12.706 standard errors."""
    runs = made("default", 0.001, RISING, RISING)
    runs += made("he", 0.001, RISING - 0.2, 0.5 * RISING)
    runs += made("adam", 0.001, math.nan, 1.0)
    runs += made("dynamic", 0.001, RISING + 1, RISING + 1.2)
    results = Results(runs)
    figure = pictures.differences(results, "default", None)
    left, right = figure.axes
    final, final_of_dynamic = left.containers
    early, early_of_dynamic = right.containers
    assert final.lines[0].get_xdata() == pytest.approx([-(0.2 + 0.9475) / 2])
    assert early.lines[0].get_xdata() == pytest.approx([-(0.2 + 0.0475) / 2])
    (segment,) = final.lines[2][0].get_segments()
    assert segment[:, 0] == pytest.approx(-0.57375 + 12.7062 * 0.37375 * np.array([-1, 1]), rel=1e-4)
    labels = {place: label.get_text() for place, label in zip(left.get_yticks(), left.get_yticklabels())}
    assert labels == {0: "he=0.001", 1: "dynamic=0.001"}
    for of_he in final, early:
        assert of_he.lines[0].get_ydata() == [0]
    for of_dynamic in final_of_dynamic, early_of_dynamic:
        assert data_of(of_dynamic.lines[0]) == (pytest.approx([1.1]), [1])
    assert left.get_ylim() == (1.5, -0.5) and left.get_title() == "last tenth, minus default=0.001"
    assert any("left is better" in text.get_text() for text in figure.texts) and "0.1" in right.get_title()
    assert pictures.differences(results, "adam", None) is None


def test_curves_are_means_over_the_seeds_at_the_best_rate():
    runs = made("he", 0.001, 1.0, 1.4, 1.6) + made("he", 0.01, 9.0) + made("he", 0.02, 9.0) + made("adam", 0.1, math.nan)
    (axes,) = pictures.curves(Results(runs)).axes
    epochs, losses = data_of(axes.lines[0])
    assert len(axes.lines) == 1 and losses == pytest.approx([1.5] * 200)
    assert axes.get_title() == "constant learning rate" and axes.get_ylabel().startswith("training loss")
    assert epochs[0] == pytest.approx(0.005) and epochs[-1] == pytest.approx(1.995)


def test_curves_are_smoothed():
    (axes,) = pictures.curves(Results(made("he", 0.001, np.repeat([0.0, 2.0], 100), decay=True))).axes
    losses = data_of(axes.lines[0])[1]
    assert losses[50] == pytest.approx(0) and 0.5 < losses[99] < 1 < losses[100] < 1.5
    assert axes.get_title() == "learning rate decays to zero"


def test_growth_is_measured_against_predicted():
    grown = [run._replace(weight_growth=(9,) * 5, measured_gradient_growth=(1, 2, 3, 4, 5),
                          predicted_gradient_growth=(6, 7, 8, 9, 10)) for run in made("dynamic", 0.001, 1.0)]
    (axes,) = pictures.growth(Results([*grown, *made("adam", 0.001, 1.0)])).axes
    drawn = [line for line in axes.lines if line.get_linestyle() == "None"]
    handles = handles_of(axes.get_legend())
    markers = [handles[layer].get_marker() for layer in LAYERS]
    assert [line.get_marker() for line in drawn] == markers == list("os^Dv")
    points = [(*line.get_xdata(), *line.get_ydata()) for line in drawn]
    np.testing.assert_allclose(points, [(6, 1), (7, 2), (8, 3), (9, 4), (10, 5)])
    (diagonal,) = [line for line in axes.lines if line.get_label() == "as predicted"]
    ends = axes.transData.inverted().transform(diagonal.get_transform().transform(diagonal.get_xydata()))
    np.testing.assert_allclose(ends[:, 0], ends[:, 1])
    assert "measured" in axes.get_ylabel() and "predicted" in axes.get_xlabel()
    assert pictures.growth(Results(made("adam", 0.001, 1.0))) is None


def test_scales_are_of_the_tutorials_network_and_a_deep_one():
    top, deep_top, bottom, deep_bottom = pictures.scales().axes
    layers, gradients = data_of(line_of(bottom, color=COLOURS["variance-preserving"]))
    assert layers == [1, 2, 3, 4, 5]
    assert gradients == pytest.approx([0.7899, 0.7787, 0.2762, 0.2390, 0.7071], abs=1e-4)
    assert data_of(line_of(top, color=COLOURS["variance-preserving"]))[1][-1] == pytest.approx(0.5**0.5)
    assert line_of(bottom, linestyle="--").get_ydata() == [1, 1]
    assert len(deep_top.lines[0].get_xdata()) == 40 and deep_bottom.get_yscale() == "log"


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("loss, drawn", [
    (math.nan, {"scales", "depth", "depth_all"}), (8e17, {"scales", "depth", "depth_all"}),
    (1.0, {"scales", "depth", "depth_all", "curves", "differences"})])
def test_only_pictures_with_data_are_written(tmp_path, loss, drawn):
    results = Results([*made("default", 0.001, loss, loss), *made("he", 0.001, loss, loss),
                       *made("he", 0.001, loss, depth=7)])
    pictures.draw_all(results, "default", None, str(tmp_path))
    assert {path.stem for path in tmp_path.iterdir()} == drawn
