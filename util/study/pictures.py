"""The study's pictures; a panel without data is not drawn, nor a picture without any."""
from __future__ import annotations

import math
import os
from typing import Any

import matplotlib.style
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from util.curves import smooth
from util.network import TUTORIAL_DEPTH
from util.plot import save_figure
from util.study.methods import INITIALIZATIONS, METHODS, PAIRS
from util.study.report import LAYERS
from util.study.results import Conditions, Configuration
from util.study.statistics import EARLY, ORDER, PRIMARY, Results, interval, outcomes
from util.study.theory import NAMES, ends, predictions

# Colours tell initializations; dashes and marks tell what is done to the gradient, and by which optimizer.
MARKS: dict[tuple[str, str], dict[str, Any]] = {
    ("plain", "SGD"): dict(linestyle="-", marker="o"),
    ("static factors", "SGD"): dict(linestyle="--", marker="s"),
    ("theory every 500 steps", "SGD"): dict(linestyle="-.", marker="X"),
    ("theory every 100 steps", "SGD"): dict(linestyle=(0, (5, 1, 1, 1, 1, 1)), marker="P"),
    ("measured every 500 steps", "SGD"): dict(linestyle=(0, (4, 1)), marker="h"),
    ("plain", "Adam"): dict(linestyle=":", marker="D"),
}
STYLES = {name: dict(color=INITIALIZATIONS[method.initialization].colour, **MARKS[method.gradient, method.optimizer])
          for name, method in METHODS.items()}
SCHEDULES = {False: "constant learning rate", True: "learning rate decays to zero"}
SGD_METHODS = [name for name, method in METHODS.items() if method.optimizer == "SGD"]
GUESSING = math.log(10)  # nats, with ten classes
DEEP = 40  # weight layers, of the deep network in the picture of scales
GROWTH_METHODS = ("default", "he", "initialization-only", "preconditioned", "dynamic", "measured")


def draw_all(results: Results, method: str, rate: float | None, folder: str) -> None:
    """Write all pictures into a folder that exists; `method` and `rate` are the reference, None being its best rate."""
    with matplotlib.style.context("default"):  # not the user's
        figures = {
            "depth": depth(results, SGD_METHODS),
            "depth_all": depth(results, list(METHODS)),
            "scales": scales(),
            "learning_rates": learning_rates(results),
            "differences": differences(results, method, rate),
            "curves": curves(results),
            "growth": growth(results),
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


def depth(results: Results, methods: list[str]) -> Figure | None:
    """Draw what each method's training comes to at each depth, and below it what the theory says beforehand."""
    depths = results.depths()
    if len(depths) < 2:
        return None
    decay = any(configuration.conditions.decay for configuration in results.by_seed)
    figure = new_figure(9, 10)
    top, middle, bottom = figure.subplots(3, sharex=True, height_ratios=(2, 1, 1))
    for method in methods:
        draw_final_losses(top, results, method, decay)
    top.axhline(GUESSING, color="0.6", linewidth=6, zorder=0, label="guessing, ln 10")
    title = f"training, {SCHEDULES[decay]}; a mark for each seed"
    top.set(title=title, ylabel="training loss over the last tenth, nats")

    middle.set(ylabel="gradient of\nthe first layer's weights", yscale="log", ylim=(1e-12, 10),
               title="theory: does a gradient reach the first layer?")
    bottom.set(ylabel="1 - correlation\nof two inputs' signals", yscale="log", ylim=(1e-8, 1),
               title="theory: can the last layer tell two inputs apart?")
    between = np.unique(np.geomspace(depths[0], depths[-1], 25).astype(int)).tolist()
    for name in NAMES:
        if name != "Glorot":
            networks = [ends(name, number) for number in between]
            style = dict(color=INITIALIZATIONS[name].colour, linewidth=4 if name == "He" else 1.5)  # others may cover He's
            middle.plot(between, [network.first_gradient for network in networks], label=f"theory: {name}", **style)
            bottom.plot(between, [network.difference_left for network in networks], **style)
    bottom.set(xlabel="weight layers", xscale="log")
    bottom.set_xticks(depths, [str(number) for number in depths])
    bottom.minorticks_off()
    add_legend(figure, columns=3)
    return figure


def draw_final_losses(axes: Axes, results: Results, method: str, decay: bool) -> None:
    """Draw a method's final losses at its best rate: a line through the means, a mark for each seed.

    The marks of preconditioned methods are filled. A training that diverged is drawn as one that guesses.
    """
    points = {}
    for number in results.depths():
        configuration = results.best.get((method, Conditions("relu", decay, number)))
        if configuration:
            points[number] = [GUESSING if run.diverged else outcomes(run)[PRIMARY]
                              for run in results.reported(configuration)]
    if points:
        style = STYLES[method]
        fill = "full" if method in PAIRS else "none"
        means = [np.mean(losses) for losses in points.values()]
        aside = 1.006 ** (ORDER.index(method) - len(ORDER) / 2)  # so that the marks of two methods do not coincide
        marks = dict(markersize=4, fillstyle=fill)
        axes.plot([number * aside for number in points], means, **{**style, "marker": ""})
        for number, losses in points.items():
            axes.plot([number * aside] * len(losses), losses, **{**style, **marks, "linestyle": ""})
        axes.plot([], [], label=method, **style, **marks)


def scales() -> Figure:
    """Draw signals and gradients along the tutorial's network and a deep one, by the theory, for white noise."""
    figure = new_figure(9, 6)
    panels = figure.subplots(2, 2, sharex="col")
    for (top, bottom), number in zip(panels.T, (TUTORIAL_DEPTH, DEEP)):
        for name in NAMES:
            layers = predictions(name, number)
            place = range(1, number + 1)
            signals = [layer.weight_gradient_std / layer.bias_gradient_std for layer in layers]
            gradients = [layer.weight_gradient_std for layer in layers]
            top.plot(place, signals, color=INITIALIZATIONS[name].colour)
            bottom.plot(place, gradients, color=INITIALIZATIONS[name].colour, label=name)
        bottom.axhline(1, color="black", linewidth=2, linestyle="--", label="preconditioned")
        top.locator_params(axis="x", integer=True)
        title = "the tutorial's network" if number == TUTORIAL_DEPTH else f"depth {number}"
        top.set(title=title, ylabel="signal at the layer's input", yscale="log")
        bottom.set(xlabel="layer", ylabel="gradient of the weights", yscale="log")
    add_legend(figure, columns=4)
    return figure


def first_depth(results: Results) -> int:
    """Return the least depth, of which pictures are drawn that are not about depth."""
    return results.depths()[0]


def schedules_of(results: Results) -> list[bool]:
    """Return the schedules of which there are trainings at the first depth."""
    return sorted({conditions.decay for conditions in results.conditions() if conditions.depth == first_depth(results)})


def learning_rates(results: Results) -> Figure | None:
    """Draw final losses against learning rates, a panel for each method, beside the default training in grey."""
    number = first_depth(results)
    lines = {}
    for method in METHODS:
        for decay in schedules_of(results):
            points = rates_and_losses(results, (method, Conditions("relu", decay, number)))
            if points:
                lines[method, decay] = points
    methods = list(dict.fromkeys(method for (method, _), points in lines.items() if len(points) > 1))
    if not methods:
        return None
    columns = min(3, len(methods))
    rows = math.ceil(len(methods) / columns)
    figure = new_figure(2.6 * columns + 1, 2.4 * rows + 1)
    panels = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False).flat
    for method, axes in zip(methods, panels):
        for decay in SCHEDULES:
            style = dict(linestyle="--" if decay else "-", marker="s" if decay else "o", markersize=4)
            if method != "default" and ("default", decay) in lines:
                axes.plot(*zip(*lines["default", decay]), color="0.7", label=f"default, {SCHEDULES[decay]}", **style)
            if (method, decay) in lines:
                colour = "#D55E00" if decay else "#0072B2"
                axes.plot(*zip(*lines[method, decay]), color=colour, label=SCHEDULES[decay], **style)
        axes.set_title(method, fontsize="medium")
        axes.set_xscale("log")
    for axes in list(panels):
        axes.remove()
    for axes in figure.axes[-columns:]:  # the lowest of each column
        axes.set_xlabel("learning rate")
        axes.tick_params(labelbottom=True)
    figure.supylabel("training loss over the last tenth, nats")
    add_legend(figure, columns=2)
    return figure


def rates_and_losses(results: Results, sweep: tuple[str, Conditions]) -> list[tuple[float, float]]:
    """Return learning rates with their losses, up to 0.5 above the best one."""
    points = [(configuration.learning_rate, results.tuning_loss(configuration))
              for configuration in results.rates(sweep)]
    best = min((loss for _, loss in points), default=math.inf)
    return [(rate, loss) for rate, loss in points if loss < best + 0.5]


def differences(results: Results, method: str, rate: float | None) -> Figure | None:
    """Draw forest plots: paired differences from the reference, with 95 % intervals, the final ones at the left."""
    rows = []
    for reference in results.references(method, rate):
        if reference.conditions.depth == first_depth(results):
            paired = results.all_differences(results.best_of(reference.conditions), reference)
            if paired:
                rows.append((reference, paired))
    if not rows:
        return None
    heights = [len(paired) for _, paired in rows]
    figure = new_figure(9, 0.35 * sum(heights) + 1.2 * len(rows))
    panels = figure.subplots(len(rows), 2, squeeze=False, sharex="col", height_ratios=heights)
    for (reference, paired), (left, right) in zip(rows, panels):
        draw_forest(left, paired, PRIMARY)
        draw_forest(right, paired, EARLY)
        left.set_yticks(range(len(paired)), [str(configuration) for configuration in paired])
        right.set_yticks([])
        left.set_title(f"last tenth, minus {reference}", fontsize="medium")
        right.set_title("around epoch 0.1", fontsize="medium")
    figure.supxlabel("difference of training losses, nats; left is better", fontsize="medium")
    return figure


def draw_forest(axes: Axes, paired: dict[Configuration, np.ndarray], outcome: int) -> None:
    """Draw the mean and interval of an outcome for each configuration, from top to bottom."""
    for place, (configuration, values) in enumerate(paired.items()):
        mean, half, _ = interval(values[:, outcome])
        style = STYLES[configuration.method]
        axes.errorbar(mean, place, xerr=half, color=style["color"], marker=style["marker"], capsize=3)
    axes.axvline(0, color="black", linewidth=1)
    axes.grid(axis="x", color="0.9")
    axes.locator_params(axis="x", nbins=5)
    axes.set_ylim(len(paired) - 0.5, -0.5)


def curves(results: Results) -> Figure | None:
    """Draw each method's losses at its best learning rate, on average over the seeds."""
    panels = []
    for decay in schedules_of(results):
        best = results.best_of(Conditions("relu", decay, first_depth(results)))
        configurations = [configuration for configuration in best if not results.diverged(configuration)]
        if configurations:
            panels.append((decay, configurations))
    if not panels:
        return None
    figure = new_figure(5.5 * len(panels), 6)
    subplots = figure.subplots(1, len(panels), sharey=True, squeeze=False).flat
    for axes, (decay, configurations) in zip(subplots, panels):
        for configuration in configurations:
            runs = results.reported(configuration)
            losses = np.mean([run.losses for run in runs], axis=0)
            epochs = (np.arange(len(losses)) + 0.5) / len(losses) * runs[0].trial.epochs
            style = {**STYLES[configuration.method], "marker": ""}
            axes.plot(epochs, smooth(losses, max(1, len(losses) // 25)), label=configuration.method, **style)
        axes.set(title=SCHEDULES[decay], xlabel="epoch", ylabel="training loss, nats, smoothed over 4 % of the run")
    add_legend(figure, columns=3)
    return figure


def growth(results: Results) -> Figure | None:
    """Draw how much the weights' gradients grew at the constant learning rate 0.001, measured against predicted."""
    grown = {}
    for method in GROWTH_METHODS:
        configuration = Configuration(method, Conditions("relu", False, TUTORIAL_DEPTH), 0.001)
        if configuration in results.by_seed:
            growths = results.growth(configuration)
            if len(growths):
                grown[method] = growths
    if not grown:
        return None
    figure = new_figure(7, 6)
    axes = figure.subplots()
    markers = dict(zip(LAYERS, "os^Dv"))
    handles = []
    for method, (_, measured, predicted) in grown.items():
        style = dict(color=STYLES[method]["color"], fillstyle="none" if method == "initialization-only" else "full")
        for layer, x, y in zip(LAYERS, predicted, measured):
            axes.plot([x], [y], marker=markers[layer], linestyle="", **style)
        handles.append(Line2D([], [], marker="o", markersize=9, linestyle="", label=method, **style))
    handles += [Line2D([], [], color="0.4", marker=marker, linestyle="", label=layer)
                for layer, marker in markers.items()]
    axes.axline((1, 1), (10, 10), color="0.6", label="as predicted", zorder=0)
    handles += axes.get_legend_handles_labels()[0]
    axes.legend(handles=handles, fontsize="small", framealpha=1)
    axes.set(xscale="log", yscale="log", xlabel="growth predicted from the weights' root mean squares, times",
             ylabel="growth measured, times", title="gradients of the weights, last over first, learning rate 0.001")
    return figure
