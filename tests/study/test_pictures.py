"""The study's pictures show numbers worked out by hand, where the axes were given them."""
import math

import numpy as np
import pytest

from tests.study.helpers import HEADER, figures_of, study, trainings

RISING = np.arange(200) / 100  # over the last tenth 1.895, around epoch 0.1 0.095
HE, HALF_BIAS, PYTORCH = "#009E73", "#D55E00", "black"


@pytest.fixture
def drawn(path):
    """Draw the pictures of rows; return the axes of one, and all names."""
    def draw(name, rows, *arguments):
        path.write_text(HEADER + rows)
        figures = figures_of(path, *arguments)
        return figures[f"{name}.png"].axes, sorted(figures)
    return draw


def data_of(line):
    return np.asarray(line.get_xdata()).tolist(), np.asarray(line.get_ydata()).tolist()


def line_of(axes, colour):
    """Return the data of the one line of a colour that has some."""
    (line,) = [line for line in axes.lines if line.get_color() == colour and len(line.get_xdata())]
    return data_of(line)


def intervals_of(axes):
    """Return (x, y, half width, colour, filling, shape) of each mark with an error bar."""
    found = []
    for container in axes.containers:
        mark, _, (bars,) = container.lines
        for x, y, bar in zip(*data_of(mark), bars.get_segments()):
            found.append((x, y, np.ptp(bar, axis=0).max() / 2, mark.get_color(), mark.get_markerfacecolor(),
                          mark.get_marker()))
    return found


def legend_of(axes):
    return [text.get_text() for text in axes.figure.legends[0].get_texts()]


def test_depth_shows_means_and_deviations_at_the_best_rates_above_what_the_theory_says(drawn):
    """Trainings that diverged are shown as guessing; a constant rate is not, where another decays."""
    rows = trainings("he", 0.001, 1.0, RISING, RISING + 0.2, decay=True)
    rows += trainings("he", 0.002, 5.0, decay=True) + trainings("he", 0.005, 5.0, decay=True)
    rows += trainings("he", 0.001, math.nan, 2.3, decay=True, depth=10) + trainings("default", 0.001, 1.0)
    rows += trainings("preconditioned-half-bias", 0.001, 1.0, decay=True) + trainings("adam", 0.001, 1.0, decay=True)
    (top, middle, bottom), _ = drawn("depth", rows)
    marks = intervals_of(top)
    assert [mark[0] for mark in marks] == pytest.approx([5, 10, 5], rel=0.05)  # a little aside
    assert [mark[1] for mark in marks] == pytest.approx([1.995, (math.log(10) + 2.3) / 2, 1.0])
    assert [mark[2] for mark in marks] == pytest.approx([0.1 * 2**0.5, (math.log(10) - 2.3) / 2**0.5, 0])
    assert [mark[3] for mark in marks] == [HE, HE, HALF_BIAS]
    assert [container.lines[0].get_linestyle() for container in top.containers] == ["-", "--"]
    assert line_of(top, "0.6")[1] == [math.log(10)] * 2
    assert line_of(middle, HALF_BIAS) == ([5, 10], pytest.approx([0.239, 0.239 * 2**-2.5], rel=0.01))  # beta^2 = 0.5
    assert line_of(bottom, HE)[1][0] == pytest.approx(0.089, rel=0.01)
    assert len(middle.lines) == len(bottom.lines) == 2
    assert [label.get_text() for label in bottom.get_xticklabels()] == ["5", "10"]
    assert top.get_title() == "training, decaying learning rate; mean and standard deviation over the seeds"
    (first,) = [artist for artist in top.artists if hasattr(artist, "legend_handles")]
    texts = [[text.get_text() for text in legend.get_texts()] for legend in (first, top.get_legend())]
    assert texts == [["He", "half bias"], ["plain", "fixed factors"]]


def paired(method, alone, difference, **conditions):
    """Return trainings of four seeds that end about so much apart, with a standard error of 0.01; early, they agree."""
    late = np.repeat([0.0, 1.0], 100)
    with_factors = 1 + difference + np.array([0.01, 0.01, -0.01, -0.01]) * 3**0.5
    rows = trainings(method, 0.001, *(loss * late for loss in with_factors), **conditions)
    return rows + trainings(alone, 0.001, late, late, late, late, **conditions)


def test_the_rule_sets_differences_and_their_intervals_against_unequal_gradients(drawn):
    """Half of the interval are 3.1824 standard errors (three degrees of freedom)."""
    rows = paired("preconditioned-half-bias", "initialization-half-bias", -0.3, decay=True, depth=10)
    rows += paired("preconditioner-only", "default", 0.04, decay=True)
    rows += paired("preconditioned", "initialization-only", 0.5)  # at a constant rate, where others decay
    (axes,), _ = drawn("rule", rows)
    of_pytorch, of_half_bias = intervals_of(axes)
    assert of_pytorch == (pytest.approx(3.95, rel=0.01), pytest.approx(0.04), pytest.approx(0.031824, rel=1e-3),
                          PYTORCH, PYTORCH, "o")
    assert of_half_bias[1:] == (pytest.approx(-0.3), pytest.approx(0.031824, rel=1e-3), HALF_BIAS, HALF_BIAS, "o")
    assert [text.get_text().strip() for text in axes.texts] == ["10 layers"]
    assert axes.get_xscale() == "log" and "minus without" in axes.get_ylabel()
    assert set(legend_of(axes)) == {"PyTorch", "half bias", "significant after Holm's adjustment", "not significant"}


def test_the_rule_fills_marks_by_holms_adjustment_and_names_deep_networks_that_learn_nothing(drawn):
    """p = 0.028 of four standard errors, 0.056 for two of them."""
    rows = paired("preconditioner-only", "default", 0.04)
    rows += paired("preconditioner-only", "default", 0.04, depth=7, activation="tanh")
    (axes,), _ = drawn("rule", rows)
    assert [mark[4:] for mark in intervals_of(axes)] == [("white", "o"), ("white", "^")] and not axes.texts
    assert "tanh instead of relu" in legend_of(axes)
    rows = trainings("default", 0.001, 2.3, 2.3, depth=10) + trainings("default", 0.001, 1.0)
    (axes,), _ = drawn("rule", rows + trainings("preconditioner-only", 0.001, 2.0, 2.1, depth=10))
    (label,) = axes.texts
    assert label.get_text() == "10 layers, \nwhich learn nothing without " and label.xy[1] == pytest.approx(-0.25)


def test_differences_show_the_last_tenth_beside_the_early_one(drawn):
    """Of two pairs: the mean -0.3 or so, and 12.706 standard errors."""
    rows = trainings("default", 0.001, RISING, RISING) + trainings("default", 0.001, 1.0, depth=7)
    rows += trainings("he", 0.001, RISING - 0.2, 0.5 * RISING) + trainings("he", 0.01, 5.0, 5.1)
    rows += trainings("adam", 0.001, math.nan, 1.0) + trainings("dynamic", 0.001, RISING + 1, RISING + 1.002)
    (left, right), _ = drawn("differences", rows)
    he, dynamic = intervals_of(left)
    assert he == (pytest.approx(-0.57375), 0, pytest.approx(12.7062 * 0.37375, rel=1e-4), HE, "white", "o")
    assert dynamic[:2] == (pytest.approx(1.001), 1) and dynamic[4] == "#0072B2"  # it is significant
    assert [mark[0] for mark in intervals_of(right)] == pytest.approx([-0.12375, 1.001])
    assert {mark[-1] for mark in intervals_of(right)} == {"|"}  # of exploratory outcomes, none is
    names = [label.get_text() for label in left.get_yticklabels()]
    assert names == ["he=0.001", "dynamic=0.001"] and left.get_ylim() == (1.5, -0.5)
    assert left.get_title() == "last tenth, minus default=0.001" and "left is better" in left.get_xlabel()
    (left, _), _ = drawn("differences", rows, "--reference", "default=0.001")
    assert [label.get_text() for label in left.get_yticklabels()] == ["he=0.001", "he=0.01", "dynamic=0.001"]


def test_scales_are_of_the_tutorials_network_and_a_deep_one(drawn):
    (top, deep_top, bottom, deep_bottom), _ = drawn("scales", trainings("he", 0.001, 1.0))
    layers, gradients = line_of(bottom, "#0072B2")
    assert layers == [1, 2, 3, 4, 5]
    assert gradients == pytest.approx([0.7899, 0.7787, 0.2762, 0.2390, 0.7071], abs=1e-4)
    assert line_of(top, "#0072B2")[1][-1] == pytest.approx(0.5**0.5)
    (equal,) = [line for line in bottom.lines if line.get_label() == "preconditioned"]
    assert equal.get_ydata() == [1, 1]
    assert len(deep_top.lines[0].get_xdata()) == 40 and deep_bottom.get_yscale() == "log"


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("loss, expected", [
    (math.nan, ["depth", "scales"]), (1.0, ["depth", "differences", "rule", "scales"])])
def test_only_pictures_with_data_are_written_into_a_folder_that_is_made(path, tmp_path, monkeypatch, capsys, loss,
                                                                        expected):
    monkeypatch.setenv("HOME", str(tmp_path))
    rows = trainings("default", 0.001, loss, loss) + trainings("he", 0.001, loss, loss + 1)
    rows += trainings("preconditioner-only", 0.001, loss, loss + 1) + trainings("he", 0.001, loss, depth=7)
    path.write_text(HEADER + rows)
    study(path, "--pictures", "~/new")
    assert set(expected) == {each.stem for each in (tmp_path / "new").iterdir()} - {"curves", "learning_rates"}
    assert f"drawing pictures into '{tmp_path / 'new'}'" in capsys.readouterr().err


@pytest.mark.parametrize("rows", [
    trainings("adam", 0.001, 1.0) + trainings("adam", 0.001, 1.0, depth=7),
    trainings("default", 0.001, 1.0, 1.1) + trainings("preconditioner-only", 0.001, 1.0, 1.0),
    trainings("default", 0.001, 1.0, 1.1, activation="tanh") + trainings("he", 0.001, 1.2, 1.4, activation="tanh")])
def test_no_picture_is_drawn_of_other_methods_of_one_depth_or_of_tanh_alone(drawn, rows):
    _, names = drawn("scales", rows)
    assert {"depth.png", "rule.png"}.isdisjoint(names) and ("differences.png" in names) == ("preconditioner" in rows)
