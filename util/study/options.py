"""The study's command line."""
from __future__ import annotations

import argparse
import os
from pathlib import Path

import torch

from util.network import TUTORIAL_DEPTH
from util.options import DEFAULTS, LIMITS, RATE, add_common_options, number
from util.study.methods import METHODS
from util.study.networks import DEEPEST, NAMED, NETWORKS, Network

DEPTH = number(int, TUTORIAL_DEPTH, DEEPEST)


def parse_options() -> argparse.Namespace:
    """Parse this process's command line.

    `methods` is a list of (method, learning rate), `seeds` a range, `networks` a list, and `reference` a method with
    its learning rates, or None. If not given, `epochs` and `images` are None, and `dataset` is "auto".
    """
    parser = argparse.ArgumentParser(
        prog="python3 -m util.study", description="Compare methods, learning rates, depths and seeds; see "
        "util/study/README.md. Train what FILE lacks, then report all that it holds. FILE has one --epochs, --images "
        "and --dataset for all trainings; the defaults of these options are for a new one.")
    add = parser.add_argument
    add("file", metavar="FILE", type=Path, help="CSV file of results, a row for each finished training")
    add("methods", nargs="*", type=method, metavar="METHOD[=RATE[,RATE...]]",
        help=f"what to train, at 0.001 if no learning rate is named: {', '.join(METHODS)}; nothing: only report")
    add("--seeds", type=seeds, default=range(0, 1), metavar="FIRST:END", help="range of seeds, without END "
        "(default: 0:1)")
    add("--decay", action="store_true", help="let the learning rate fall linearly to zero over each training")
    add("--depth", type=depths, dest="depths", metavar="N[,N...]",
        help=f"numbers of weight layers, from {TUTORIAL_DEPTH} to {DEEPEST} (default: {TUTORIAL_DEPTH})")
    add("--network", choices=NETWORKS, help="train another network than the tutorial's (default: the tutorial's)")
    add("--reference", type=method, metavar="METHOD[=RATE[,RATE...]]",
        help="print the differences from this method instead of all tables; without a rate, each at its best one")
    add("--pictures", type=os.path.expanduser, metavar="FOLDER", help="draw the pictures into this folder")
    add("--jobs", type=number(int, 1, 10**6), default=torch.get_num_threads(), metavar="N",
        help="trainings at a time (default: %(default)s, as many as PyTorch would use threads)")
    add_common_options(parser)
    parser.set_defaults(epochs=None, images=None, activation=None)
    options = parser.parse_intermixed_args()
    if options.network and (options.depths or options.activation):
        parser.error("argument --network: --depth and --activation are of the tutorial's network")
    family = options.activation or DEFAULTS["activation"]
    tutorials = [Network(family, depth) for depth in options.depths or [TUTORIAL_DEPTH]]
    options.networks = [Network(NAMED, options.network)] if options.network else tutorials
    options.methods = [(name, rate) for name, rates in options.methods for rate in rates or [0.001]]
    return options


def method(text: str) -> tuple[str, list[float]]:
    """Parse METHOD[=RATE[,RATE...]]."""
    name, _, rates = text.partition("=")
    if name not in METHODS:
        raise argparse.ArgumentTypeError(f"there is no method '{name}', only {', '.join(METHODS)}")
    return name, list(map(RATE, rates.split(","))) if rates else []


def depths(text: str) -> list[int]:
    """Parse N[,N...]."""
    return list(map(DEPTH, text.split(",")))


def seeds(text: str) -> range:
    """Parse FIRST:END."""
    first, end = map(int, text.split(":"))
    lowest, highest = LIMITS["seed"]
    if not lowest <= first < end <= highest + 1:
        raise argparse.ArgumentTypeError(f"'{text}' is no range of seeds from {lowest} to {highest}")
    return range(first, end)
