"""The study's command line."""
from __future__ import annotations

import argparse
import os

from util.options import common_options, number
from util.study.methods import METHODS


def parse_options() -> argparse.Namespace:
    """Parse this process's command line; `methods` is a list of (method, learning rate), `seeds` a range."""
    parser = common_options("Compare methods, learning rates and seeds; see util/study/README.md.")
    parser.prog = "python3 -m util.study"
    add = parser.add_argument
    add("folder", metavar="FOLDER", help="of the trainings' files, of which those that it holds are not trained again")
    add("methods", nargs="*", type=_method, metavar="METHOD[=RATE[,RATE...]]",
        help=f"what to train, at 0.001 if no learning rate is named: {', '.join(METHODS)}; nothing: only report")
    add("--seeds", type=_seeds, default="0:1", metavar="FIRST:END", help="range of seeds, without END")
    add("--decay", action="store_true", help="let the learning rate fall linearly to zero over each training")
    add("--jobs", type=number(int, 1, 10**6), default=available_cores(), metavar="N", help="trainings at a time")
    add("--reference", default="default", metavar="METHOD[=RATE]", help="what to subtract; METHOD: at its best rate",
        type=lambda text: "{}={:g}".format(*_method(text)[0]) if "=" in text else _method(text)[0][0])
    options = parser.parse_intermixed_args()
    options.methods = list(dict.fromkeys(pair for pairs in options.methods for pair in pairs))
    return options


def available_cores() -> int:
    """Return the number of cores that this process may use, where the system tells it."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _method(text: str) -> list[tuple[str, float]]:
    method, _, rates = text.partition("=")
    if method not in METHODS:
        raise argparse.ArgumentTypeError(f"there is no method '{method}', only {', '.join(METHODS)}")
    return [(method, number(float, 1e-30, 1e30)(rate)) for rate in (rates or "0.001").split(",")]


def _seeds(text: str) -> range:
    first, _, end = text.partition(":")
    seeds = range(number(int, 0, 2**32 - 1)(first), number(int, 0, 2**32)(end))
    if not seeds:
        raise argparse.ArgumentTypeError(f"the range {text} is empty")
    return seeds
