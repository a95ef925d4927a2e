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

from util.plot import save_figure
from util.study.methods import INITIALIZATIONS, METHODS
from util.study.networks import NAMED, TUTORIAL, Network
from util.study.results import SCHEDULES, Conditions, Sweep
from util.study.statistics import PRIMARY, TRAINED, Results, holm, interval, outcomes
from util.study.theory import KNOWN, ends, predictions, spread

# Colours tell initializations; dashes and marks tell what is done to the gradient, and by which optimizer.
MARKS: dict[tuple[str, str], dict[str, Any]] = {
    ("plain", "SGD"): dict(linestyle="-", marker="o"),
    ("fixed factors", "SGD"): dict(linestyle="--", marker="s"),
    ("PyTorch's ratios", "SGD"): dict(linestyle=(0, (1, 1)), marker="v"),
    ("theory every 500 steps", "SGD"): dict(linestyle="-.", marker="X"),
    ("theory every 100 steps", "SGD"): dict(linestyle=(0, (5, 1, 1, 1, 1, 1)), marker="P"),
    ("measured every 500 steps", "SGD"): dict(linestyle=(0, (4, 1)), marker="h"),
    ("plain", "Adam"): dict(linestyle=":", marker="D"),
}
STYLES = {name: dict(color=INITIALIZATIONS[method.initialization].colour, **MARKS[method.gradient, method.optimizer])
          for name, method in METHODS.items()}
DEPTH_INITIALIZATIONS = ("PyTorch", "He", "variance-preserving", "fifth bias", "half bias")
DEPTH_METHODS = [name for name, method in METHODS.items() if method.initialization in DEPTH_INITIALIZATIONS
                 and method.gradient in ("plain", "fixed factors") and method.optimizer == "SGD"]
SHAPES = {"relu": "o", "tanh": "^"}
GUESSING = math.log(10)  # nats, with ten classes
UNEQUAL = 20  # weight-gradient spread, from which on the picture of the rule names the depth
DEEP = 40  # weight layers, of the deep network in the picture of scales
SIGNIFICANCE = 0.05


def draw_all(results: Results, folder: str) -> None:
    """Write all pictures into a folder that exists."""
    with matplotlib.style.context("default"):  # not the user's
        figures = {
            "depth": depth(results),
            "rule": rule(results),
            "scales": scales(),
        }
        for name, figure in figures.items():
            if figure is not None:
                save_figure(figure, os.path.join(folder, f"{name}.png"))


def new_figure(width: float, height: float) -> Figure:
    """Return an empty figure, whose size is in inches."""
    return Figure(figsize=(width, height), dpi=150, layout="constrained")


def add_legend(figure: Figure, columns: int) -> None:
    """Put one legend for all panels below them."""
    entries = {}
    for axes in figure.axes:
        for handle, label in zip(*axes.get_legend_handles_labels()):
            entries.setdefault(label, handle)
    figure.legend(entries.values(), entries, loc="outside lower center", ncols=columns, frameon=False, fontsize="small")


def depth(results: Results) -> Figure | None:
    """Draw how `DEPTH_METHODS` end at each depth, and below it what the theory says beforehand."""
    depths = results.members("depth")
    if len(depths) < 2:
        return None
    decay = decays(results)
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
    for name in dict.fromkeys(METHODS[method].initialization for method in drawn):
        predictions_at = [ends(name, Network("relu", number)) for number in depths]
        style = dict(color=INITIALIZATIONS[name].colour, marker=".")
        middle.plot(depths, [prediction.first_gradient for prediction in predictions_at], label=name, **style)
        bottom.plot(depths, [prediction.difference_left for prediction in predictions_at], label=name, **style)
    bottom.set(xlabel="weight layers", xscale="log")
    bottom.set_xticks(depths, [str(number) for number in depths])
    bottom.minorticks_off()
    return figure


def decays(results: Results) -> bool:
    """Tell whether pictures that have room for one schedule show the decaying one, since there are such trainings."""
    return any(conditions.decay for conditions in results.conditions())


def draw_final_losses(axes: Axes, results: Results, method: str, decay: bool) -> bool:
    """Draw the means and standard deviations of a method's final losses at its best rates, if there are any.

    A training that diverged is drawn as one that guesses.
    """
    places, means, deviations = [], [], []
    asides = np.linspace(0.96, 1.04, len(DEPTH_METHODS))  # so that the bars of two methods do not coincide
    aside = asides[DEPTH_METHODS.index(method)]
    for number in results.members("depth"):
        best = results.best.get(Sweep(method, Conditions(Network("relu", number), decay)))
        if best:
            losses = [GUESSING if trial.diverged else outcomes(trial)[PRIMARY] for trial in results.reported(best)]
            places.append(number * aside)
            means.append(np.mean(losses))
            deviations.append(np.std(losses, ddof=1) if len(losses) > 1 else 0)
    if places:
        axes.errorbar(places, means, deviations, label=method, markersize=5, capsize=2, **STYLES[method])
    return bool(places)


def add_two_legends(axes: Axes, methods: Sequence[str]) -> None:
    """Explain the colours of the methods' initializations, and beside them the dashes and marks of their gradients."""
    colours = {METHODS[method].initialization: STYLES[method]["color"] for method in methods}
    marks = {METHODS[method].gradient: {**STYLES[method], "color": "0.3"} for method in methods}
    lines = [Line2D([], [], color=colour, linewidth=4) for colour in colours.values()]
    first = axes.legend(lines, colours, title="initialization", loc="lower right", fontsize="small")
    axes.add_artist(first)
    lines = [Line2D([], [], **style) for style in marks.values()]
    axes.legend(lines, marks, title="gradient", loc="lower center", handlelength=4, fontsize="small")


def rule(results: Results) -> Figure | None:
    """Draw what the preconditioner adds, against how unequal the theory says that the gradients are without it."""
    if len(results.members("depth")) < 2:
        return None
    differences = {}
    for preconditioned, alone in results.pairs():
        network, decay = alone.conditions
        paired = results.differences(preconditioned, alone)
        if network.family != NAMED and decay == decays(results) and len(paired):
            differences[alone] = interval(paired[:, PRIMARY])
    if not differences:
        return None
    figure = new_figure(9, 6)
    axes = figure.subplots()
    adjusted = holm([p_value for _, _, p_value in differences.values()])
    for (alone, (mean, half, _)), p_value in zip(differences.items(), adjusted):
        name = METHODS[alone.method].initialization
        network = alone.conditions.network
        colour = INITIALIZATIONS[name].colour
        x = spread(name, network)
        filling = colour if p_value < SIGNIFICANCE else "white"
        axes.errorbar(x, mean, half, color=colour, capsize=2, linewidth=1, markersize=6, markerfacecolor=filling,
                      marker=SHAPES[network.family])
        if x > UNEQUAL:
            learnt = results.outcomes(alone)[:, PRIMARY].mean() <= TRAINED
            layers = f"{network.member} layers"
            label = f"{layers} " if learnt else f"{layers}, \nwhich learn nothing without "
            axes.annotate(label, (x, mean), ha="right", va="top", fontsize="small")
        axes.plot([], [], color=colour, linewidth=4, label=name)
    axes.axhline(0, color="black", linewidth=1)
    axes.set(xscale="log", xlabel="weight-gradient spread: largest over smallest gradient, predicted before training",
             ylabel="final loss with the preconditioner minus without, nats; lower is better")
    axes.xaxis.set_major_formatter("{x:g}")
    axes.margins(x=0.1)
    for label, filling in ("significant after Holm's adjustment", "0.3"), ("not significant", "white"):
        axes.plot([], [], linestyle="", marker="o", color="0.3", markerfacecolor=filling, label=label)
    activations = {alone.conditions.network.family for alone in differences}
    for activation in sorted(activations - {"relu"}):
        hollow = dict(linestyle="", marker=SHAPES[activation], color="0.3", markerfacecolor="white")
        axes.plot([], [], label=f"{activation} instead of relu", **hollow)
    add_legend(figure, columns=4)
    return figure


def scales() -> Figure:
    """Draw signals and gradients along the tutorial's network and a deep one, by the theory, for white noise."""
    figure = new_figure(9, 6)
    panels = figure.subplots(2, 2, sharex="col")
    for (top, bottom), number in zip(panels.T, (TUTORIAL.member, DEEP)):
        for name in KNOWN:
            layers = predictions(name, Network("relu", number))
            colour = INITIALIZATIONS[name].colour
            place = range(1, number + 1)
            signals = [layer.weight_gradient_std / layer.bias_gradient_std for layer in layers]
            gradients = [layer.weight_gradient_std for layer in layers]
            top.plot(place, signals, color=colour)
            bottom.plot(place, gradients, color=colour, label=name)
        bottom.axhline(1, color="black", linewidth=2, linestyle="--", label="preconditioned")
        top.locator_params(axis="x", integer=True)
        title = "the tutorial's network" if number == TUTORIAL.member else f"depth {number}"
        top.set(title=title, ylabel="signal at the layer's input", yscale="log")
        bottom.set(xlabel="layer", ylabel="gradient of the weights", yscale="log")
    add_legend(figure, columns=4)
    return figure
