"""Train the network of PyTorch's CIFAR-10 tutorial twice, by default and preconditioned, and plot both loss curves.

    python3 main.py            # writes loss.png; --help lists the options
"""
from __future__ import annotations

import sys

from util import program

if __name__ == "__main__":
    program.begin()  # before the imports, which take seconds

import contextlib
import time
from argparse import Namespace
from functools import partial
from itertools import product
from typing import Callable

import torch

from util.ablation_train import initialization_only_train, preconditioner_only_train
from util.command_line import parse_arguments
from util.comparison import Contender, several_rates
from util.data import DataSet, input_moments, load
from util.default_train import default_train
from util.dynamic_preconditioned_train import dynamic_preconditioned_train
from util.network import Net
from util.output import archive, check_outputs, figure_format, take_each, write_whole
from util.parallel import run_parallel
from util.plot import draw, render
from util.program import Failure
from util.report import finished_line, preconditioner_table, result_tables
from util.signal_propagation import STANDARD, predict
from util.static_preconditioned_train import static_preconditioned_train
from util.training import MINIBATCH, TrainingRun, evaluate

METHODS = {
    "default": default_train,
    "preconditioned": static_preconditioned_train,
    "initialization-only": initialization_only_train,
    "preconditioner-only": preconditioner_only_train,
    "dynamic": dynamic_preconditioned_train,
    "dynamic-scale": partial(dynamic_preconditioned_train, follow="scale"),
    "dynamic-proportions": partial(dynamic_preconditioned_train, follow="proportions"),
}


def main() -> None:
    """Tell the whole story: data -> network -> statistics -> training -> plot."""
    torch.set_num_threads(1)  # minibatches this small do not gain from more, and a forked process could not use them
    arguments = parse_arguments(METHODS)
    check_outputs(arguments.output, arguments.save_losses)
    say = (lambda text: None) if arguments.quiet else program.say

    data = load(arguments.dataset, arguments.data_dir, arguments.images, arguments.quiet)
    if data.warning:
        program.complain(data.warning, kind="warning")

    moments = STANDARD if arguments.input_moments == "standard" else input_moments(data.training)
    statistics = predict(Net(), input_moments=moments)  # to be shown: each training computes its own by this function
    say(f"input moments: {moments[0]:.4f}, {moments[1]:.4f}\n{preconditioner_table(statistics)}\n")

    results = {}  # by seed and contender

    def save_losses() -> None:
        if arguments.save_losses:
            write_whole(arguments.save_losses, archive(results, arguments, data.name))

    seeds = range(arguments.seed, arguments.seed + arguments.seeds)
    trainings = list(product(seeds, arguments.contenders))
    queued = len(trainings) > arguments.jobs  # then a line for each finished training replaces the lines of progress
    start = time.monotonic()
    for training, run in run_parallel(partial(perform, arguments, data, moments), trainings, arguments.jobs,
                                      report=(lambda line: None) if queued else say):
        results[training] = run
        with contextlib.suppress(OSError):  # not the last attempt, see below
            save_losses()  # now, so that an interrupt cannot take what is finished
        if queued:
            left = len(trainings) - len(results)
            say(finished_line(*training, run, left, (time.monotonic() - start) / len(results) * left))
    runs = {contender: [results[seed, contender] for seed in seeds] for contender in arguments.contenders}
    width, steps_per_epoch = arguments.smoothing, arguments.images // MINIBATCH

    def save_figure() -> None:
        figure = draw(runs, title(arguments, data.name), width, steps_per_epoch)
        write_whole(arguments.output, render(figure, figure_format(arguments.output)))

    def print_tables() -> None:
        say(f"\n{result_tables(runs, statistics, width, steps_per_epoch)}\n")

    take_each(save_losses, save_figure, print_tables)  # a full disk, say, must not cost the tables
    for path in filter(None, (arguments.output, arguments.save_losses)):
        say(f"wrote {path}")


def perform(arguments: Namespace, data: DataSet, moments: tuple[float, float], training: tuple[int, Contender],
            report: Callable[[str], None]) -> TrainingRun:
    """Train and test one network, in a worker process.

    Raises:
        Failure: if a loss is not finite, unless the run compares several learning rates.
    """
    torch.set_num_threads(1)  # which a process that was not forked does not inherit
    torch.backends.mkldnn.enabled = False  # for minibatches of 4, oneDNN costs more than it saves
    seed, contender = training
    torch.manual_seed(seed)
    net = Net()
    label = str(contender) if several_rates(arguments.contenders) else contender.method
    if arguments.seeds > 1:
        label += f"  seed {seed}"
    run = METHODS[contender.method](net, data.training, moments, contender.learning_rate, arguments.epochs, seed,
                                    arguments.decay, lambda line: report(f"{label}  {line}"))
    run.test_loss, run.test_accuracy = evaluate(net, data.test)
    if run.diverged and not several_rates(arguments.contenders):
        raise Failure(f"{contender.method}: the training diverged at step {len(run.losses)}, with learning rate "
                      f"{contender.learning_rate:g} and seed {seed}; a lower learning rate may help")
    return run


def title(arguments: Namespace, dataset: str) -> str:
    """Say what the figure shows."""
    name = "CIFAR-10" if dataset == "cifar10" else "synthetic data, not CIFAR-10"
    first, last = arguments.seed, arguments.seed + arguments.seeds - 1
    seeds = f"seed {first}"
    if last > first:
        seeds = f"seeds {first} to {last} (line: mean; band: ± one standard deviation)"
    return f"{name}, {seeds}" + (", learning rates decay linearly to zero" if arguments.decay else "")


if __name__ == "__main__":
    sys.exit(program.run(main))
