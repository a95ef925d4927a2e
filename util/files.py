"""Result files that are written whole or not at all."""
from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import BinaryIO, Iterator

from util.errors import UsageError


def check_writable(option: str, path: str) -> None:
    """Find out, before the work that leads to it, whether `whole_file` can write a file.

    Raises:
        UsageError: if it cannot; the message names the command-line option.
    """
    target = Path(path).resolve()
    try:
        if target.is_dir():
            raise IsADirectoryError(None, "it is a folder")
        if target.exists() and not os.access(target, os.W_OK):
            raise PermissionError(None, "the file is write-protected")
        temporary = _beside(target)
        temporary.touch()
        temporary.unlink()
    except OSError as error:
        raise UsageError(f"argument {option}: cannot write '{path}': {error.strerror}; choose another file") from error


@contextlib.contextmanager
def whole_file(path: str) -> Iterator[BinaryIO]:
    """Open a temporary file beside `path`, which replaces `path` if the block succeeds and vanishes if it does not."""
    target = Path(path).resolve()  # of a symbolic link, the file that it points to
    temporary = _beside(target)
    try:
        with open(temporary, "wb") as file:
            yield file
        os.replace(temporary, target)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            temporary.unlink()
        raise


def _beside(target: Path) -> Path:
    return target.with_name(f".{target.name}.{os.getpid()}")
