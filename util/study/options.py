"""The study's command line."""
from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import Callable

from util.network import TUTORIAL_DEPTH
from util.options import DEFAULTS, RATE, SEED, add_common_options, number
from util.study.methods import METHODS
from util.study.networks import DEEPEST, NAMED, NETWORKS, Network

DEPTH = number(int, TUTORIAL_DEPTH, DEEPEST)


def parse_options() -> argparse.Namespace:
    """Parse this process's command line.

    `methods` is a list of (method, learning rate) without repetitions, `seeds` a range, `networks` a list, and
    `reference` a method with a learning rate or None. Of `epochs`, `images` and `dataset`, those not given are None.
    """
    parser = argparse.ArgumentParser(
        prog="python3 -m util.study", description="Compare methods, learning rates, depths and seeds; see "
        "util/study/README.md. Train what FILE lacks, then report all that it holds. FILE has one --epochs, --images "
        "and --dataset for all trainings; the defaults of these options are for a new one.")
    add = parser.add_argument
    add("file", metavar="FILE", type=Path, help="CSV file of results, a row for each finished training")
    add("methods", nargs="*", type=methods, metavar="METHOD[=RATE[,RATE...]]",
        help=f"what to train, at 0.001 if no learning rate is named: {', '.join(METHODS)}; nothing: only report")
    add("--seeds", type=seeds, default=range(0, 1), metavar="FIRST:END", help="range of seeds, without END "
        "(default: 0:1)")
    add("--decay", action="store_true", help="let the learning rate fall linearly to zero over each training")
    add("--depth", type=depths, dest="depths", metavar="N[,N...]",
        help=f"numbers of weight layers, from {TUTORIAL_DEPTH} to {DEEPEST} (default: {TUTORIAL_DEPTH})")
    add("--network", choices=NETWORKS, help="train another network than the tutorial's (default: the tutorial's)")
    add("--reference", type=reference, metavar="METHOD[=RATE]",
        help="print the differences from this method instead of all tables; without a rate, each at its best one")
    add("--pictures", type=os.path.expanduser, metavar="FOLDER", help="draw the pictures into this folder")
    add("--jobs", type=number(int, 1, 10**6), default=available_cores(), metavar="N",
        help="trainings at a time (default: %(default)s, the cores that this process may use)")
    add_common_options(parser)
    parser.set_defaults(epochs=None, images=None, dataset=None, activation=None)
    options = parser.parse_intermixed_args()
    if options.network and (options.depths or options.activation):
        parser.error("argument --network: --depth and --activation are of the tutorial's network")
    family = options.activation or DEFAULTS["activation"]
    tutorials = [Network(family, depth) for depth in options.depths or [TUTORIAL_DEPTH]]
    options.networks = [Network(NAMED, options.network)] if options.network else tutorials
    pairs = [pair for rates in options.methods for pair in rates]
    options.methods = list(dict.fromkeys(pairs))
    return options


def available_cores() -> int:
    """Return the number of cores that this process may use, where the system tells it."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def methods(text: str) -> list[tuple[str, float]]:
    """Parse METHOD[=RATE[,RATE...]]."""
    method, _, rates = text.partition("=")
    check_method(method)
    return [(method, read(RATE, rate, "learning rate")) for rate in (rates or "0.001").split(",")]


def reference(text: str) -> tuple[str, float | None]:
    """Parse METHOD[=RATE]."""
    method, _, rate = text.partition("=")
    check_method(method)
    return method, read(RATE, rate, "learning rate") if rate else None


def read(parse: Callable[[str], float], text: str, what: str) -> float:
    """Parse a part of an argument; argparse's own error would show the whole of it."""
    try:
        return parse(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"'{text}' is no {what}") from None


def check_method(method: str) -> None:
    """Raise argparse's error for an unknown method."""
    if method not in METHODS:
        raise argparse.ArgumentTypeError(f"there is no method '{method}', only {', '.join(METHODS)}")


def depths(text: str) -> list[int]:
    """Parse N[,N...], without repetitions."""
    return list(dict.fromkeys(read(DEPTH, depth, "number of layers") for depth in text.split(",")))


def seeds(text: str) -> range:
    """Parse FIRST:END."""
    first, colon, end = text.partition(":")
    if not colon:
        raise argparse.ArgumentTypeError(f"'{text}' is no range FIRST:END")
    start, stop = read(SEED, first, "seed"), read(number(int, 0, 2**32), end, "seed")
    if stop <= start:
        raise argparse.ArgumentTypeError(f"the range {text} is empty")
    return range(start, stop)
