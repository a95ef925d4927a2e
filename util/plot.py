"""The figure: smoothed loss curves over epochs, and what they lead to at each learning rate."""
from __future__ import annotations

import io
from pathlib import Path
from typing import Sequence

import matplotlib.style
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from util.comparison import Runs, best_of_each_method, final_loss, several_rates, without_divergence
from util.curves import smooth, smoothing_radius

# Colours that the colour-blind can tell apart (Okabe and Ito), the closest ones with dashes that differ most.
STYLES = (("#0072B2", "-"), ("#D55E00", "--"), ("#009E73", "-."), ("#CC79A7", ":"),
          ("#E69F00", (0, (3, 1, 1, 1, 1, 1))), ("#56B4E9", (0, (5, 1))), ("#000000", (0, (1, 1))))


def draw(runs: Runs, title: str, width: int, steps_per_epoch: int) -> Figure:
    """Draw the loss curve of each method at its best learning rate, smoothed over `width` steps, on average over seeds.

    If there are several learning rates, a second panel shows the final losses at all of them. Where there are several
    seeds, bands show one standard deviation. The figure does not depend on a display or the user's matplotlib settings.
    """
    sweep = several_rates(runs)
    with matplotlib.style.context("default"):
        figure = Figure(figsize=(14 if sweep else 8, 5), dpi=120, layout="constrained")
        styles = dict(zip(dict.fromkeys(contender.method for contender in runs), STYLES))
        axes = figure.add_subplot(1, 2 if sweep else 1, 1)
        _draw_curves(axes, runs, styles, width, steps_per_epoch)
        if sweep:
            figure.suptitle(title)
            axes.set_title("each method at its best learning rate")
            _draw_final_losses(figure.add_subplot(1, 2, 2), runs, styles)
        else:
            axes.set_title(title)
    return figure


def render(figure: Figure, path: str) -> bytes:
    """Return the content of a figure's file, in the format that the ending of its name says."""
    buffer = io.BytesIO()
    with matplotlib.style.context("default"):
        figure.savefig(buffer, format=Path(path).suffix[1:])
    return buffer.getvalue()


def _draw_curves(axes: Axes, runs: Runs, styles: dict, width: int, steps_per_epoch: int) -> None:
    for method, contender in best_of_each_method(runs).items():
        smoothed = np.stack([smooth(run.losses, width) for run in runs[contender]])
        # step i's loss is that of the network after i steps
        epochs = (np.arange(smoothed.shape[1]) + smoothing_radius(width)) / steps_per_epoch
        _draw_mean(axes, epochs, smoothed, styles[method], label=f"{method}, learning rate {contender.learning_rate:g}")
    if axes.lines:
        axes.legend(loc="upper right")  # the losses fall; to search for the best place takes longer than to draw
    axes.set_xlim(left=0)
    _explain(axes, "epoch", f"training loss (cross-entropy), smoothed over {width} steps")


def _draw_final_losses(axes: Axes, runs: Runs, styles: dict) -> None:
    for method, style in styles.items():
        finished = sorted(contender for contender in without_divergence(runs) if contender.method == method)
        if finished:
            losses = np.transpose([[final_loss(run) for run in runs[contender]] for contender in finished])
            rates = [contender.learning_rate for contender in finished]
            _draw_mean(axes, rates, losses, style, marker="o", markersize=4)
    axes.set_xscale("log")
    axes.set_title("final training loss at each learning rate, in the same colours")  # so that one legend is enough
    _explain(axes, "learning rate", "training loss over the last tenth of the run")


def _draw_mean(axes: Axes, x: Sequence[float], values: np.ndarray, style: tuple, **more: object) -> None:
    """Plot the mean of (seeds, len(x)) values, with a band of one standard deviation if there are several seeds."""
    colour, line = style
    mean = values.mean(axis=0)
    if len(values) > 1:
        std = values.std(axis=0, ddof=1)
        axes.fill_between(x, mean - std, mean + std, color=colour, alpha=0.2, linewidth=0)
    axes.plot(x, mean, color=colour, linestyle=line, linewidth=1.6, **more)


def _explain(axes: Axes, x: str, y: str) -> None:
    """Name the axes, and say why they are empty if they are."""
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    axes.grid(alpha=0.3)
    if not axes.lines:
        axes.text(0.5, 0.5, "every training diverged", transform=axes.transAxes, ha="center")
