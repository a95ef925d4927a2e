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
from util.output import check_outputs, save_losses, take_each, write_whole
from util.parallel import run_parallel
from util.plot import draw, render
from util.program import Failure
from util.report import finished_line, preconditioner_table, result_tables
from util.signal_propagation import STANDARD, predict
from util.static_preconditioned_train import static_preconditioned_train
from util.training import MINIBATCH, Settings, TrainingRun, evaluate

METHODS = {
    # The two that the demo is about: PyTorch's initialization and plain gradients; and a variance-preserving
    # initialization, with each parameter tensor's gradient multiplied by a fixed factor.
    "default": default_train,
    "preconditioned": static_preconditioned_train,
    # What either half of the second does without the other.
    "initialization-only": initialization_only_train,
    "preconditioner-only": preconditioner_only_train,
    # What changes if the factors follow the weights, or if only a part of their change does.
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
    statistics = predict(Net(), input_moments=moments)  # to be shown; each training computes what it needs
    say(f"input moments: {moments[0]:.4f}, {moments[1]:.4f}\n{preconditioner_table(statistics)}\n")

    settings = Settings(arguments.epochs, arguments.decay, moments)
    results = {}  # by seed and contender
    seeds = range(arguments.seed, arguments.seed + arguments.seeds)
    trainings = list(product(seeds, arguments.contenders))
    queued = len(trainings) > arguments.jobs  # then a line for each finished training replaces the lines of progress
    start = time.monotonic()
    for (seed, contender), run in run_parallel(partial(perform, data, settings), trainings, arguments.jobs,
                                               report=(lambda line: None) if queued else say):
        if run.diverged and not several_rates(arguments.contenders):
            raise Failure(f"{contender} seed {seed}: the training diverged at step {len(run.losses)}; a lower learning "
                          "rate may help")
        results[seed, contender] = run
        with contextlib.suppress(OSError):  # not the last attempt, see below
            save_losses(results, arguments, data.name)  # now, so that an interrupt cannot take what is finished
        if queued:
            left = len(trainings) - len(results)
            say(finished_line(seed, contender, run, left, (time.monotonic() - start) / len(results) * left))

    runs = {contender: [results[seed, contender] for seed in seeds] for contender in arguments.contenders}
    width, steps_per_epoch = arguments.smoothing, arguments.images // MINIBATCH

    def save_figure() -> None:
        figure = draw(runs, title(arguments, data.name), width, steps_per_epoch)
        write_whole(arguments.output, render(figure, arguments.output))

    take_each(lambda: save_losses(results, arguments, data.name),
              save_figure,
              lambda: say(f"\n{result_tables(runs, statistics, width, steps_per_epoch)}\n"))
    for path in filter(None, (arguments.output, arguments.save_losses)):
        say(f"wrote {path}")


def perform(data: DataSet, settings: Settings, training: tuple[int, Contender],
            report: Callable[[str], None]) -> TrainingRun:
    """Train and test one network, in a worker process."""
    torch.set_num_threads(1)  # which a process that was not forked does not inherit
    torch.backends.mkldnn.enabled = False  # for minibatches of 4, oneDNN costs more than it saves
    seed, contender = training
    torch.manual_seed(seed)
    net = Net()
    train = METHODS[contender.method]
    run = train(net, data.training, contender.learning_rate, seed, settings,
                lambda line: report(f"{contender} seed {seed}  {line}"))
    run.test_loss, run.test_accuracy = evaluate(net, data.test)
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
