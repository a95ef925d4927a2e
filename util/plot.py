"""The figure: smoothed loss curves over epochs."""
from __future__ import annotations

from pathlib import Path

import matplotlib.style
import numpy as np
from matplotlib.figure import Figure

from util.curves import smooth
from util.failure import Failure
from util.files import check_writable, write_whole

# the colour-blind can tell these colours apart (Okabe and Ito)
COLOURS = ["#0072B2", "#D55E00", "#009E73"]
DASHES = ["-", "--", "-."]


def plot_losses(curves: dict[str, np.ndarray], title: str, width: int, steps_per_epoch: int) -> Figure:
    """Plot (steps,) losses by their labels, smoothed over `width` steps; nothing is transparent, which EPS forbids."""
    with matplotlib.style.context("default"):  # not the user's
        figure = Figure(figsize=(8, 5), dpi=120, layout="constrained")
        axes = figure.add_subplot()
        axes.set_prop_cycle(color=COLOURS, linestyle=DASHES)
        for label, losses in curves.items():
            epochs = np.arange(len(losses)) / steps_per_epoch  # entry i is the loss of the network after i steps
            axes.plot(epochs, smooth(losses, width), linewidth=1.6, label=label)
        axes.set(title=title, xlabel="epoch", xlim=(0, None),
                 ylabel=f"training loss in nats, smoothed over {width} steps")
        axes.grid(color="0.9")
        figure.legend(loc="outside lower center", ncols=2, framealpha=1)
    return figure


def check_figure(path: str) -> None:
    """Raise a `Failure`, before the work, unless the figure can be written."""
    formats = set(Figure().canvas.get_supported_filetypes()) - {"pgf"}  # which needs TeX
    if Path(path).suffix[1:].lower() not in formats:
        known = ", ".join(sorted(formats))
        raise Failure(f"-o/--output: '{path}' does not end in a known figure format ({known})")
    try:
        check_writable(path)
    except Failure as failure:
        raise Failure(f"-o/--output: {failure}") from failure


def save_figure(figure: Figure, path: str) -> None:
    """Write a figure in the format that the ending of its name says."""
    with matplotlib.style.context("default"):
        write_whole(path, lambda file: figure.savefig(file, format=Path(path).suffix[1:]))
