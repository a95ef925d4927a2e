"""The figure shows the curves where they belong, whatever the user's settings."""
import matplotlib
import numpy as np
import pytest
from matplotlib.figure import Figure

from util.curves import smooth
from util.failure import Failure
from util.plot import check_figure, plot_losses, save_figure

CURVES = {"default, 0.001": np.linspace(2.3, 1.0, 300), "preconditioned, 0.001": np.linspace(2.0, 1.5, 300)}
FORMATS = sorted(set(Figure().canvas.get_supported_filetypes()) - {"pgf"})


def figure():
    return plot_losses(CURVES, "data set, seed", width=31, steps_per_epoch=100)


def test_figure_shows_smoothed_curves_over_epochs():
    (axes,) = figure().axes
    assert len(axes.lines) == 2
    for line, (label, losses) in zip(axes.lines, CURVES.items()):
        assert line.get_label() == label
        np.testing.assert_array_equal(line.get_xdata(), np.arange(300) / 100)
        np.testing.assert_allclose(line.get_ydata(), smooth(losses, 31))
    looks = {line.get_label(): (line.get_color(), line.get_linestyle()) for line in axes.lines}
    assert looks == {"default, 0.001": ("#0072B2", "-"), "preconditioned, 0.001": ("#D55E00", "--")}
    assert axes.get_xlim()[0] == 0
    assert (axes.get_title(), axes.get_xlabel()) == ("data set, seed", "epoch")
    assert "loss" in axes.get_ylabel() and "31 steps" in axes.get_ylabel()


@pytest.mark.parametrize("name", FORMATS)
def test_no_format_has_anything_to_say(tmp_path, caplog, recwarn, name):
    """As PostScript has of transparency."""
    save_figure(figure(), str(tmp_path / f"loss.{name}"))
    assert (caplog.records, list(recwarn)) == ([], [])


def test_figure_does_not_depend_on_the_users_settings(tmp_path):
    settings = {"text.usetex": True, "font.size": 30, "figure.dpi": 50, "savefig.dpi": 40, "savefig.bbox": "tight",
                "lines.linewidth": 9, "axes.facecolor": "black", "legend.loc": "center", "xtick.labelsize": 40}
    save_figure(figure(), str(tmp_path / "expected.png"))
    with matplotlib.rc_context(settings):
        save_figure(figure(), str(tmp_path / "loss.png"))
    assert (tmp_path / "loss.png").read_bytes() == (tmp_path / "expected.png").read_bytes()


@pytest.mark.parametrize("name, start", [("loss.PNG", b"\x89PNG"), ("loss.png.pdf", b"%PDF")])
def test_the_ending_says_the_format(tmp_path, name, start):
    check_figure(str(tmp_path / name))
    assert not any(tmp_path.iterdir())
    save_figure(figure(), str(tmp_path / name))
    assert (tmp_path / name).read_bytes().startswith(start)


@pytest.mark.parametrize("path", ["", "loss", "loss.jpeg2000", ".png"])
def test_unknown_format_is_refused(path):
    with pytest.raises(Failure, match=f"^-o/--output: '{path}' does not end in a known figure format .*pdf, .*png"):
        check_figure(path)
