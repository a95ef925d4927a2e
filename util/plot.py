"""The figure: smoothed loss curves over epochs, and where the default one overtakes another."""
from __future__ import annotations

from pathlib import Path

import matplotlib.style
import numpy as np
from matplotlib.figure import Figure

from util.curves import smooth
from util.failure import Failure
from util.runs import check_writable, write_whole

# the colour-blind can tell these colours apart (Okabe and Ito); a seventh curve looks like the first
COLOURS = ["#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9"]
DASHES = ["-", "--", "-.", "-", "--", "-."]


def draw(curves: dict[str, np.ndarray], title: str, width: int, steps_per_epoch: int,
         overtakings: dict[str, float | None]) -> Figure:
    """Draw (steps,) losses, smoothed over `width` steps, and mark at which epochs curves are overtaken.

    Both `curves` and `overtakings` go by the curves' names in the legend. Nothing is transparent, which EPS forbids.
    """
    with matplotlib.style.context("default"):  # not the user's
        figure = Figure(figsize=(8, 5), dpi=120, layout="constrained")
        axes = figure.add_subplot()
        axes.set_prop_cycle(color=COLOURS, linestyle=DASHES)
        for label, losses in curves.items():
            epochs = np.arange(len(losses)) / steps_per_epoch  # entry i is the loss of the network after i steps
            (line,) = axes.plot(epochs, smooth(losses, width), linewidth=1.6, label=label)
            overtaking = overtakings.get(label)
            if overtaking is not None:
                axes.axvline(overtaking, color=line.get_color(), linestyle=":",
                             label=f"overtaken at epoch {overtaking:.2f}")
        axes.set(title=title, xlabel="epoch", xlim=(0, None),
                 ylabel=f"training loss (cross-entropy in nats), smoothed over {width} steps")
        axes.grid(color="0.9")
        axes.legend(loc="upper right", framealpha=1)  # the losses fall; the best place takes longer than to draw
    return figure


def check_figure(path: str) -> None:
    """Find out before the work whether the figure can be written; a `Failure` tells if not."""
    formats = set(Figure().canvas.get_supported_filetypes()) - {"pgf"}  # which needs TeX
    if Path(path).suffix[1:].lower() not in formats:
        known = ", ".join(sorted(formats))
        raise Failure(f"-o/--output: '{path}' does not end in a known figure format ({known})")
    check_writable(path)


def save_figure(figure: Figure, path: str) -> None:
    """Write a figure in the format that the ending of its name says."""
    with matplotlib.style.context("default"):
        write_whole(path, lambda file: figure.savefig(file, format=Path(path).suffix[1:]))
