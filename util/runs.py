"""Trainings, what comes of them, and how files come into being: whole or not at all."""
from __future__ import annotations

import math
import os
import shutil
from typing import BinaryIO, Callable, NamedTuple

import numpy as np

from util.data import TRAINING_IMAGES
from util.failure import Failure
from util.network import TUTORIAL_DEPTH

DEFAULTS = {"dataset": "cifar10", "images": TRAINING_IMAGES, "epochs": 2, "depth": TUTORIAL_DEPTH, "activation": "relu"}


class Training(NamedTuple):
    """A method by its name, the function that trains by it (see `util.default_train`), and its learning rate."""

    method: str
    train: Callable[..., np.ndarray]
    learning_rate: float

    def __str__(self) -> str:
        return f"{self.method}, learning rate {self.learning_rate}"


class Run(NamedTuple):
    """A finished training: everything that determines it, and its results."""

    method: str
    learning_rate: float
    seed: int
    dataset: str
    images: int
    epochs: int
    depth: int
    activation: str
    losses: np.ndarray  # (steps,) float32: the cross-entropy in nats before each step, up to one that is not finite
    test_loss: float  # in nats
    test_accuracy: float  # from 0 to 1

    @property
    def diverged(self) -> bool:
        """Whether the last training loss, or the test loss, is not finite."""
        return not (math.isfinite(self.losses[-1]) and math.isfinite(self.test_loss))


def save_run(run: Run, folder: str) -> None:
    """Write METHOD=RATE_seed_N.npz, an array for each setting and result, which `numpy.load` reads without pickle.

    The name also tells each setting that is not among the `DEFAULTS`, as in METHOD=RATE_seed_N_depth_10.npz.
    """
    name = f"{run.method}={run.learning_rate}_seed_{run.seed}"
    for setting, default in DEFAULTS.items():
        value = getattr(run, setting)
        if value != default:
            name += f"_{setting}_{value}"
    write_whole(os.path.join(folder, f"{name}.npz"), lambda file: np.savez(file, **run._asdict()))


def write_whole(path: str, write: Callable[[BinaryIO], None]) -> None:
    """Let `write` fill a file beside `path` that then takes its place; after a `Failure`, all is as it was."""
    target = os.path.realpath(path)
    temporary = f"{target}.{os.getpid()}.part"
    try:
        with open(temporary, "wb") as file:
            write(file)
        shutil.move(temporary, target, copy_function=shutil.copyfile)  # copies where a mounted file cannot be replaced
    except OSError as error:
        raise Failure(f"cannot write '{path}': {error.strerror or error}") from error
    finally:
        if os.path.exists(temporary):
            os.unlink(temporary)


def check_writable(path: str) -> None:
    """Find out before the work whether `write_whole` can write a file; a `Failure` tells if not."""
    if os.path.exists(path) and not (os.path.isfile(path) and os.access(path, os.W_OK)):
        raise Failure(f"'{path}' is not a regular file that can be written")
    _check_folder(os.path.dirname(os.path.realpath(path)))


def make_folder(path: str) -> None:
    """Make a folder, unless it is there, into which `write_whole` can write files; a `Failure` or OSError if not."""
    os.makedirs(path, exist_ok=True)
    _check_folder(path)


def _check_folder(path: str) -> None:
    if not (os.path.isdir(path) and os.access(path, os.W_OK)):
        raise Failure(f"'{path}' is no folder that can be written to")
