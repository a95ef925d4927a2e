"""The failures that a user can cause or mend; `main.py` ends with their message, on one line, and their exit code."""
from __future__ import annotations


class Failure(Exception):
    """Something went wrong; the message says what, why, and what to do."""

    exit_code = 1


class UsageError(Failure):
    """The command line asks for something that cannot be."""

    exit_code = 2


class DataError(Failure):
    """There is no usable data set."""


class DivergenceError(Failure):
    """A loss is not a finite number any more."""


class WorkerError(Failure):
    """A worker process ended before its work was done."""
