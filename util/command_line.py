"""The command line."""
from __future__ import annotations

import argparse
import math
from typing import Callable, Collection

from util.comparison import Contender
from util.data import TRAINING_IMAGES
from util.parallel import available_cores
from util.program import UsageError, say
from util.training import MINIBATCH

LEARNING_RATE = 0.001  # per minibatch, as in the tutorial


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> None:
        raise UsageError(f"{message} (see --help)")

    def print_help(self, file: object = None) -> None:
        say(self.format_help().rstrip())


def parse_arguments(methods: Collection[str]) -> argparse.Namespace:
    """Parse this process's command line.

    Args:
        methods: the names that it may use.

    Returns:
        The options by their names, with `contenders`, a list of `Contender`, and the width of the smoothing filled in.

    Raises:
        UsageError: if it is not understood, or the run that it asks for is impossible.
    """
    parser = _Parser(prog="main.py", description="Train the network of PyTorch's CIFAR-10 tutorial twice, by default "
                     "and with preconditioned gradients, and plot both loss curves.")
    add, positive_int = parser.add_argument, _number(int, 1, 10**9)
    add("contenders", nargs="*", metavar="METHOD[=RATE[,RATE...]]", type=_contenders(methods),
        help=f"what to compare: {', '.join(methods)}; each with one learning rate or several to choose the best from "
             f"(default: default={LEARNING_RATE} preconditioned={LEARNING_RATE})")
    add("-e", "--epochs", type=positive_int, default=2, metavar="N",
        help="passes through the training images (default: %(default)s)")
    add("-s", "--smoothing", type=positive_int, metavar="N",
        help="width of the Gaussian smoothing kernel in steps, +-3 sigma (default: 4 %% of the run's steps, which is "
             "1000 for 2 epochs of all images)")
    add("-q", "--quiet", action="store_true",
        help="print nothing but warnings on success (default: print progress and results, too)")
    add("--decay", action="store_true",
        help="let every learning rate fall linearly to zero over the run (default: keep it constant)")
    add("--seed", type=_number(int, 0, 2**32 - 1), default=0, metavar="N",
        help="seed of the parameters and of the minibatches' order (default: %(default)s)")
    add("--seeds", type=positive_int, default=1, metavar="N",
        help="repeat every training with N seeds, from --seed on (default: %(default)s)")
    add("--input-moments", choices=["standard", "images"], default="standard",
        help="what the theory assumes of the input: independent standard normals, or the moments that the training "
             "images have (default: %(default)s)")
    add("--dataset", choices=["auto", "cifar10", "synthetic"], default="auto",
        help="auto: CIFAR-10, or synthetic data if it cannot be had (default: %(default)s)")
    add("--data-dir", default="data", metavar="DIR",
        help="folder where CIFAR-10 is, or is downloaded to (default: %(default)s)")
    add("--images", type=_number(int, MINIBATCH, TRAINING_IMAGES), default=TRAINING_IMAGES, metavar="N",
        help="train on the first N images only, for a quick look (default: all %(default)s)")
    add("--jobs", type=positive_int, default=available_cores(), metavar="N",
        help="trainings at a time (default: the number of available cores, here %(default)s)")
    add("-o", "--output", default="loss.png", metavar="FILE",
        help="the figure, in the format that the name's ending says (default: %(default)s)")
    add("--save-losses", metavar="FILE.npz", help="save every loss of every training, too (default: save none)")
    arguments = parser.parse_intermixed_args()

    arguments.contenders = ([contender for several in arguments.contenders for contender in several]
                            or [Contender("default", LEARNING_RATE), Contender("preconditioned", LEARNING_RATE)])
    names = [str(contender) for contender in arguments.contenders]  # in which learning rates have six digits
    for name in names:
        if names.count(name) > 1:
            raise UsageError(f"argument METHOD: {name} is named twice")
    steps = arguments.epochs * (arguments.images // MINIBATCH)
    arguments.smoothing = arguments.smoothing or max(1, steps // 25)
    if arguments.smoothing > steps:
        raise UsageError(f"argument -s/--smoothing: {arguments.smoothing} is wider than the run, "
                         f"which has {steps} steps")
    return arguments


def _contenders(methods: Collection[str]) -> Callable[[str], list[Contender]]:
    """Return a parser of METHOD[=RATE[,RATE...]]."""
    rate = _number(float, 1e-30, 1e30)  # well within single precision

    def parse(text: str) -> list[Contender]:
        method, equals, rates = text.partition("=")
        if method not in methods:
            raise argparse.ArgumentTypeError(f"there is no method '{method}', only {', '.join(methods)}")
        if not equals:
            return [Contender(method, LEARNING_RATE)]
        return [Contender(method, rate(text)) for text in rates.split(",")]
    return parse


def _number(kind: type, lowest: float, highest: float) -> Callable[[str], float]:
    """Return a parser of numbers in a range."""
    def parse(text: str) -> float:
        try:
            value = kind(text)
        except ValueError:
            value = math.nan
        if not lowest <= value <= highest:
            name = "whole number" if kind is int else "number"
            raise argparse.ArgumentTypeError(f"'{text[:20]}' is not a {name} from {lowest} to {highest}")
        return value
    return parse
