"""Train the network of PyTorch's CIFAR-10 tutorial by default and preconditioned, and plot the loss curves.

    python3 main.py            # one or two minutes on two cores; writes loss.png; --help lists the options
"""
from __future__ import annotations

import signal

if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # Ctrl-C ends the program without a word, even while it imports

import argparse
from functools import partial

import torch

from util.curves import final_loss, loss_around, overtaking_epoch
from util.data import DataSet, load
from util.default_train import default_train
from util.failure import Failure, plain_endings
from util.initialization_only_train import initialization_only_train
from util.network import TUTORIAL_DEPTH, Net
from util.options import parse_options
from util.parallel import run_parallel
from util.plot import check_figure, draw, save_figure
from util.runs import Run, Training, make_folder, save_run
from util.static_preconditioned_train import static_preconditioned_train
from util.theory import predict, weight_gradient_spread
from util.training import MINIBATCH, evaluate

TITLES = {"cifar10": "CIFAR-10", "synthetic": "synthetic data, not CIFAR-10"}


def main() -> None:
    """Tell the whole story: data -> network -> statistics -> training -> plot."""
    options = parse_options()
    check_figure(options.output)
    if options.save:
        make_folder(options.save)

    torch.set_num_threads(1)  # so that the processes that are forked for the trainings can compute
    data = load(options.dataset, options.data_dir, options.images)
    title = f"{TITLES[data.name]}, seed {options.seed}"
    if options.depth != TUTORIAL_DEPTH:
        title += f", depth {options.depth}"
    if options.activation != "relu":
        title += f", {options.activation}"
    if not options.quiet:
        print_layers(options.depth, options.activation)

    trainings = [
        Training("default", default_train, options.default_lr),
        Training("preconditioned", static_preconditioned_train, options.preconditioned_lr),
    ]
    if options.initialization_only:
        trainings.append(Training("initialization-only", initialization_only_train, options.preconditioned_lr))
    finished = {}
    for training, run in run_parallel(partial(perform, data, options), trainings, processes=len(trainings)):
        if run.diverged:
            raise Failure(f"the {training.method} training diverged at step {len(run.losses)}; "
                          "a lower learning rate may help")
        finished[training] = run
        if options.save:
            save_run(run, options.save)

    steps_per_epoch = options.images // MINIBATCH
    width = options.smoothing or max(1, options.epochs * steps_per_epoch // 25)
    curves = {training: finished[training].losses for training in trainings}
    default, *others = trainings
    overtakings = {other: overtaking_epoch(curves[default], curves[other], steps_per_epoch) for other in others}
    save_figure(draw(curves, title, width, steps_per_epoch, overtakings), options.output)

    if not options.quiet:
        print(f"\n{title}")
        print_summary([finished[training] for training in trainings], width, steps_per_epoch)
        for other, epoch in overtakings.items():
            if epoch is None:
                print(f"the default training does not overtake the {other.method} one")
            else:
                print(f"the default training overtakes the {other.method} one at epoch {epoch:.2f}")
        print(f"wrote {options.output}")


def perform(data: DataSet, options: argparse.Namespace, training: Training) -> Run:
    """Train and test one network, in a process of its own."""
    def report(line: str) -> None:
        if not options.quiet:
            print(f"{training.method:19} {line}\n", end="", flush=True)  # at once, so that lines do not mix

    torch.manual_seed(options.seed)
    net = Net(options.depth, options.activation)
    losses = training.train(net, data.training, training.learning_rate, options.epochs, options.seed, report)
    test_loss, test_accuracy = evaluate(net, data.test)
    return Run(training.method, training.learning_rate, options.seed, data.name, options.images, options.epochs,
               options.depth, options.activation, losses, test_loss, test_accuracy)


def print_layers(depth: int, activation: str) -> None:
    """Print what the theory says of each layer, and the factors of the preconditioner."""
    print(f"the preconditioned training's initialization (depth {depth}, {activation}), on standard normal input; "
          "factor = 1 / gradient std")
    print("layer   weight std    bias std  gradient std: weight, bias     factor: weight, bias")
    layers = predict(Net(depth, activation))
    for layer in layers:
        gradients = layer.weight_gradient_std, layer.bias_gradient_std
        factors = [1 / gradient for gradient in gradients]
        numbers = [layer.weight_std, layer.bias_std, *gradients, *factors]
        print(f"{layer.name:6}", *(f"{number:11.4f}" for number in numbers))
    print(f"spread {weight_gradient_spread(layers):.3g}: the largest weight gradient std over the smallest, "
          "which the factors make equal\n", flush=True)


def print_summary(runs: list[Run], width: int, steps_per_epoch: int) -> None:
    """Print what came out of the trainings, a column for each; losses are means over training steps, in nats."""
    names = ["", "learning rate", "loss around epoch 0.1", "loss around epoch 1", "loss over the last tenth",
             "test loss", "test accuracy"]
    columns = [results(run, width, steps_per_epoch) for run in runs]
    cell_width = max(len(cell) for column in columns for cell in column)
    for name, *cells in zip(names, *columns):
        print(f"{name:24}", *(f"{cell:>{cell_width}}" for cell in cells), sep="  ")


def results(run: Run, width: int, steps_per_epoch: int) -> list[str]:
    """Return the cells of a training's column, from the top."""
    early = loss_around(run.losses, 0.1 * steps_per_epoch, width)
    later = loss_around(run.losses, steps_per_epoch, width)
    losses = early, later, final_loss(run.losses), run.test_loss
    rounded = [f"{loss:.3f}" for loss in losses]
    return [run.method, f"{run.learning_rate}", *rounded, f"{run.test_accuracy:.1%}"]


if __name__ == "__main__":
    with plain_endings("main.py"):
        main()
