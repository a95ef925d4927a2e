"""Train the network of PyTorch's CIFAR-10 tutorial twice, by default and preconditioned, and plot both loss curves.

    python3 main.py            # one or two minutes on two cores; writes loss.png; --help lists the options
"""
import os
from functools import partial

import torch

from util.curves import final_loss, loss_around, overtaking_epoch
from util.data import DataSet, load
from util.default_train import default_train
from util.failure import Failure, plain_endings
from util.network import Net
from util.options import parse_options
from util.parallel import run_parallel
from util.plot import check_figure, draw, save_figure
from util.runs import Run, Training, check_writable, save_run
from util.signal_propagation import predict
from util.static_preconditioned_train import static_preconditioned_train
from util.training import MINIBATCH, evaluate


def main() -> None:
    """Tell the whole story: data -> network -> statistics -> training -> plot."""
    options = parse_options()
    check_figure(options.output)
    if options.save:
        os.makedirs(options.save, exist_ok=True)
        check_writable(os.path.join(options.save, ".probe"))

    torch.set_num_threads(1)  # so that the processes that are forked for the trainings can compute
    data = load(options.dataset, options.data_dir, options.images)
    if not options.quiet:
        print_layers()

    settings = options.seed, data.name, options.images, options.epochs
    default = Training("default", options.default_lr, *settings)
    preconditioned = Training("preconditioned", options.preconditioned_lr, *settings)
    runs = {}
    for training, run in run_parallel(partial(perform, data, options.quiet), [default, preconditioned], processes=2):
        if run.diverged:
            raise Failure(f"the {training.method} training diverged at step {len(run.losses)}; "
                          f"a lower --{training.method}-lr may help")
        runs[training] = run
        if options.save:
            save_run(run, options.save)

    steps_per_epoch = options.images // MINIBATCH
    width = options.smoothing or max(1, options.epochs * steps_per_epoch // 25)
    overtaking = overtaking_epoch(runs[default].losses, runs[preconditioned].losses, steps_per_epoch)
    curves = {f"{training.method}, learning rate {training.learning_rate:g}": runs[training].losses
              for training in (default, preconditioned)}
    name = "CIFAR-10" if data.name == "cifar10" else "synthetic data, not CIFAR-10"
    save_figure(draw(curves, f"{name}, seed {options.seed}", width, steps_per_epoch, overtaking), options.output)
    if not options.quiet:
        print_summary(runs[default], runs[preconditioned], width, steps_per_epoch)
        print("not overtaken" if overtaking is None else f"the default training overtakes at epoch {overtaking:.2f}")
        print(f"wrote {options.output}")


def perform(data: DataSet, quiet: bool, training: Training) -> Run:
    """Train and test one network, in a process of its own."""
    torch.manual_seed(training.seed)
    net = Net()
    train = {"default": default_train, "preconditioned": static_preconditioned_train}[training.method]
    losses = train(net, data.training, training.learning_rate, training.epochs, training.seed,
                   report=lambda line: None if quiet else print(f"{training.method:15}{line}\n", end="", flush=True))
    return Run(training, losses, *evaluate(net, data.test))


def print_layers() -> None:
    """Print what the theory says of each layer for standard normal input, and the factors of the preconditioner."""
    print("layer   weight std    bias std  gradient std: weight, bias     factor: weight, bias")
    for name, weight, bias, *gradients in predict(Net()):
        print(f"{name:6}", *(f"{number:11.4f}" for number in (weight, bias, *gradients, *(1 / g for g in gradients))))
    print(flush=True)


def print_summary(default: Run, preconditioned: Run, width: int, steps_per_epoch: int) -> None:
    """Print what came out of both trainings; losses are means over training steps, in nats."""
    def row(name, value):
        print(f"{name:26}{value(default):>12}{value(preconditioned):>16}")

    print()
    row("", lambda run: run.training.method)
    for epoch in 0.1, 1:
        row(f"loss around epoch {epoch}", lambda run: f"{loss_around(run.losses, epoch * steps_per_epoch, width):.3f}")
    row("loss over the last tenth", lambda run: f"{final_loss(run.losses):.3f}")
    row("test loss", lambda run: f"{run.test_loss:.3f}")
    row("test accuracy", lambda run: f"{run.test_accuracy:.1%}")


if __name__ == "__main__":
    with plain_endings("main.py"):
        main()
