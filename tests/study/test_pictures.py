"""The study's pictures show numbers worked out by hand, where the axes were given them."""
import math

import numpy as np
import pytest

from tests.study.test_study import made
from util.study import pictures
from util.study.methods import INITIALIZATIONS, METHODS, PAIRS
from util.study.statistics import Results
from util.study.theory import spread

RISING = np.arange(200) / 100  # over the last tenth 1.895, around epoch 0.1 0.095
COLOURS = {name: start.colour for name, start in INITIALIZATIONS.items()}


def data_of(line):
    return np.asarray(line.get_xdata()).tolist(), np.asarray(line.get_ydata()).tolist()


def line_of(axes, **properties):
    """Return the one line with these properties that has data."""
    found = [line for line in axes.lines
             if len(line.get_xdata()) and all(getattr(line, f"get_{name}")() == value
                                              for name, value in properties.items())]
    assert len(found) == 1
    return found[0]


def interval_of(container):
    """Return the mark of an error bar, and the ends of its bar in both coordinates."""
    mark, _, (bars,) = container.lines
    (ends,) = bars.get_segments()
    return mark, ends


def handles_of(legend):
    return {text.get_text(): handle for text, handle in zip(legend.get_texts(), legend.legend_handles)}


def test_colours_tell_initializations_and_dashes_the_rest():
    looks = {(style["color"], style["linestyle"]) for style in pictures.STYLES.values()}
    assert len(looks) == len(METHODS)
    assert len(set(COLOURS.values())) == len(COLOURS)
    for name, alone in PAIRS.items():
        with_factors, plain = pictures.STYLES[name], pictures.STYLES[alone]
        assert with_factors["color"] == plain["color"] == COLOURS[METHODS[name].initialization]
        assert (with_factors["linestyle"], plain["linestyle"]) == ("--", "-")


def test_depth_shows_means_and_deviations_where_the_rate_was_not_tuned():
    runs = made("he", 0.001, 1.0, RISING, RISING + 0.2, decay=True)
    runs += made("he", 0.002, 5.0, decay=True) + made("he", 0.005, 5.0, decay=True)
    runs += made("he", 0.001, 2.0, 2.3, decay=True, depth=10)
    runs += made("preconditioned-half-bias", 0.001, 1.0, decay=True)
    runs += made("adam", 0.001, 1.0, decay=True)
    figure = pictures.depth(Results(runs))
    top, middle, bottom = figure.axes
    depths = pytest.approx([5, 10], rel=0.05)  # a little aside
    he, half_bias = top.containers
    assert data_of(he.lines[0]) == (depths, pytest.approx([1.995, 2.15]))
    half_widths = [np.ptp(bar[:, 1]) / 2 for bar in he.lines[2][0].get_segments()]
    assert half_widths == pytest.approx([0.1 * 2**0.5, 0.15 * 2**0.5])
    assert data_of(half_bias.lines[0]) == (pytest.approx([5], rel=0.05), [1])
    assert math.log(10) in line_of(top, color="0.6").get_ydata()
    assert [label.get_text() for label in bottom.get_xticklabels()] == ["5", "10"]
    assert (top.get_ylabel(), bottom.get_ylim()) == ("training loss over the last tenth, nats", (1e-8, 1))
    assert top.get_title().startswith("training, learning rate decays to zero")
    numbers, gradients = data_of(line_of(middle, color=COLOURS["half bias"]))
    assert numbers == [5, 10]
    assert gradients == pytest.approx([0.239, 0.239 * 2**-2.5], rel=0.01)  # beta^2 = 0.5
    assert data_of(line_of(bottom, color=COLOURS["He"]))[1][0] == pytest.approx(0.089, rel=0.01)
    assert len(middle.lines) == len(bottom.lines) == 2
    assert pictures.depth(Results(made("he", 0.001, 1.0))) is None
    assert pictures.depth(Results(made("adam", 0.001, 1.0) + made("adam", 0.001, 1.0, depth=7))) is None


def test_legends_of_depth_explain_colours_and_dashes():
    runs = []
    for method in "default", "preconditioner-only", "he":
        runs += made(method, 0.001, 1.0) + made(method, 0.001, 2.0, depth=7)
    top = pictures.depth(Results(runs)).axes[0]
    (initializations,) = [artist for artist in top.artists if hasattr(artist, "legend_handles")]
    colours = {name: handle.get_color() for name, handle in handles_of(initializations).items()}
    assert colours == {"PyTorch": COLOURS["PyTorch"], "He": COLOURS["He"]}
    gradients = {name: (handle.get_linestyle(), handle.get_marker())
                 for name, handle in handles_of(top.get_legend()).items()}
    assert gradients == {"plain": ("-", "o"), "fixed factors": ("--", "s")}


def test_constant_learning_rates_are_drawn_where_there_are_no_others():
    runs = made("he", 0.001, 1.0) + made("he", 0.001, 2.0, depth=7)
    top = pictures.depth(Results(runs)).axes[0]
    assert top.get_title().startswith("training, constant learning rate")
    assert data_of(top.containers[0].lines[0])[1] == [1.0, 2.0]


def test_depth_draws_diverged_trainings_as_guessing():
    runs = made("preconditioned", 0.001, 1.0, decay=True)
    runs += made("preconditioned", 0.001, math.nan, 2.0, decay=True, depth=10)
    top = pictures.depth(Results(runs)).axes[0]
    assert data_of(top.containers[0].lines[0])[1] == pytest.approx([1.0, (math.log(10) + 2) / 2])


def paired(method, alone, difference, **conditions):
    """Return trainings of four seeds that end about so much apart, with a standard error of 0.01; early, they agree."""
    late = np.repeat([0.0, 1.0], 100)
    with_factors = 1 + difference + np.array([0.01, 0.01, -0.01, -0.01]) * 3**0.5
    runs = made(method, 0.001, *(loss * late for loss in with_factors), **conditions)
    return runs + made(alone, 0.001, late, late, late, late, **conditions)


def test_the_rule_sets_differences_against_unequal_gradients():
    """Half of the interval are 3.1824 standard errors (three degrees of freedom)."""
    runs = paired("preconditioned-half-bias", "initialization-half-bias", -0.3, decay=True, depth=10)
    runs += paired("preconditioner-only", "default", 0.04, decay=True)
    runs += paired("preconditioned", "initialization-only", 0.5)  # at a constant rate, where others decay
    figure = pictures.rule(Results(runs))
    (axes,) = figure.axes
    (of_pytorch, bar), (of_half_bias, _) = map(interval_of, axes.containers)
    assert data_of(of_pytorch) == (pytest.approx([3.95], rel=0.01), pytest.approx([0.04]))
    assert data_of(of_half_bias) == ([spread("half bias", 10)], pytest.approx([-0.3]))
    assert bar[:, 1] == pytest.approx([0.04 - 0.031824, 0.04 + 0.031824], abs=1e-5)
    assert (of_pytorch.get_color(), of_half_bias.get_color()) == (COLOURS["PyTorch"], COLOURS["half bias"])
    assert of_pytorch.get_markerfacecolor() == COLOURS["PyTorch"]
    assert [text.get_text().strip() for text in axes.texts] == ["10 layers"]
    assert axes.get_xscale() == "log" and "minus without" in axes.get_ylabel()
    assert set(handles_of(figure.legends[0])) == {
        "PyTorch", "half bias", "significant after Holm's adjustment", "not significant"}


def test_the_rule_names_networks_that_learn_nothing_without_the_preconditioner():
    guessing = [2.3 * np.ones(200)] * 4
    runs = made("default", 0.001, *guessing, depth=10) + made("preconditioner-only", 0.001, 2.0, 2.1, 2.0, 2.1, depth=10)
    runs += made("default", 0.001, 1.0, 1.0, depth=7) + made("preconditioner-only", 0.001, 1.1, 1.2, depth=7)
    (axes,) = pictures.rule(Results(runs)).axes
    (label,) = axes.texts
    assert label.get_text().split(", \n") == ["10 layers", "which learn nothing without "]
    assert label.xy == (spread("PyTorch", 10), pytest.approx(2.05 - 2.3))


def test_the_rule_tells_activations_by_marks(monkeypatch):
    monkeypatch.setattr(pictures, "spread", lambda name, depth, activation: {"relu": 10.0, "tanh": 20.0}[activation])
    runs = paired("preconditioner-only", "default", 0.1, depth=7)
    runs += paired("preconditioner-only", "default", 0.2, depth=10, activation="tanh")
    figure = pictures.rule(Results(runs))
    marks = [interval_of(container)[0] for container in figure.axes[0].containers]
    assert {(*mark.get_xdata(), mark.get_marker()) for mark in marks} == {(10.0, "o"), (20.0, "^")}
    of_tanh = handles_of(figure.legends[0])["tanh instead of relu"]
    assert (of_tanh.get_marker(), of_tanh.get_markerfacecolor()) == ("^", "white")


def test_pictures_of_one_depth_are_of_relu():
    runs = made("default", 0.001, 1.0, 1.1, activation="tanh") + made("he", 0.001, 1.2, 1.4, activation="tanh")
    results = Results(runs)
    assert pictures.curves(results) is pictures.differences(results, "default", None) is None


def test_marks_are_hollow_where_a_difference_is_not_significant_after_holms_adjustment():
    """p = 0.028 of four standard errors, 0.056 for two of them."""
    alone = paired("preconditioner-only", "default", 0.04)
    both = alone + paired("preconditioner-only", "default", 0.04, depth=7)
    for runs, filling in (alone + made("he", 0.001, 1.0, depth=7), "black"), (both, "white"):
        (axes,) = pictures.rule(Results(runs)).axes
        assert {interval_of(each)[0].get_markerfacecolor() for each in axes.containers} == {filling}


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
    runs += made("dynamic", 0.001, RISING + 1, RISING + 1.002)
    results = Results(runs)
    figure = pictures.differences(results, "default", None)
    left, right = figure.axes
    (final, bar), (final_of_dynamic, _) = map(interval_of, left.containers)
    (early, _), (early_of_dynamic, _) = map(interval_of, right.containers)
    assert data_of(final) == (pytest.approx([-(0.2 + 0.9475) / 2]), [0])
    assert data_of(early) == (pytest.approx([-(0.2 + 0.0475) / 2]), [0])
    for of_dynamic in final_of_dynamic, early_of_dynamic:
        assert data_of(of_dynamic) == (pytest.approx([1.001]), [1])
    assert bar[:, 0] == pytest.approx(-0.57375 + 12.7062 * 0.37375 * np.array([-1, 1]), rel=1e-4)
    fillings = [mark.get_markerfacecolor() for mark in (final, final_of_dynamic)]
    assert fillings == ["white", COLOURS["variance-preserving"]]  # the latter is significant
    assert early.get_marker() == early_of_dynamic.get_marker() == "|"  # of exploratory outcomes, none is
    labels = {place: label.get_text() for place, label in zip(left.get_yticks(), left.get_yticklabels())}
    assert labels == {0: "he=0.001", 1: "dynamic=0.001"}
    assert left.get_ylim() == (1.5, -0.5) and left.get_title() == "last tenth, minus default=0.001"
    assert "left is better" in left.get_xlabel() and "0.1" in right.get_title()
    assert set(handles_of(figure.legends[0])) == {"significant after Holm's adjustment", "not significant"}
    assert pictures.differences(results, "adam", None) is None


@pytest.mark.parametrize("rate, shown", [
    (None, ["he=0.001"]), (0.001, ["default=0.002", "he=0.001", "he=0.002"])])
def test_differences_are_of_all_rates_where_the_reference_has_a_given_one(rate, shown):
    """As in the tables; so is what is significant."""
    runs = made("default", 0.001, 1.0, 1.1) + made("default", 0.002, 2.0, 2.2)
    runs += made("he", 0.001, 1.3, 1.5) + made("he", 0.002, 2.3, 2.6)
    left, _ = pictures.differences(Results(runs), "default", rate).axes
    assert [label.get_text() for label in left.get_yticklabels()] == shown


def test_curves_are_mean_differences_over_the_seeds_that_both_report():
    """The seed 0 is for tuning; default trainings lack the seed 3."""
    runs = made("default", 0.001, 1.0, 1.2, 1.3) + made("default", 0.01, 9.0) + made("default", 0.02, 9.0)
    runs += made("he", 0.001, 1.0, 1.4, 1.6, 7.0) + made("he", 0.01, 9.0) + made("he", 0.02, 9.0)
    runs += made("adam", 0.1, math.nan) + made("dynamic", 0.001, 1.0, seeds=[3])
    (axes,) = pictures.curves(Results(runs)).axes
    (of_he,) = [line for line in axes.lines if len(line.get_xdata()) > 2]
    epochs, losses = data_of(of_he)
    assert losses == pytest.approx([0.25] * 200) and of_he.get_label() == "he"
    assert axes.get_title() == "constant learning rate" and axes.get_ylabel().startswith("loss minus")
    assert epochs[0] == pytest.approx(0.005) and epochs[-1] == pytest.approx(1.995)
    assert pictures.curves(Results(made("he", 0.001, 1.0))) is None


def test_curves_are_smoothed_over_a_tenth_of_the_run():
    rising = np.repeat([0.0, 2.0], 100)
    runs = made("he", 0.001, rising, rising, decay=True) + made("default", 0.001, 0.0, 0.0, decay=True)
    (axes,) = pictures.curves(Results(runs)).axes
    (of_he,) = [line for line in axes.lines if len(line.get_xdata()) > 2]
    losses = data_of(of_he)[1]
    assert losses[88] == pytest.approx(0) and 0 < losses[92] < 0.1 and 0.8 < losses[99] < 1 < losses[100] < 1.2
    assert axes.get_title() == "learning rate decays to zero"


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
    (math.nan, {"scales", "depth"}), (8e17, {"scales", "depth"}),
    (1.0, {"scales", "depth", "rule", "curves", "differences"})])
def test_only_pictures_with_data_are_written(tmp_path, loss, drawn):
    results = Results([*made("default", 0.001, loss, loss), *made("he", 0.001, loss, loss + 1),
                       *made("preconditioner-only", 0.001, loss, loss + 1), *made("he", 0.001, loss, depth=7)])
    pictures.draw_all(results, "default", None, str(tmp_path))
    assert {path.stem for path in tmp_path.iterdir()} == drawn


def test_each_picture_has_its_own_name(monkeypatch):
    """Whatever the axes are, the name of the function that drew them is the name of the file."""
    names = ["depth", "rule", "scales", "learning_rates", "differences", "curves"]
    written = {}
    for name in names:
        monkeypatch.setattr(pictures, name, lambda *_, drawn=name: drawn)
    monkeypatch.setattr(pictures, "save_figure", lambda figure, path: written.update({path: figure}))
    pictures.draw_all(Results([]), "default", None, "folder")
    assert written == {f"folder/{name}.png": name for name in names}


def test_another_method_does_not_move_the_marks_of_depth_by_much(monkeypatch):
    runs = made("he", 0.001, 1.0) + made("he", 0.001, 2.0, depth=7)
    monkeypatch.setattr(pictures, "DEPTH_METHODS", [*pictures.DEPTH_METHODS, *"abcdefgh"])
    top = pictures.depth(Results(runs)).axes[0]
    assert data_of(top.containers[0].lines[0])[0] == pytest.approx([5, 7], rel=0.05)
