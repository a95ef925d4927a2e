"""The study's pictures, of which that of the theory's scales needs no training."""
import math
from pathlib import Path

import matplotlib.style
import numpy as np
from matplotlib.figure import Figure
from torch import nn

from util.curves import smooth
from util.network import Net
from util.plot import save_figure
from util.signal_propagation import predict, predict_current
from util.study.methods import METHODS
from util.study.statistics import LAYERS, OUTCOMES, Contender, Results, interval
from util.training import MINIBATCH

# Colours that the colour-blind can tell apart (Okabe and Ito, without yellow); markers and dashes tell the rest.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
STYLES = {method: dict(color=COLOURS[i % 7], linestyle=("-", "--")[i // 7 % 2], marker="osD^vP*Xph<>"[i % 12], markersize=5)
          for i, method in enumerate(METHODS)}
SCHEDULES = {False: "constant learning rate", True: "learning rate decays to zero"}
INITIALIZATIONS = {  # the variances of weights and of biases, from fan-in and fan-out
    "PyTorch": lambda fan_in, fan_out: (1 / (3 * fan_in), 1 / (3 * fan_in)),
    "Glorot": lambda fan_in, fan_out: (2 / (fan_in + fan_out), 0),
    "He, fan-in": lambda fan_in, fan_out: (2 / fan_in, 0),
    "He, fan-out": lambda fan_in, fan_out: (2 / fan_out, 0),
}


def draw_all(results: Results, reference: str, folder: Path) -> None:
    """Draw every picture into a folder."""
    with matplotlib.style.context("default"):
        for draw in scales, curves, learning_rates, differences, growth:
            figure = Figure(figsize=(9, 5), dpi=150, layout="constrained")
            draw(figure, results, reference)
            lines = {label: line for axes in figure.axes for line, label in zip(*axes.get_legend_handles_labels())}
            figure.legend(lines.values(), lines, loc="outside lower center", ncols=6, frameon=False, fontsize="small")
            save_figure(figure, str(folder / f"{draw.__name__}.png"))


def scales(figure: Figure, results: Results, reference: str) -> None:
    """Draw signals and gradients along the tutorial's network and a deep one, by the theory, for white noise."""
    widths = [512 if i % 2 else 64 for i in range(31)]
    deep = nn.Sequential(*(module for pair in zip(widths, widths[1:]) for module in (nn.Linear(*pair), nn.ReLU())))
    networks = {"the tutorial's network": (Net(), (3, 32, 32)), "30 layers, 64 and 512 wide in turn": (deep, (64,))}
    for (top, bottom), (title, (net, shape)) in zip(figure.subplots(2, 2, sharex="col").T, networks.items()):
        statistics = {"PyTorch": None, "variance-preserving": predict(net, shape)}  # in the order of the styles
        for name, variances in INITIALIZATIONS.items():
            for module in (module for module in net.modules() if hasattr(module, "weight")):
                fans = module.weight[0].numel(), module.weight[:, 0].numel()
                for parameter, variance in zip((module.weight, module.bias), variances(*fans)):
                    nn.init.constant_(parameter, math.sqrt(variance))
            statistics[name] = predict_current(net, shape)
        for (name, layers), style in zip(statistics.items(), STYLES.values()):
            x = range(1, len(layers) + 1)
            top.plot(x, [layer.weight_gradient_std / layer.bias_gradient_std for layer in layers], **style)
            bottom.plot(x, [layer.weight_gradient_std for layer in layers], label=name, **style)
        bottom.axhline(1, color="black", linewidth=2, label="preconditioned")
        top.locator_params(axis="x", integer=True)
        top.set(title=title, ylabel="signal at the layer's input", yscale="log")
        bottom.set(xlabel="layer", ylabel="gradient of the weights", yscale="log")


def curves(figure: Figure, results: Results, reference: str) -> None:
    """Draw each method's loss curve at its best learning rate, smoothed, on average over the seeds."""
    for axes, (decay, title) in zip(figure.subplots(1, 2, sharey=True), SCHEDULES.items()):
        for contender in results.best_of(decay):
            runs = list(results.runs[contender].values())
            losses = np.mean([smooth(run.losses, max(1, len(run.losses) // 25)) for run in runs], axis=0)
            epochs = np.arange(len(losses)) / (runs[0].training.images // MINIBATCH)
            axes.plot(epochs[::50], losses[::50], label=str(contender), **{**STYLES[contender.method], "marker": ""})
        axes.set(title=title, xlabel="epoch", ylabel="training loss in nats, smoothed")


def learning_rates(figure: Figure, results: Results, reference: str) -> None:
    """Draw final losses against learning rates, up to 0.5 above each line's best; lines are labelled at their ends."""
    for axes, (decay, title) in zip(figure.subplots(1, 2, sharey=True), SCHEDULES.items()):
        lines = {each.method: [pair for pair in results.rates_and_losses(each) if pair[1] < results.final[each] + 0.5]
                 for each in results.best_of(decay)}
        for place, (method, points) in enumerate(sorted(lines.items(), key=lambda line: line[1][-1][1])):
            axes.plot(*zip(*points), **STYLES[method])
            colour = STYLES[method]["color"]
            axes.annotate(method, points[-1], (1.04, place / len(lines)), textcoords="axes fraction", size="small",
                          color=colour, arrowprops=dict(arrowstyle="-", color=colour, lw=0.5, relpos=(0, 0.5)))
        axes.set(title=title, xscale="log", xlabel="learning rate", ylabel="training loss over the last tenth, nats")


def differences(figure: Figure, results: Results, reference: str) -> None:
    """Draw a forest plot: paired differences of losses from the reference, with 95 % intervals."""
    for axes, (decay, title) in zip(figure.subplots(1, 2, sharex=True), SCHEDULES.items()):
        base = results.reference(reference, decay)
        others = [contender for contender in results.best_of(decay) if contender != base]
        for place, contender in enumerate(others):
            values = results.differences(contender, base)
            for row, outcome in enumerate((0, 2, 3) if len(values) > 1 else ()):
                mean, half, _ = interval(values[:, outcome])
                axes.errorbar(mean, place + 0.2 * row, xerr=half, fmt="os^"[row], color=COLOURS[row], capsize=3,
                              label=OUTCOMES[outcome])
        axes.axvline(0, color="black", linewidth=1)
        axes.set(title=title, xlabel=f"minus {base}, nats" if base else "", ylim=(len(others), -0.5))
        axes.set_yticks(range(len(others)), [f"{each.method}\n{each.learning_rate:g}" for each in others])


def growth(figure: Figure, results: Results, reference: str) -> None:
    """Draw how much the weights' gradients grew at the learning rate 0.001, measured against predicted."""
    axes = figure.subplots()
    for colour, method in zip(COLOURS, ("default", "preconditioned", "dynamic", "measured")):
        grown = results.growth(Contender(method, False, 0.001))
        if len(grown):
            axes.plot(grown[2], grown[1], label=method, **{**STYLES[method], "color": colour, "linestyle": ""})
            for name, *point in zip(LAYERS, grown[2], grown[1]):
                axes.annotate(name, point, (5, 4), textcoords="offset points", fontsize="x-small")
    axes.plot((1, 50), (1, 50), color="black", linewidth=1, label="as predicted")
    axes.set(xlabel="growth predicted from the weights' root mean squares, times", xscale="log", yscale="log",
             ylabel="growth measured, times", title="gradients of the weights, from before training to its end")
