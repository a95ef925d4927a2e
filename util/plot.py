"""The figure: two smoothed loss curves over epochs, and where one overtakes the other."""
from __future__ import annotations

from pathlib import Path

import matplotlib.style
import numpy as np
from matplotlib.figure import Figure

from util.curves import smooth
from util.failure import Failure
from util.runs import check_writable, write_whole

STYLES = (("#0072B2", "-"), ("#D55E00", "--"))  # colours that the colour-blind can tell apart (Okabe and Ito)


def draw(curves: dict[str, np.ndarray], title: str, width: int, steps_per_epoch: int,
         overtaking: float | None) -> Figure:
    """Draw (steps,) losses by their names in the legend, smoothed over `width` steps, and mark the overtaking epoch."""
    with matplotlib.style.context("default"):  # not the user's
        figure = Figure(figsize=(8, 5), dpi=120, layout="constrained")
        axes = figure.add_subplot()
        for (label, losses), (colour, line) in zip(curves.items(), STYLES):
            epochs = np.arange(len(losses)) / steps_per_epoch  # entry i is the loss of the network after i steps
            axes.plot(epochs, smooth(losses, width), color=colour, linestyle=line, linewidth=1.6, label=label)
        if overtaking is not None:
            axes.axvline(overtaking, color="black", linestyle=":", label=f"overtaken at epoch {overtaking:.2f}")
        axes.set(title=title, xlabel="epoch", xlim=(0, None),
                 ylabel=f"training loss (cross-entropy in nats), smoothed over {width} steps")
        axes.grid(alpha=0.3)
        axes.legend(loc="upper right")  # the losses fall; to search for the best place takes longer than to draw
    return figure


def check_figure(path: str) -> None:
    """Find out before the work whether the figure can be written; a `Failure` tells if not."""
    formats = ", ".join(sorted(set(Figure().canvas.get_supported_filetypes()) - {"pgf"}))  # which needs TeX
    if Path(path).suffix[1:].lower() not in formats.split(", "):
        raise Failure(f"-o/--output: '{path}' does not end in a known figure format ({formats})")
    check_writable(path)


def save_figure(figure: Figure, path: str) -> None:
    """Write a figure in the format that the ending of its name says."""
    with matplotlib.style.context("default"):
        write_whole(path, lambda file: figure.savefig(file, format=Path(path).suffix[1:]))
