"""The figure: smoothed loss curves over epochs, and from where on the default training gains on another."""
from __future__ import annotations

from pathlib import Path

import matplotlib.style
import numpy as np
from matplotlib.figure import Figure

from util.curves import smooth
from util.failure import Failure
from util.runs import Training, check_writable, write_whole

# the colour-blind can tell these colours apart (Okabe and Ito); a seventh curve looks like the first
COLOURS = ["#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9"]
DASHES = ["-", "--", "-.", "-", "--", "-."]


def draw(curves: dict[Training, np.ndarray], title: str, width: int, steps_per_epoch: int,
         overtakings: dict[Training, float | None]) -> Figure:
    """Draw (steps,) losses, smoothed over `width` steps, and mark from which epochs on the default training gains.

    Nothing is transparent, which EPS forbids.
    """
    with matplotlib.style.context("default"):  # not the user's
        figure = Figure(figsize=(8, 5), dpi=120, layout="constrained")
        axes = figure.add_subplot()
        axes.set_prop_cycle(color=COLOURS, linestyle=DASHES)
        for training, losses in curves.items():
            epochs = np.arange(len(losses)) / steps_per_epoch  # entry i is the loss of the network after i steps
            (line,) = axes.plot(epochs, smooth(losses, width), linewidth=1.6, label=str(training))
            overtaking = overtakings.get(training)
            if overtaking is not None:
                axes.axvline(overtaking, color=line.get_color(), linestyle=":",
                             label=f"from epoch {overtaking:.2f} on, the default training gains")
        axes.set(title=title, xlabel="epoch", xlim=(0, None),
                 ylabel=f"training loss in nats, smoothed over {width} steps")
        axes.grid(color="0.9")
        figure.legend(loc="outside lower center", ncols=2, framealpha=1)
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
