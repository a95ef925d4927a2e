"""The files that a run leaves: written whole or not at all."""
from __future__ import annotations

import io
import os
import stat
from argparse import Namespace
from pathlib import Path
from typing import Callable

import numpy as np
from matplotlib.figure import Figure

from util.comparison import Contender
from util.program import UsageError, signals_held_back
from util.training import MINIBATCH, MOMENTUM, TrainingRun


def check_outputs(figure: str, losses: str | None) -> None:
    """Find out before the work whether its results can be written.

    Raises:
        UsageError: if one cannot be written, or the ending of the figure's name is no format that matplotlib writes.
    """
    known = sorted(set(Figure().canvas.get_supported_filetypes()) - {"pgf"})  # pgf needs TeX
    if Path(figure).suffix[1:].lower() not in known:
        raise UsageError(f"argument -o/--output: '{figure}' does not end in a known figure format ({', '.join(known)})")
    _check_writable("-o/--output", figure)
    if losses is not None:
        _check_writable("--save-losses", losses)
        if os.path.realpath(losses) == os.path.realpath(figure):
            raise UsageError(f"argument --save-losses: '{losses}' is the figure's file")


def write_whole(path: str, content: bytes) -> None:
    """Write a file beside `path` and move it there, with the mode of the file that it replaces.

    A signal waits until that is over. Of a symbolic link, the file that it points to is replaced.

    Raises:
        OSError: if it cannot be written; an existing file is then as it was.
    """
    target, temporary = _places(path)
    with signals_held_back():
        try:
            temporary.write_bytes(content)
            if target.exists():
                temporary.chmod(stat.S_IMODE(target.stat().st_mode))
            os.replace(temporary, target)
        except OSError as error:
            raise OSError(error.errno, error.strerror, path) from error
        finally:
            temporary.unlink(missing_ok=True)


def take_each(*steps: Callable[[], None]) -> None:
    """Take every step, whatever becomes of the others; then raise what went wrong first, if anything did."""
    failures = []
    for step in steps:
        try:
            step()
        except Exception as failure:
            failures.append(failure)
    if failures:
        raise failures[0]


def save_losses(results: dict[tuple[int, Contender], TrainingRun], arguments: Namespace, dataset: str) -> None:
    """Write all losses, and the settings behind them, to the file of --save-losses, if that is asked for.

    `numpy.load` reads it without pickle: "losses_NAME_seed_N", (steps,) float32 for each result, "learning_rate_NAME",
    and the settings that are common to all: "dataset", "images", "epochs", "decay", "input_moments", "minibatch"
    (images a step), "momentum". NAME is a contender's method, or method=rate if the run compares several learning rates
    of it.

    Args:
        results: by seed and contender.
        arguments: from `util.command_line.parse_arguments`.
        dataset: its name.

    Raises:
        OSError: as of `write_whole`.
    """
    if arguments.save_losses is None:
        return
    methods = [contender.method for contender in arguments.contenders]
    arrays = {"dataset": dataset, "images": arguments.images, "epochs": arguments.epochs, "decay": arguments.decay,
              "input_moments": arguments.input_moments, "minibatch": MINIBATCH, "momentum": MOMENTUM}
    for (seed, contender), run in results.items():
        name = contender.method if methods.count(contender.method) == 1 else str(contender)
        arrays[f"learning_rate_{name}"] = contender.learning_rate
        arrays[f"losses_{name}_seed_{seed}"] = run.losses
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    write_whole(arguments.save_losses, buffer.getvalue())


def _check_writable(option: str, path: str) -> None:
    target, temporary = _places(path)
    try:
        if not path:
            raise FileNotFoundError(None, "the name is empty")
        if target.is_dir():
            raise IsADirectoryError(None, "it is a folder")
        if target.exists() and not target.is_file():
            raise OSError(None, "it is not a regular file")
        if target.exists() and not os.access(target, os.W_OK):
            raise PermissionError(None, "the file is write-protected")
        with signals_held_back():
            temporary.touch()
            temporary.unlink()
    except OSError as error:
        raise UsageError(f"argument {option}: cannot write '{path}': {error.strerror}; choose another file") from error


def _places(path: str) -> tuple[Path, Path]:
    """Return the file that a path leads to, and the one beside it that takes its place when it has been written."""
    target = Path(os.path.realpath(path))
    return target, target.parent / f".{target.name}.{os.getpid()}"
