"""The figure: smoothed loss curves over epochs."""
from __future__ import annotations

from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from util.curves import smooth, smoothing_radius
from util.errors import UsageError

STYLES = (("#0072B2", "-"), ("#D55E00", "--"), ("#009E73", "-."))  # colours that the colour-blind can tell apart


def draw(curves: dict[str, np.ndarray], title: str, width: int, steps_per_epoch: int) -> Figure:
    """Draw one smoothed loss curve per method, with a band of one standard deviation where there are several seeds.

    Args:
        curves: (seeds, steps) raw losses by legend entry.
        title: of the figure.
        width: of the smoothing window, in steps.
        steps_per_epoch: steps in an epoch.

    Returns:
        A figure that needs no display.
    """
    figure = Figure(figsize=(8, 5), dpi=120, layout="constrained")
    axes = figure.add_subplot()
    for (label, losses), (colour, line) in zip(curves.items(), STYLES):
        smoothed = np.stack([smooth(run, width) for run in losses])
        # step i's loss is that of the network after i steps
        epochs = (np.arange(smoothed.shape[1]) + smoothing_radius(width)) / steps_per_epoch
        mean, std = smoothed.mean(axis=0), smoothed.std(axis=0, ddof=1 if len(losses) > 1 else 0)
        if len(losses) > 1:
            axes.fill_between(epochs, mean - std, mean + std, color=colour, alpha=0.2, linewidth=0)
        axes.plot(epochs, mean, color=colour, linestyle=line, linewidth=1.6, label=label)
    axes.set_xlim(left=0)
    axes.set_xlabel("epoch")
    axes.set_ylabel(f"training loss (cross-entropy), smoothed over {width} steps")
    axes.set_title(title)
    axes.grid(alpha=0.3)
    axes.legend()
    return figure


def figure_format(path: str) -> str:
    """Return the format of a figure file, which the ending of its name says.

    Raises:
        UsageError: if it is none that matplotlib writes.
    """
    ending = Path(path).suffix[1:].lower()
    known = sorted(set(Figure().canvas.get_supported_filetypes()) - {"pgf"})  # pgf needs TeX
    if ending not in known:
        raise UsageError(f"argument -o/--output: '{path}' does not end in a known figure format ({', '.join(known)})")
    return ending
