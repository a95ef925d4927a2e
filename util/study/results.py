"""The study's file of results: CSV, a row for each finished trial, to which rows are only ever appended."""
from __future__ import annotations

import csv
import fcntl
import io
import os
from argparse import Namespace
from pathlib import Path
from typing import Any, Callable, Iterable, NamedTuple, Tuple

import numpy as np

from util.curves import final_loss
from util.data import TRAINING_IMAGES
from util.failure import Failure
from util.network import TUTORIAL_DEPTH
from util.options import LIMITS
from util.study.methods import METHODS
from util.study.networks import Network, read_network
from util.training import MINIBATCH

PARTS = 200  # of a training, over each of which its losses are averaged
DIVERGED = 10.0  # nats over the last tenth of a training, from which on it counts as diverged
GROWTHS = ("weight_growth", "measured_gradient_growth", "predicted_gradient_growth")  # last over first
Sweep = Tuple[str, Network, bool]  # method, network, decay: all but the learning rate
SCHEDULES = {False: "constant learning rate", True: "decaying learning rate"}


class Configuration(NamedTuple):
    """A method at a learning rate, in some network and with some schedule; it has a trial for each seed."""

    method: str
    network: Network
    decay: bool  # whether the learning rate falls linearly to zero
    learning_rate: float

    @property
    def sweep(self) -> Sweep:
        """What it has in common with the same method at other learning rates."""
        return self[:3]

    @property
    def initialization(self) -> str:
        """The name of its method's initialization."""
        return METHODS[self.method].initialization

    def __str__(self) -> str:
        schedule = "-decay" if self.decay else ""
        return f"{self.method}{self.network.suffix}{schedule}={self.learning_rate!r}"


class Trial(NamedTuple):
    """Everything that determines a training of the study."""

    method: str
    learning_rate: float
    decay: bool
    network: Network
    seed: int
    dataset: str
    images: int
    epochs: int

    @property
    def configuration(self) -> Configuration:
        """What it is a trial of, whatever its seed."""
        return Configuration(self.method, self.network, self.decay, self.learning_rate)

    @property
    def steps(self) -> int:
        """Number of minibatches, in all epochs."""
        return self.epochs * (self.images // MINIBATCH)

    def __str__(self) -> str:
        return f"{self.configuration}, {self.network}, seed {self.seed}"


class TrialResult(NamedTuple):
    """A finished trial: a row of the file."""

    trial: Trial
    torch: str  # version
    test_loss: float  # in nats
    test_accuracy: float  # from 0 to 1
    losses: tuple[float, ...]  # in nats, means over equal parts of the training, in five digits
    growths: tuple[tuple[float, ...], ...] = ((), (), ())  # `GROWTHS`, of each layer; nothing if not measured

    @property
    def final_loss(self) -> float:
        """The mean training loss over the last tenth of the training, in nats."""
        return final_loss(np.array(self.losses))

    @property
    def diverged(self) -> bool:
        """Whether a loss is not finite, or the final loss is too high."""
        finite = np.isfinite([*self.losses, self.test_loss]).all()
        return not finite or self.final_loss > DIVERGED

    def __str__(self) -> str:
        training = f"training loss {self.final_loss:.3f}"
        return f"{training}, test loss {self.test_loss:.3f}, accuracy {self.test_accuracy:.1%}"


def reduce_losses(losses: np.ndarray, steps: int) -> tuple[float, ...]:
    """Average (steps or fewer,) losses over each part of the training; what a diverged training lacks is NaN."""
    whole = np.full(steps, np.nan)
    whole[:len(losses)] = losses
    parts = np.array_split(whole, min(PARTS, steps))
    return rounded([part.mean() for part in parts])


def rounded(numbers: Iterable[float]) -> tuple[float, ...]:
    """Round to five significant digits, which is what a row keeps."""
    return tuple(float(f"{number:.5g}") for number in numbers)


def numbers(text: str) -> tuple[float, ...]:
    """Parse a cell that holds numbers with spaces between them."""
    return tuple(map(float, text.split()))


PARSERS: dict[str, Callable[[str], Any]] = {  # of the cells of each column
    "method": str,
    "learning_rate": float,
    "decay": str.upper,  # as spreadsheets write it
    "depth": str,
    "seed": int,
    "dataset": str,
    "images": int,
    "epochs": int,
    "activation": str,
    "network": str,
    "torch": str,
    "test_loss": float,
    "test_accuracy": float,
    "losses": numbers,
    **dict.fromkeys(GROWTHS, numbers),
}
COLUMNS = list(PARSERS)
CHOICES = {"method": METHODS, "dataset": ("cifar10", "synthetic"), "decay": ("FALSE", "TRUE")}
ROW_LIMITS = {**LIMITS, "images": (MINIBATCH, TRAINING_IMAGES), "test_accuracy": (0, 1)}  # lowest and highest
SETTINGS = ("dataset", "images", "epochs")  # which all rows of a file have in common


def write_row(result: TrialResult) -> str:
    """Return a result as a line of a file."""
    trial = result.trial
    cells = {**trial._asdict(), **trial.network.cells(), **result._asdict(), **dict(zip(GROWTHS, result.growths))}
    return ",".join(write_cell(cells[name]) for name in COLUMNS) + "\n"


def write_cell(value: object) -> str:
    """Return a value as a cell; spaces stand between several numbers."""
    return " ".join(map(str, value)) if isinstance(value, tuple) else str(value)


def read_row(row: dict[str, str]) -> TrialResult:
    """Return the result of a row, whose cells are named by the header; a ValueError says what is wrong."""
    if None in row or None in row.values():  # so says `csv.DictReader`
        raise ValueError("it has not as many columns as the header")
    values = {name: PARSERS[name](text) for name, text in row.items()}
    for name, known in CHOICES.items():
        if values[name] not in known:
            raise ValueError(f"{name} '{values[name]}' is none of {', '.join(known)}")
    for name, (lowest, highest) in ROW_LIMITS.items():
        if not lowest <= values[name] <= highest:
            raise ValueError(f"{name} is {values[name]}, not from {lowest} to {highest}")
    values["decay"] = values["decay"] == "TRUE"
    values["network"] = read_network(values.pop("depth"), values.pop("activation"), values["network"])
    trial = Trial(**{name: values.pop(name) for name in Trial._fields})
    growths = tuple(values.pop(name) for name in GROWTHS)
    result = TrialResult(trial, growths=growths, **values)
    parts = min(PARTS, trial.steps)
    if len(result.losses) != parts:
        raise ValueError(f"there are {len(result.losses)} losses instead of {parts}")
    if set(map(len, growths)) not in ({0}, {TUTORIAL_DEPTH}):
        raise ValueError(f"growths are not of {TUTORIAL_DEPTH} layers")
    return result


def read_results(path: Path, settings: Trial | None = None) -> list[TrialResult]:
    """Read all results of a file, none if it is empty or missing; if a trial has two rows, the first one counts.

    There may be more than one header, since `cat` joins files with their headers.

    Args:
        path: of the file.
        settings: a trial whose data set, images and epochs all rows must have; if None, it is the first row's.

    Raises:
        Failure: names the first line that cannot be read, or that has other settings.
    """
    text = path.read_text(encoding="utf-8-sig", errors="replace") if path.exists() else ""
    if not text:
        return []
    reader = csv.DictReader(io.StringIO(text))
    results: dict[Trial, TrialResult] = {}
    try:
        if reader.fieldnames != COLUMNS:
            raise Failure(f"{path}:1: the header is not '{','.join(COLUMNS)}' in UTF-8")
        if not text.endswith("\n"):
            last = text.count("\n") + 1
            raise Failure(f"{path}:{last}: the last line is not finished; delete it, and its training will be repeated")
        for row in reader:
            if list(row.values()) != COLUMNS:
                result = read_row(row)
                settings = settings or result.trial
                check_settings(f"{path}:{reader.line_num}", result.trial, settings)
                results.setdefault(result.trial, result)
    except (ValueError, csv.Error) as error:
        raise Failure(f"{path}:{reader.line_num}: this row cannot be read ({error})") from error
    return list(results.values())


def check_settings(place: str, trial: Trial, wanted: Trial | Namespace) -> None:
    """Raise a `Failure` unless a trial of a file has the settings that are wanted."""
    for name in SETTINGS:
        found, expected = getattr(trial, name), getattr(wanted, name)
        if found != expected:
            raise Failure(f"{place}: {name} is {found}, not {expected}")


def append(result: TrialResult, path: Path) -> None:
    """Append a row, below a header in a new file; several studies may do so at once.

    Raises:
        Failure: if the file is of other settings, or no space is left for the whole row; then the file stays as it was.
    """
    with open(path, "ab", buffering=0) as file:
        fcntl.flock(file, fcntl.LOCK_EX)  # until it is closed
        read_results(path, result.trial)
        before = file.seek(0, os.SEEK_END)
        header = "" if before else ",".join(COLUMNS) + "\n"
        row = (header + write_row(result)).encode()
        if file.write(row) < len(row):
            file.truncate(before)
            raise Failure(f"no space is left for a whole row in '{path}'")
