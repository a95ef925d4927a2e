"""Train the network of PyTorch's CIFAR-10 tutorial by default and preconditioned, and plot the loss curves.

    python3 main.py            # one or two minutes on two cores; writes loss.png; --help lists the options
"""
from __future__ import annotations

import signal

if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # Ctrl-C ends the program without a word, even while it imports

import argparse
import os
from functools import partial

import numpy as np
import torch

from util.curves import final_loss, loss_around
from util.data import DataSet, load
from util.default_train import default_train
from util.failure import Failure, plain_endings
from util.files import make_folder, write_whole
from util.initialization_only_train import initialization_only_train
from util.network import Net
from util.options import DEFAULTS, parse_options
from util.parallel import run_parallel
from util.plot import check_figure, plot_losses, save_figure
from util.static_preconditioned_train import static_preconditioned_train
from util.theory import LayerStatistics, predict, weight_gradient_spread
from util.training import MINIBATCH, Result, Training, evaluate

TITLES = {"cifar10": "CIFAR-10", "synthetic": "synthetic data, not CIFAR-10"}


def main() -> None:
    """Tell the whole story: data -> network -> statistics -> training -> plot."""
    options = parse_options()
    check_figure(options.output)
    if options.save:
        make_folder(options.save, "--save")

    torch.set_num_threads(1)  # so that the processes that are forked for the trainings can compute
    data = load(options.dataset, options.data_dir, options.images)
    options.dataset = data.name
    net = Net(options.depth, options.activation)
    statistics = predict(net)
    if not options.quiet:
        print_statistics(statistics, options)

    trainings = [
        Training("default", default_train, options.default_lr),
        Training("preconditioned", static_preconditioned_train, options.preconditioned_lr),
    ]
    if options.initialization_only:
        trainings.append(Training("initialization-only", initialization_only_train, options.initialization_only))
    results = {}
    for training, result in run_parallel(partial(perform, data, options), trainings, processes=len(trainings)):
        results[training] = result
        if options.save and not result.diverged:
            save(training, result, options)

    finished = [training for training in trainings if not results[training].diverged]
    steps_per_epoch = options.images // MINIBATCH
    width = options.smoothing or max(1, options.epochs * steps_per_epoch // 25)
    title = describe(options)
    if finished:
        curves = {str(training): results[training].losses for training in finished}
        save_figure(plot_losses(curves, title, width, steps_per_epoch), options.output)
        if not options.quiet:
            columns = [column(training, results[training], width, steps_per_epoch) for training in finished]
            print_summary(title, columns)
            print(f"wrote {options.output}", flush=True)

    diverged = [f"the {training.method} training diverged at step {len(results[training].losses)}"
                for training in trainings if training not in finished]
    if diverged:
        raise Failure(", ".join(diverged) + "; a lower learning rate may help")


def perform(data: DataSet, options: argparse.Namespace, training: Training) -> Result:
    """Train and test one network, in a process of its own."""
    def report(line: str) -> None:
        if not options.quiet:
            print(f"{training.method:19} {line}\n", end="", flush=True)  # at once, so that lines do not mix

    torch.manual_seed(options.seed)
    net = Net(options.depth, options.activation)
    losses = training.train(net, data.training, training.learning_rate, options.epochs, options.seed, report)
    return Result(losses, *evaluate(net, data.test))


def save(training: Training, result: Result, options: argparse.Namespace) -> None:
    """Write METHOD=RATE_seed_N.npz, an array for each setting and result, which `numpy.load` reads without pickle.

    The name also has each setting that differs from `DEFAULTS`, as in METHOD=RATE_seed_N_depth_10.npz.
    """
    settings = {name: getattr(options, name) for name in DEFAULTS}
    others = [f"_{name}_{value}" for name, value in settings.items() if value != DEFAULTS[name]]
    name = f"{training.method}={training.learning_rate}_seed_{options.seed}{''.join(others)}.npz"
    arrays = dict(method=training.method, learning_rate=training.learning_rate, seed=options.seed,
                  **settings, **result._asdict())
    write_whole(os.path.join(options.save, name), lambda file: np.savez(file, **arrays))


def describe(options: argparse.Namespace) -> str:
    """Return the title of the figure and of the summary."""
    title = f"{TITLES[options.dataset]}, seed {options.seed}"
    if options.depth != DEFAULTS["depth"]:
        title += f", depth {options.depth}"
    if options.activation != DEFAULTS["activation"]:
        title += f", {options.activation}"
    return title


def print_statistics(statistics: list[LayerStatistics], options: argparse.Namespace) -> None:
    """Print what the theory says of each layer, and the factors of the preconditioner."""
    print(f"the preconditioned training's initialization (depth {options.depth}, {options.activation}), "
          "on standard normal input; factor = 1 / gradient std")
    print("layer     weight std    bias std  gradient std: weight, bias     factor: weight, bias")
    for layer in statistics:
        gradients = layer.weight_gradient_std, layer.bias_gradient_std
        factors = [1 / gradient for gradient in gradients]
        numbers = [layer.weight_std, layer.bias_std, *gradients, *factors]
        print(f"{layer.name:8}", *(f"{number:11.4f}" for number in numbers))
    print(f"spread {weight_gradient_spread(statistics):.3g}: the largest weight gradient std over the smallest, "
          "which the factors make equal\n", flush=True)


def print_summary(title: str, columns: list[list[str]]) -> None:
    """Print what came out of the trainings, a column for each."""
    names = ["", "learning rate", "loss around epoch 0.1", "loss around epoch 1", "loss over the last tenth",
             "test loss", "test accuracy"]
    print(f"\n{title}")
    cell_width = max(len(cell) for column in columns for cell in column)
    for name, *cells in zip(names, *columns):
        print(f"{name:24}", *(f"{cell:>{cell_width}}" for cell in cells), sep="  ")


def column(training: Training, result: Result, width: int, steps_per_epoch: int) -> list[str]:
    """Return the cells of a training's column, from the top; losses are means over training steps, in nats."""
    early = loss_around(result.losses, 0.1 * steps_per_epoch, width)
    later = loss_around(result.losses, steps_per_epoch, width)
    losses = early, later, final_loss(result.losses), result.test_loss
    rounded = [f"{loss:.3f}" for loss in losses]
    return [training.method, f"{training.learning_rate}", *rounded, f"{result.test_accuracy:.1%}"]


if __name__ == "__main__":
    with plain_endings("main.py"):
        main()
