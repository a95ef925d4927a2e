"""Train the network of PyTorch's CIFAR-10 tutorial twice, by default and preconditioned, and plot both loss curves.

    python3 main.py            # writes loss.png; --help lists the options
"""
from __future__ import annotations

import os
import signal
import sys
from argparse import Namespace

from util.arguments import parse_arguments
from util.errors import Failure, UsageError
from util.parallel import available_cores, run_parallel


def demonstrate(arguments: Namespace) -> None:
    """Tell the whole story: data -> network -> statistics -> training -> plot."""
    # Not at the top: worker processes import this file too, but need neither scipy nor matplotlib.
    import numpy as np

    from util.archive import pack
    from util.curves import overtaking_epoch
    from util.data import find
    from util.default_train import LEARNING_RATE
    from util.experiment import DEFAULT, INITIALIZED, PRECONDITIONED, Experiment, perform
    from util.files import whole_file
    from util.network import Net
    from util.plot import draw, figure_format
    from util.signal_propagation import predict
    from util.summary import drift_table, preconditioner_table, result_table

    signal.signal(signal.SIGINT, signal.default_int_handler)

    def say(text: str) -> None:
        if not arguments.quiet:
            print(text, flush=True)

    images, steps_per_epoch, smoothing = plan(arguments)
    source, warning = find(arguments.dataset, arguments.data_dir, arguments.quiet)
    if warning:
        print(f"main.py: warning: {warning}", file=sys.stderr, flush=True)

    statistics = predict(Net())
    say(f"{preconditioner_table(statistics)}\n")

    rates = {DEFAULT: LEARNING_RATE, PRECONDITIONED: arguments.preconditioned_lr}
    if arguments.ablation:
        rates[INITIALIZED] = arguments.preconditioned_lr
    seeds = range(arguments.seed, arguments.seed + arguments.seeds)
    experiments = [
        Experiment(method, seed, rate, arguments.epochs, source, arguments.data_dir, images, statistics,
                   name=method.ljust(max(map(len, rates))) + (f"  seed {seed}" if len(seeds) > 1 else ""),
                   quiet=arguments.quiet)
        for seed in seeds for method, rate in rates.items()]
    results = run_parallel(perform, experiments, arguments.jobs)

    by_method = {method: [result for result in results if result.method == method] for method in rates}
    losses = {method: np.stack([result.run.losses for result in by_method[method]]) for method in rates}
    overtaking = {method: [overtaking_epoch(default, other, smoothing, steps_per_epoch)
                           for default, other in zip(losses[DEFAULT], losses[method])]
                  for method in rates if method != DEFAULT}
    say(f"\n{result_table(by_method, overtaking)}\n\npreconditioned:\n{drift_table(by_method[PRECONDITIONED])}\n")

    title = "CIFAR-10" if source == "cifar10" else "synthetic stand-in, not CIFAR-10"
    title += (f", seed {seeds[0]}" if len(seeds) == 1 else
              f", seeds {seeds[0]} to {seeds[-1]} (line: mean; band: ± one standard deviation)")
    figure = draw({f"{method}, learning rate {rate:g}": losses[method] for method, rate in rates.items()},
                  title, smoothing, steps_per_epoch)
    with whole_file(arguments.output) as file:
        figure.savefig(file, format=figure_format(arguments.output))
    say(f"wrote {arguments.output}")
    if arguments.save_losses:
        with whole_file(arguments.save_losses) as file:
            np.savez(file, **pack(experiments, results))
        say(f"wrote {arguments.save_losses}")


def plan(arguments: Namespace) -> tuple[int, int, int]:
    """Return the numbers of training images, steps an epoch, and steps to smooth over.

    Raises:
        UsageError: if the run that the arguments ask for is impossible, or its results could not be written.
    """
    from util.data import TRAINING_IMAGES
    from util.files import check_writable
    from util.plot import figure_format
    from util.training import MINIBATCH

    figure_format(arguments.output)
    check_writable("-o/--output", arguments.output)
    if arguments.save_losses:
        check_writable("--save-losses", arguments.save_losses)
        if os.path.realpath(arguments.save_losses) == os.path.realpath(arguments.output):
            raise UsageError(f"argument --save-losses: '{arguments.save_losses}' is the figure's file")
    images = arguments.images or TRAINING_IMAGES
    if not MINIBATCH <= images <= TRAINING_IMAGES:
        raise UsageError(f"argument --images: {images} is not from {MINIBATCH} (one minibatch) "
                         f"to {TRAINING_IMAGES} (all images)")
    steps_per_epoch = images // MINIBATCH
    steps = arguments.epochs * steps_per_epoch
    smoothing = arguments.smoothing or max(1, steps // 25)
    if smoothing > steps:
        raise UsageError(f"argument -s/--smoothing: {smoothing} is wider than the run, which has {steps} steps")
    return images, steps_per_epoch, smoothing


def main() -> int:
    """Run the demo; return its exit code: 0, or 1 after a failure, 2 after wrong usage, 130 after Ctrl-C."""
    signal.signal(signal.SIGINT, end_at_once)
    try:
        demonstrate(parse_arguments(cores=available_cores()))
        return 0
    except Failure as failure:
        problem, exit_code = str(failure), failure.exit_code
    except (OSError, MemoryError) as error:
        problem, exit_code = f"{type(error).__name__}: {error}", 1
    except KeyboardInterrupt:
        problem, exit_code = "interrupted", 130
    print(f"main.py: error: {problem}", file=sys.stderr)
    return exit_code


def end_at_once(*_: object) -> None:
    """End on an interrupt in the middle of an import, which an exception would leave in an odd state."""
    os.write(2, b"main.py: error: interrupted\n")
    os._exit(130)


if __name__ == "__main__":
    sys.exit(main())
