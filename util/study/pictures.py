"""The study's pictures; a panel without data is not drawn, nor a picture without any."""
from __future__ import annotations

import math
import os
from typing import Any, Sequence

import matplotlib.style
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from util.network import TUTORIAL_DEPTH
from util.plot import save_figure
from util.study.methods import METHODS
from util.study.networks import NAMED, Network
from util.study.results import SCHEDULES
from util.study.statistics import PRIMARY, TRAINED, Results, holm, interval
from util.study.theory import ALWAYS, difference_left, first_gradient, predictions, spread

# Colours tell initializations; dashes and marks tell what is done to the gradient.
COLOURS = {  # which the colour-blind can tell apart (Okabe and Ito)
    "PyTorch": "black",
    "PyTorch, zero biases": "#F0E442",
    "Glorot": "#CC79A7",
    "He": "#009E73",
    "variance-preserving": "#0072B2",
    "zero bias": "#56B4E9",
    "fifth bias": "#E69F00",
    "half bias": "#D55E00",
}
MARKS: dict[str, dict[str, Any]] = {
    "plain": dict(linestyle="-", marker="o"),
    "fixed factors": dict(linestyle="--", marker="s"),
}
DEPTH_METHODS = ("default", "he", "initialization-only", "initialization-fifth-bias", "initialization-half-bias",
                 "preconditioned", "preconditioned-fifth-bias", "preconditioned-half-bias", "preconditioner-only")
ASIDES = dict(zip(DEPTH_METHODS, np.linspace(0.96, 1.04, len(DEPTH_METHODS))))  # so that bars do not coincide
SHAPES = {"relu": "o", "tanh": "^"}
GUESSING = math.log(10)  # nats, with ten classes
UNEQUAL = 20  # weight-gradient spread, from which on the picture of the rule names the depth
DEEP = 40  # weight layers, of the deep network in the picture of scales
SIGNIFICANCE = 0.05
LEGEND_BELOW = {"loc": "outside lower center", "ncols": 4, "frameon": False, "fontsize": "small"}


def draw_all(results: Results, folder: str) -> None:
    """Write all pictures into a folder that exists."""
    with matplotlib.style.context("default"):  # not the user's
        figures = {"scales": scales()}
        if len(results.members("depth")) > 1:
            decay = any(configuration.decay for configuration in results.by_seed)  # if some do, show those
            figures.update(depth=depth(results, decay), rule=rule(results, decay))
        for name, figure in figures.items():
            if figure is not None:
                save_figure(figure, os.path.join(folder, f"{name}.png"))


def new_figure(width: float, height: float) -> Figure:
    """Return an empty figure, whose size is in inches."""
    return Figure(figsize=(width, height), dpi=150, layout="constrained")


def depth(results: Results, decay: bool) -> Figure | None:
    """Draw how `DEPTH_METHODS` end at each depth, and below it what the theory says beforehand."""
    depths = results.members("depth")
    figure = new_figure(9, 10)
    top, middle, bottom = figure.subplots(3, sharex=True, height_ratios=(2, 1, 1))
    drawn = [method for method in DEPTH_METHODS if draw_final_losses(top, results, method, decay)]
    if not drawn:
        return None
    top.axhline(GUESSING, color="0.6", linewidth=6, zorder=0)
    top.text(depths[0], GUESSING - 0.02, "guessing, ln 10", va="top")
    top.set(title=f"training, {SCHEDULES[decay]}; mean and standard deviation over the seeds",
            ylabel="training loss over the last tenth, nats")
    add_two_legends(top, drawn)

    middle.set(ylabel="gradient of\nthe first layer's weights", yscale="log", ylim=(1e-12, 10),
               title="theory: does a gradient reach the first layer?")
    bottom.set(ylabel="1 - correlation\nof two inputs' signals", yscale="log", ylim=(1e-8, 1),
               title="theory: can the last layer tell two inputs apart?")
    networks = [Network("relu", number) for number in depths]
    for name in dict.fromkeys(METHODS[method].initialization for method in drawn):
        for axes, predict in (middle, first_gradient), (bottom, difference_left):
            axes.plot(depths, [predict(name, network) for network in networks], color=COLOURS[name], marker=".")
    bottom.set(xlabel="weight layers", xscale="log")
    bottom.set_xticks(depths, list(map(str, depths)))
    bottom.minorticks_off()
    return figure


def draw_final_losses(axes: Axes, results: Results, method: str, decay: bool) -> bool:
    """Draw the means and standard deviations of a method's final losses at its best rates, if there are any.

    A training that diverged is drawn as one that guesses.
    """
    marks = []
    for number in results.members("depth"):
        best = results.best.get((method, Network("relu", number), decay))
        if best:
            found = results.reported[best].values()
            losses = [GUESSING if result.diverged else result.final_loss for result in found]
            deviation = np.std(losses, ddof=1) if len(losses) > 1 else 0
            marks.append((number * ASIDES[method], np.mean(losses), deviation))
    if marks:
        initialization, gradient, _ = METHODS[method]
        axes.errorbar(*zip(*marks), color=COLOURS[initialization], markersize=5, capsize=2, **MARKS[gradient])
    return bool(marks)


def add_two_legends(axes: Axes, methods: Sequence[str]) -> None:
    """Explain the colours of the methods' initializations, and beside them the dashes and marks of their gradients."""
    initializations = dict.fromkeys(METHODS[method].initialization for method in methods)
    lines = [Line2D([], [], color=COLOURS[name], linewidth=4) for name in initializations]
    first = axes.legend(lines, initializations, title="initialization", loc="lower right", fontsize="small")
    axes.add_artist(first)
    gradients = dict.fromkeys(METHODS[method].gradient for method in methods)
    lines = [Line2D([], [], color="0.3", **MARKS[gradient]) for gradient in gradients]
    axes.legend(lines, gradients, title="gradient", loc="lower center", handlelength=4, fontsize="small")


def rule(results: Results, decay: bool) -> Figure | None:
    """Draw what the preconditioner adds, against how unequal the theory says that the gradients are without it."""
    differences = {}
    for preconditioned, alone in results.pairs():
        paired = results.differences(preconditioned, alone)
        if alone.network.family != NAMED and alone.decay == decay and len(paired):
            differences[alone] = interval(paired[:, PRIMARY])
    if not differences:
        return None
    figure = new_figure(9, 6)
    axes = figure.subplots()
    adjusted = holm([difference.p_value for difference in differences.values()])
    for (alone, (mean, half, _)), p_value in zip(differences.items(), adjusted):
        colour = COLOURS[alone.initialization]
        x = spread(alone.initialization, alone.network)
        filling = colour if p_value < SIGNIFICANCE else "white"
        axes.errorbar(x, mean, half, color=colour, capsize=2, linewidth=1, markersize=6, markerfacecolor=filling,
                      marker=SHAPES[alone.network.family])
        if x > UNEQUAL:
            learnt = results.outcomes(alone)[:, PRIMARY].mean() <= TRAINED
            remark = " " if learnt else ", \nwhich learn nothing without "
            axes.annotate(f"{alone.network.member} layers{remark}", (x, mean), ha="right", va="top", fontsize="small")
    for name in dict.fromkeys(alone.initialization for alone in differences):
        axes.plot([], [], color=COLOURS[name], linewidth=4, label=name)
    axes.axhline(0, color="black", linewidth=1)
    axes.set(xscale="log", xlabel="weight-gradient spread: largest over smallest gradient, predicted before training",
             ylabel="final loss with the preconditioner minus without, nats; lower is better")
    axes.xaxis.set_major_formatter("{x:g}")
    axes.margins(x=0.1)
    for label, filling in ("significant after Holm's adjustment", "0.3"), ("not significant", "white"):
        axes.plot([], [], "o", color="0.3", markerfacecolor=filling, label=label)
    if any(alone.network.family == "tanh" for alone in differences):
        axes.plot([], [], SHAPES["tanh"], color="0.3", markerfacecolor="white", label="tanh instead of relu")
    figure.legend(**LEGEND_BELOW)
    return figure


def scales() -> Figure:
    """Draw signals and gradients along the tutorial's network and a deep one, by the theory, for white noise."""
    figure = new_figure(9, 6)
    panels = figure.subplots(2, 2, sharex="col")
    for (top, bottom), number in zip(panels.T, (TUTORIAL_DEPTH, DEEP)):
        layers = range(1, number + 1)
        for name in ALWAYS:
            statistics = predictions(name, Network("relu", number))
            signals = [layer.weight_gradient_std / layer.bias_gradient_std for layer in statistics]
            gradients = [layer.weight_gradient_std for layer in statistics]
            top.plot(layers, signals, color=COLOURS[name])
            bottom.plot(layers, gradients, color=COLOURS[name], label=name)
        bottom.axhline(1, color="black", linewidth=2, linestyle="--", label="preconditioned")
        top.locator_params(axis="x", integer=True)
        title = "the tutorial's network" if number == TUTORIAL_DEPTH else f"depth {number}"
        top.set(title=title, ylabel="signal at the layer's input", yscale="log")
        bottom.set(xlabel="layer", ylabel="gradient of the weights", yscale="log")
    figure.legend(*bottom.get_legend_handles_labels(), **LEGEND_BELOW)
    return figure
