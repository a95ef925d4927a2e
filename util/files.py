"""Files that are written whole or not at all, and whether they can be written."""
from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from typing import BinaryIO, Callable, Iterator

from util.failure import Failure


def write_whole(path: str, write: Callable[[BinaryIO], None]) -> None:
    """Let `write` fill a new file, which then takes the place of `path`; a `Failure` leaves the old file as it was."""
    with _new_file(path) as file:
        write(file)
        file.close()
        # where a mounted file cannot be replaced, its content can
        shutil.move(file.name, os.path.realpath(path), copy_function=shutil.copyfile)


def check_writable(path: str) -> None:
    """Raise a `Failure`, before the work, unless `write_whole` can write a file."""
    if os.path.exists(path) and not (os.path.isfile(path) and os.access(path, os.W_OK)):
        raise Failure(f"'{path}' is not a regular file that can be written")
    with _new_file(path):
        pass


def make_folder(path: str, option: str) -> None:
    """Make a folder unless it exists; a `Failure` names the option if no file can be written into it."""
    try:
        os.makedirs(path, exist_ok=True)
        tempfile.TemporaryDirectory(dir=path).cleanup()
    except OSError as error:
        raise Failure(f"{option}: cannot write into '{path}': {error.strerror}") from error


@contextlib.contextmanager
def _new_file(path: str) -> Iterator[BinaryIO]:
    """Open a file of the same name in a temporary folder, beside the file to which `path` may be a link."""
    folder, name = os.path.split(os.path.realpath(path))
    try:
        with tempfile.TemporaryDirectory(dir=folder) as temporary, open(os.path.join(temporary, name), "wb") as file:
            yield file
    except OSError as error:
        raise Failure(f"cannot write '{path}': {error.strerror or error}") from error
