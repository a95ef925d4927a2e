"""The figure shows the curves where they belong."""
import numpy as np
import pytest
from matplotlib.figure import Figure

from util.curves import smooth
from util.plot import check_figure, plot_losses, save_figure

CURVES = {"default, 0.001": np.linspace(2.3, 1.0, 300), "preconditioned, 0.001": np.linspace(2.0, 1.5, 300)}
FORMATS = sorted(set(Figure().canvas.get_supported_filetypes()) - {"pgf"})


def figure():
    return plot_losses(CURVES, "data set, seed", width=31, steps_per_epoch=100)


def test_figure_shows_smoothed_curves_over_epochs():
    (axes,) = figure().axes
    assert [line.get_label() for line in axes.lines] == list(CURVES)
    for line, losses in zip(axes.lines, CURVES.values()):
        np.testing.assert_array_equal(line.get_xdata(), np.arange(300) / 100)
        np.testing.assert_allclose(line.get_ydata(), smooth(losses, 31))
    assert axes.get_xlim()[0] == 0
    assert (axes.get_title(), axes.get_xlabel()) == ("data set, seed", "epoch")
    assert axes.get_ylabel() == "training loss in nats, smoothed over 31 steps"


def test_curves_can_be_told_apart_even_by_the_colour_blind():
    (axes,) = figure().axes
    assert [line.get_color() for line in axes.lines] == ["#0072B2", "#D55E00"]
    assert [line.get_linestyle() for line in axes.lines] == ["-", "--"]


@pytest.mark.parametrize("name", FORMATS)
def test_no_format_has_anything_to_say(tmp_path, caplog, recwarn, name):
    """As PostScript has of transparency."""
    save_figure(figure(), str(tmp_path / f"loss.{name}"))
    assert (caplog.records, list(recwarn)) == ([], [])


@pytest.mark.parametrize("name, start", [("loss.PNG", b"\x89PNG"), ("loss.png.pdf", b"%PDF")])
def test_the_ending_says_the_format(tmp_path, name, start):
    path = tmp_path / name
    check_figure(str(path))
    save_figure(figure(), str(path))
    assert path.read_bytes().startswith(start)
