"""The command line."""
from __future__ import annotations

import argparse
import math

from util.errors import UsageError


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> None:
        raise UsageError(f"{message} (see --help)")


def parse_arguments(cores: int) -> argparse.Namespace:
    """Parse this process's command line.

    Args:
        cores: the default of --jobs.

    Raises:
        UsageError: if it is not understood.
    """
    parser = _Parser(prog="main.py", description="Train the network of PyTorch's CIFAR-10 tutorial twice, by default "
                     "and with preconditioned gradients, and plot both loss curves.")
    add = parser.add_argument
    add("-e", "--epochs", type=_positive_int, default=2, metavar="N",
        help="passes through the training images (default: %(default)s)")
    add("-s", "--smoothing", type=_positive_int, metavar="N",
        help="width of the Gaussian smoothing kernel in steps, +-3 sigma (default: 4 %% of the run's steps, which is "
             "1000 for 2 epochs of all images)")
    add("-q", "--quiet", action="store_true", help="print nothing on success (default: print progress and results)")
    add("--seed", type=_seed, default=0, metavar="N",
        help="seed of the parameters and of the minibatches' order (default: %(default)s)")
    add("--seeds", type=_positive_int, default=1, metavar="N",
        help="repeat every training with N seeds, from --seed on (default: %(default)s)")
    add("--ablation", action="store_true",
        help="add a third training: the preconditioned one's initialization and learning rate, but no preconditioner "
             "(default: leave it out)")
    add("--preconditioned-lr", type=_positive_float, default=0.001, metavar="X",
        help="learning rate of the preconditioned training (default: %(default)s)")
    add("--dataset", choices=["auto", "cifar10", "synthetic"], default="auto",
        help="auto: CIFAR-10, or a synthetic stand-in if it cannot be had (default: %(default)s)")
    add("--data-dir", default="data", metavar="DIR",
        help="folder where CIFAR-10 is, or is downloaded to (default: %(default)s)")
    add("--images", type=_positive_int, metavar="N",
        help="train on the first N images only, for a quick look (default: all 50000)")
    add("--jobs", type=_positive_int, default=cores, metavar="N",
        help="trainings at a time (default: the number of available cores, here %(default)s)")
    add("-o", "--output", default="loss.png", metavar="FILE",
        help="the figure, in the format that the name's ending says (default: %(default)s)")
    add("--save-losses", metavar="FILE.npz", help="save every loss of every training, too (default: save none)")
    return parser.parse_args()


def _positive_int(text: str) -> int:
    if not text.isdecimal() or int(text) == 0:
        raise argparse.ArgumentTypeError(f"'{text}' is not a whole number from 1 on")
    return int(text)


def _seed(text: str) -> int:
    if not text.isdecimal() or int(text) >= 2**32:
        raise argparse.ArgumentTypeError(f"'{text}' is not a whole number from 0 to 2^32 - 1")
    return int(text)


def _positive_float(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 < value < math.inf:
        raise argparse.ArgumentTypeError(f"'{text}' is not a positive, finite number")
    return value
