"""The figure shows the smoothed curves where they belong."""
import numpy as np
import pytest
from matplotlib.colors import to_rgba

from util.curves import smooth
from util.errors import UsageError
from util.plot import draw, figure_format

RNG = np.random.default_rng(0)
ONE_SEED = {"default": RNG.random((1, 300)), "other": RNG.random((1, 300))}
THREE_SEEDS = {"default": RNG.random((3, 300)), "other": RNG.random((3, 300)), "third": RNG.random((3, 300))}


@pytest.mark.parametrize("curves", [ONE_SEED, THREE_SEEDS])
def test_curves_are_means_at_the_epochs_of_their_steps(curves):
    axes = draw(curves, "title", width=31, steps_per_epoch=100).axes[0]
    assert len(axes.lines) == len(curves)
    for line, (label, losses) in zip(axes.lines, curves.items()):
        assert line.get_label() == label
        np.testing.assert_allclose(line.get_xdata(), np.arange(15, 285) / 100)
        np.testing.assert_allclose(line.get_ydata(), smooth(losses.mean(axis=0), 31))
    assert len({to_rgba(line.get_color()) for line in axes.lines}) == len(curves)
    assert len({line.get_linestyle() for line in axes.lines}) == len(curves)


def test_band_is_one_standard_deviation_of_the_seeds():
    axes = draw(THREE_SEEDS, "title", width=31, steps_per_epoch=100).axes[0]
    smoothed = np.stack([smooth(run, 31) for run in THREE_SEEDS["default"]])
    mean, std = smoothed.mean(axis=0), smoothed.std(axis=0, ddof=1)
    outline = axes.collections[0].get_paths()[0].vertices
    at_start = outline[np.isclose(outline[:, 0], 0.15), 1]
    np.testing.assert_allclose([at_start.min(), at_start.max()], [mean[0] - std[0], mean[0] + std[0]])
    assert len(axes.collections) == 3


def test_one_seed_has_no_band():
    assert len(draw(ONE_SEED, "title", width=31, steps_per_epoch=100).axes[0].collections) == 0


def test_figure_is_labelled():
    axes = draw(ONE_SEED, "data set, seed", width=31, steps_per_epoch=100).axes[0]
    assert axes.get_title() == "data set, seed"
    assert axes.get_xlabel() == "epoch"
    assert "loss" in axes.get_ylabel() and "31 steps" in axes.get_ylabel()
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["default", "other"]


@pytest.mark.parametrize("path, expected", [("loss.png", "png"), ("a.b/loss.PDF", "pdf"), ("loss.svg", "svg")])
def test_format_is_the_ending(path, expected):
    assert figure_format(path) == expected


@pytest.mark.parametrize("path", ["loss", "loss.", "png", "loss.npz", "loss.pgf", ".png"])
def test_unknown_format(path):
    with pytest.raises(UsageError, match="known figure format.*png"):
        figure_format(path)
