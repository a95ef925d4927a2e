"""The figure shows the curves and the final losses where they belong, whatever the user's settings."""
import itertools
import math

import matplotlib
import numpy as np
import pytest
from matplotlib.colors import to_rgb

import main
from tests.runs import diverged_run, made_up_run
from util.comparison import Contender
from util.curves import smooth
from util.plot import STYLES, draw, render

pytestmark = pytest.mark.filterwarnings("error")
RNG = np.random.default_rng(0)


def several(seeds):
    return [made_up_run(RNG.random(300)) for _ in range(seeds)]


ONE_SEED = {Contender("default", 0.001): several(1), Contender("other", 0.003): several(1)}
THREE_SEEDS = {Contender("default", 0.001): several(3), Contender("other", 0.003): several(3),
               Contender("third", 0.001): several(3)}


def level(*finals):
    """One run for each seed, at a loss that does not change."""
    return [made_up_run([final] * 300) for final in finals]


SWEEP = {  # unsorted, and with divergence at the fastest rate, for one seed of one method and all seeds of another
    Contender("default", 0.01): level(3.0, 1.0),
    Contender("default", 0.001): level(1.0, 2.0),
    Contender("default", 0.0001): level(4.0, 4.0),
    Contender("default", 0.1): [*level(0.5), diverged_run(7)],
    Contender("doomed", 0.1): [diverged_run(5), diverged_run(6)],
    Contender("other", 0.001): level(2.0, 2.5),
    Contender("other", 0.0001): level(3.0, 3.5),
}
DIVERGED = {Contender("default", rate): [diverged_run(5), diverged_run(6)] for rate in (1.0, 10.0)}


def figure_of(runs):
    return draw(runs, "data set, seed", width=31, steps_per_epoch=100)


def legend(axes):
    return [text.get_text() for text in axes.get_legend().get_texts()]


def band(axes, index, x):
    """The lower and the upper end of a band at x."""
    outline = axes.collections[index].get_paths()[0].vertices
    at_x = outline[np.isclose(outline[:, 0], x), 1]
    return [at_x.min(), at_x.max()]


@pytest.mark.parametrize("runs", [ONE_SEED, THREE_SEEDS])
def test_curves_are_means_at_the_epochs_of_their_steps(runs):
    (axes,) = figure_of(runs).axes
    assert len(axes.lines) == len(runs)
    for line, (contender, several) in zip(axes.lines, runs.items()):
        assert line.get_label() == f"{contender.method}, learning rate {contender.learning_rate}"
        np.testing.assert_allclose(line.get_xdata(), np.arange(15, 285) / 100)
        np.testing.assert_allclose(line.get_ydata(), smooth(np.mean([run.losses for run in several], axis=0), 31),
                                   rtol=1e-6)


def test_band_is_one_standard_deviation_of_the_seeds():
    axes = figure_of(THREE_SEEDS).axes[0]
    smoothed = np.stack([smooth(run.losses, 31) for run in THREE_SEEDS[Contender("default", 0.001)]])
    mean, std = smoothed.mean(axis=0), smoothed.std(axis=0, ddof=1)
    np.testing.assert_allclose(band(axes, 0, 0.15), [mean[0] - std[0], mean[0] + std[0]])
    assert len(axes.collections) == 3


def test_one_seed_has_no_band():
    assert len(figure_of(ONE_SEED).axes[0].collections) == 0


def test_figure_is_labelled():
    axes = figure_of(ONE_SEED).axes[0]
    assert axes.get_title() == "data set, seed"
    assert axes.get_xlabel() == "epoch"
    assert "loss" in axes.get_ylabel() and "31 steps" in axes.get_ylabel()
    assert legend(axes) == ["default, learning rate 0.001", "other, learning rate 0.003"]


def test_several_rates_left_panel_shows_each_method_at_its_best():
    figure = figure_of(SWEEP)
    curves, _ = figure.axes
    assert figure._suptitle.get_text() == "data set, seed"
    assert legend(curves) == ["default, learning rate 0.001", "other, learning rate 0.001"]
    assert [line.get_ydata()[0] for line in curves.lines] == pytest.approx([1.5, 2.25])


def test_several_rates_right_panel_shows_final_loss_against_rate():
    _, finals = figure_of(SWEEP).axes
    assert finals.get_xscale() == "log" and finals.get_xlabel() == "learning rate"
    assert "last tenth" in finals.get_ylabel()
    assert finals.get_legend() is None  # that of the other panel holds for both
    default, other = finals.lines
    np.testing.assert_allclose(default.get_xdata(), [0.0001, 0.001, 0.01])
    np.testing.assert_allclose(default.get_ydata(), [4.0, 1.5, 2.0])
    np.testing.assert_allclose(other.get_xdata(), [0.0001, 0.001])
    np.testing.assert_allclose(other.get_ydata(), [3.25, 2.25])
    np.testing.assert_allclose(band(finals, 0, 0.01), [2 - math.sqrt(2), 2 + math.sqrt(2)])
    np.testing.assert_allclose(band(finals, 1, 0.001), [2.25 - math.sqrt(0.125), 2.25 + math.sqrt(0.125)])


def test_a_method_looks_the_same_in_both_panels():
    """Also if another one, which comes before it, is missing."""
    curves, finals = figure_of(SWEEP).axes
    for left, right in zip(curves.lines, finals.lines):
        assert left.get_color() == right.get_color()
        assert left.get_linestyle() == right.get_linestyle()
    assert [line.get_color() for line in curves.lines] == [STYLES[0][0], STYLES[2][0]]


def test_a_figure_without_a_single_curve_says_why():
    assert not any(axes.texts for axes in figure_of(SWEEP).axes)
    figure = figure_of(DIVERGED)
    for axes in figure.axes:
        assert [text.get_text() for text in axes.texts] == ["every training diverged"]
    assert render(figure, "loss.PNG").startswith(b"\x89PNG")


def test_every_method_has_its_style():
    assert len(STYLES) >= len(main.METHODS)
    for (colour, line), (other_colour, other_line) in itertools.combinations(STYLES, 2):
        assert math.dist(to_rgb(colour), to_rgb(other_colour)) > 0.25
        assert line != other_line


def test_figure_does_not_depend_on_the_users_settings():
    settings = {"text.usetex": True, "font.family": "serif", "font.size": 30, "figure.dpi": 50, "savefig.dpi": 40,
                "savefig.bbox": "tight", "lines.linewidth": 9, "axes.facecolor": "black", "axes.grid": True,
                "axes.prop_cycle": matplotlib.cycler(color=["red"]), "legend.loc": "center", "xtick.labelsize": 40,
                "axes.xmargin": 0.5, "image.cmap": "gray", "path.simplify": False}
    expected = render(figure_of(SWEEP), "loss.png")
    with matplotlib.rc_context(settings):
        assert render(figure_of(SWEEP), "loss.png") == expected


def test_other_formats():
    assert render(figure_of(ONE_SEED), "a.png.pdf").startswith(b"%PDF")
