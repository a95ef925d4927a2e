"""Finished trainings, and how files come into being: whole or not at all."""
import os
import shutil
from typing import BinaryIO, Callable, NamedTuple

import numpy as np

from util.failure import Failure


class Training(NamedTuple):
    """Everything that determines a training."""

    method: str
    learning_rate: float
    seed: int
    dataset: str
    images: int
    epochs: int
    decay: bool = False  # whether the learning rate falls linearly to zero

    def __str__(self) -> str:
        return f"{self.method}{'-decay' if self.decay else ''}={self.learning_rate:g}_seed_{self.seed}"


class Run(NamedTuple):
    """A finished training."""

    training: Training
    losses: np.ndarray  # (steps,) float32: the cross-entropy in nats before each step, up to one that is not finite
    test_loss: float  # in nats
    test_accuracy: float  # from 0 to 1
    scales: np.ndarray = np.empty(0)  # (epochs + 1, 3, tensors) of `util.study.methods.measure_scales`, in the study

    @property
    def diverged(self) -> bool:
        """Whether the last training loss, or the test loss, is not finite."""
        return not np.isfinite([self.losses[-1], self.test_loss]).all()


def save_run(run: Run, folder: str) -> None:
    """Write METHOD=RATE_seed_N.npz, an array for each setting and result, which `numpy.load` reads without pickle."""
    arrays = {**run.training._asdict(), **dict(zip(run._fields[1:], run[1:]))}
    write_whole(os.path.join(folder, f"{run.training}.npz"), lambda file: np.savez(file, **arrays))


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
    folder = os.path.dirname(os.path.realpath(path))
    if os.path.exists(path) and not (os.path.isfile(path) and os.access(path, os.W_OK)):
        raise Failure(f"'{path}' is not a regular file that can be written")
    if not (os.path.isdir(folder) and os.access(folder, os.W_OK)):
        raise Failure(f"cannot write '{path}': '{folder}' is no folder that can be written to")
