"""The study's file of results: CSV, a row for each finished training, to which rows are only ever appended."""
from __future__ import annotations

import csv
import io
import math
import os
import tempfile
from pathlib import Path
from typing import NamedTuple

import numpy as np

from util.curves import final_loss
from util.failure import Failure
from util.network import TUTORIAL_DEPTH
from util.study.methods import METHODS
from util.training import MINIBATCH

PARTS = 200  # of a training, over each of which its losses are averaged
DEEPEST = 400  # weight layers; in much deeper networks, no float holds what the theory says of PyTorch's initialization
DIVERGED = 10.0  # nats over the last tenth of a training, from which on it counts as diverged


class Contender(NamedTuple):
    """A method at a learning rate, constant or decaying, and a depth; it has a training for each seed."""

    method: str
    decay: bool
    depth: int
    learning_rate: float

    @property
    def group(self) -> tuple[str, bool, int]:
        """All contenders of a group differ in nothing but their learning rates."""
        return self.method, self.decay, self.depth

    @property
    def setting(self) -> tuple[bool, int]:
        """Contenders of the same setting are compared."""
        return self.decay, self.depth

    def __str__(self) -> str:
        schedule = "-decay" if self.decay else ""
        return f"{self.method}{schedule}={self.learning_rate!r}"


class Training(NamedTuple):
    """Everything that determines a training."""

    method: str
    learning_rate: float
    decay: bool  # whether the learning rate falls linearly to zero
    depth: int  # weight layers
    seed: int
    dataset: str
    images: int
    epochs: int

    @property
    def contender(self) -> Contender:
        """What it is a training of, whatever its seed."""
        return Contender(self.method, self.decay, self.depth, self.learning_rate)

    @property
    def steps(self) -> int:
        """Number of minibatches, in all epochs."""
        return self.epochs * (self.images // MINIBATCH)

    def __str__(self) -> str:
        return f"{self.contender}, depth {self.depth}, seed {self.seed}"


class Run(NamedTuple):
    """A finished training: a row of the file."""

    training: Training
    torch: str  # version
    test_loss: float  # in nats
    test_accuracy: float  # from 0 to 1
    losses: tuple[float, ...]  # in nats, means over equal parts of the training, in five digits
    # Last over first, of each layer; nothing if it was not measured.
    weight_growth: tuple[float, ...] = ()
    measured_gradient_growth: tuple[float, ...] = ()
    predicted_gradient_growth: tuple[float, ...] = ()

    @property
    def diverged(self) -> bool:
        """Whether a loss is not finite, or the last tenth of the training lies too high."""
        finite = np.isfinite([*self.losses, self.test_loss]).all()
        return not finite or final_loss(np.array(self.losses)) > DIVERGED


COLUMNS = (*Training._fields, *Run._fields[1:])
FLAGS = {"False": False, "True": True}


def reduce_losses(losses: np.ndarray, steps: int) -> tuple[float, ...]:
    """Average (steps or fewer,) losses over each part of the training; what a diverged training lacks is NaN."""
    whole = np.full(steps, np.nan)
    whole[:len(losses)] = losses
    parts = np.array_split(whole, min(PARTS, steps))
    return rounded([part.mean() for part in parts])


def rounded(numbers: list[float]) -> tuple[float, ...]:
    """Round to five significant digits, which is what a row keeps."""
    return tuple(float(f"{number:.5g}") for number in numbers)


def write_row(run: Run) -> str:
    """Return a run as a line of the file."""
    cells = [*run.training, *run[1:4]]
    cells += [" ".join(map(repr, numbers)) for numbers in run[4:]]
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerow(cells)
    return text.getvalue()


def read_row(cells: list[str]) -> Run:
    """Return the run of a row; a ValueError says what is wrong."""
    if len(cells) != len(COLUMNS):
        raise ValueError(f"{len(cells)} columns instead of {len(COLUMNS)}")
    row = dict(zip(COLUMNS, cells))
    if row["method"] not in METHODS:
        raise ValueError(f"there is no method '{row['method']}'")
    if row["decay"] not in FLAGS:
        raise ValueError(f"decay is '{row['decay']}', neither True nor False")
    training = Training(
        method=row["method"],
        learning_rate=float(row["learning_rate"]),
        decay=FLAGS[row["decay"]],
        depth=int(row["depth"]),
        seed=int(row["seed"]),
        dataset=row["dataset"],
        images=int(row["images"]),
        epochs=int(row["epochs"]),
    )
    losses, *growths = (tuple(map(float, row[name].split())) for name in COLUMNS[-4:])
    run = Run(training, row["torch"], float(row["test_loss"]), float(row["test_accuracy"]), losses, *growths)
    _check_row(run)
    return run


def _check_row(run: Run) -> None:
    training = run.training
    if not TUTORIAL_DEPTH <= training.depth <= DEEPEST:
        raise ValueError(f"depth is {training.depth}, not from {TUTORIAL_DEPTH} to {DEEPEST}")
    if not 0 < training.learning_rate < math.inf:
        raise ValueError(f"learning_rate is {training.learning_rate}")
    if training.seed < 0 or training.images < MINIBATCH or training.epochs < 1:
        raise ValueError("seed, images or epochs are too small")
    if not 0 <= run.test_accuracy <= 1:
        raise ValueError(f"test_accuracy is {run.test_accuracy}, not from 0 to 1")
    parts = min(PARTS, training.steps)
    if len(run.losses) != parts:
        raise ValueError(f"there are {len(run.losses)} losses instead of {parts}")
    growths = {len(growth) for growth in run[-3:]}
    if growths not in ({0}, {TUTORIAL_DEPTH}):
        raise ValueError(f"growths are not of {TUTORIAL_DEPTH} layers")


def read_runs(path: Path) -> list[Run]:
    """Read all runs of a file, none if there is no file; of a training that stands there twice, the first.

    The header may stand there more than once, since `cat` joins files with their headers.

    Raises:
        Failure: names the first line that cannot be read, or whose data set, images or epochs are not the first row's.
    """
    if not path.exists():
        return []
    text = path.read_text(encoding="utf-8", errors="replace")  # then no row can be read that is none
    lines = text.split("\n")
    if lines.pop():
        raise Failure(f"{path}:{len(lines) + 1}: the last line is not finished")
    header = ",".join(COLUMNS)
    if lines[:1] != [header]:
        raise Failure(f"{path}:1: the header is not '{header}'")
    runs = {}
    first = None
    for number, line in enumerate(lines, start=1):
        if line == header:
            continue
        try:
            run = read_row(next(csv.reader([line])))
        except (ValueError, StopIteration, csv.Error) as error:
            raise Failure(f"{path}:{number}: this row cannot be read ({error})") from error
        first = first or run.training
        check_settings(f"{path}:{number}", run.training, first.dataset, first.images, first.epochs)
        runs.setdefault(run.training, run)
    return list(runs.values())


def check_settings(place: str, training: Training, dataset: str, images: int, epochs: int) -> None:
    """Raise a `Failure` unless a training of the file has these settings."""
    for name, value in (("dataset", dataset), ("images", images), ("epochs", epochs)):
        found = getattr(training, name)
        if found != value:
            raise Failure(f"{place}: {name} is {found}, not {value}")


def create(path: Path) -> None:
    """Make a file with nothing but its header, whole or not at all, unless there is one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile("w", dir=path.parent, encoding="utf-8") as file:
        file.write(",".join(COLUMNS) + "\n")
        file.flush()
        os.chmod(file.name, 0o644)
        try:
            os.link(file.name, path)
        except FileExistsError:
            pass


def append(run: Run, path: Path) -> None:
    """Append a row in one write, so that several studies may do so at once."""
    row = write_row(run).encode()
    with open(path, "ab", buffering=0) as file:
        if file.write(row) != len(row):
            raise Failure(f"cannot append a whole row to '{path}'")
