"""The command line of the demo, and the options that the study has as well."""
import argparse
import os
from typing import Callable

from util.data import TRAINING_IMAGES
from util.network import ACTIVATIONS, TUTORIAL_DEPTH
from util.training import MINIBATCH

DEFAULTS = {"dataset": "cifar10", "images": TRAINING_IMAGES, "epochs": 2, "depth": TUTORIAL_DEPTH, "activation": "relu"}
LIMITS = {"learning_rate": (1e-30, 1e30), "seed": (0, 2**32 - 1), "epochs": (1, 10**6)}  # lowest and highest


def number(kind: type, lowest: float, highest: float) -> Callable[[str], float]:
    """Return a parser of numbers in a range, for argparse."""
    def parse(text: str) -> float:
        if not lowest <= kind(text) <= highest:
            raise argparse.ArgumentTypeError(f"{text} is not from {lowest} to {highest}")
        return kind(text)
    parse.__name__ = kind.__name__  # which argparse names where `kind` raises a ValueError
    return parse


def folder(text: str) -> str:
    """Parse the path of a folder that exists or can be made."""
    path = os.path.expanduser(text)
    if not path or os.path.exists(path) and not os.path.isdir(path):
        raise argparse.ArgumentTypeError(f"'{path}' is not a folder")
    return path


RATE = number(float, *LIMITS["learning_rate"])
SEED = number(int, *LIMITS["seed"])


def add_common_options(parser: argparse.ArgumentParser) -> None:
    """Add the options that the demo and the study have in common: what is trained on, how long, and the activation."""
    add = parser.add_argument
    add("-e", "--epochs", type=number(int, *LIMITS["epochs"]), default=DEFAULTS["epochs"], metavar="N",
        help=f"passes through the training images (default: {DEFAULTS['epochs']})")
    two_steps = 2 * MINIBATCH  # since one would draw no line
    add("--images", type=number(int, two_steps, TRAINING_IMAGES), default=DEFAULTS["images"], metavar="N",
        help=f"train on the first N images only, for a quick look (default: {DEFAULTS['images']})")
    add("--dataset", choices=["auto", "cifar10", "synthetic"], default="auto",
        help="auto: CIFAR-10, or synthetic data if it cannot be had (default: auto)")
    add("--data-dir", type=folder, default="data", metavar="DIR",
        help="where CIFAR-10 is, or is downloaded to (default: %(default)s)")
    add("--activation", choices=ACTIVATIONS, default=DEFAULTS["activation"],
        help=f"after all weight layers but the last (default: {DEFAULTS['activation']})")


def parse_options() -> argparse.Namespace:
    """Parse this process's command line; wrong usage ends it with exit code 2."""
    parser = argparse.ArgumentParser(
        description="Train the network of PyTorch's CIFAR-10 tutorial by default and preconditioned.")
    add_common_options(parser)
    add = parser.add_argument
    add("-s", "--smoothing", type=number(int, 1, 10**6), metavar="N",
        help="width in steps: of Gaussian smoothing, +-3 sigma; of means around an epoch (default: 4 %% of the run)")
    add("-q", "--quiet", action="store_true", help="print nothing but warnings, and what torchvision says of the files")
    add("--depth", type=number(int, TUTORIAL_DEPTH, 1000), default=DEFAULTS["depth"], metavar="N",
        help="weight layers; more than the tutorial's %(default)s add Linear(84, 84) (default: %(default)s)")
    add("--default-lr", type=RATE, default=0.001, metavar="RATE",
        help="learning rate of the default training (default: %(default)s)")
    add("--preconditioned-lr", type=RATE, default=0.001, metavar="RATE",
        help="learning rate of the preconditioned training (default: %(default)s)")
    add("--initialization-only", type=RATE, metavar="RATE",
        help="train a third time at this learning rate, with the preconditioned training's initialization and plain "
        "gradients")
    add("--seed", type=SEED, default=0, metavar="N",
        help="of the initialization and of the order of the images (default: %(default)s)")
    add("-o", "--output", type=os.path.expanduser, default="loss.png", metavar="FILE",
        help="the figure, in the format of its extension (default: %(default)s)")
    add("--save", type=folder, metavar="FOLDER",
        help="also save all losses and results there, a file for each training")

    options = parser.parse_args()
    steps = options.epochs * (options.images // MINIBATCH)
    if options.smoothing and options.smoothing > steps:
        parser.error(f"argument -s/--smoothing: {options.smoothing} steps are more than the run's {steps}")
    return options
