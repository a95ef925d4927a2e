"""How a program ends when something is wrong: with one line, or at once by a signal."""
import contextlib
import signal
import sys
from typing import Iterator


class Failure(Exception):
    """An error that is not the program's own; the message names the option or file that must change."""


@contextlib.contextmanager
def plain_endings(program: str) -> Iterator[None]:
    """End the program with one line after an error that is not its own, and leave Ctrl-C and `| head` to the system."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    try:
        yield
    except (Failure, OSError) as error:
        sys.exit(f"{program}: error: {error}")
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)  # as Python starts, for a notebook that goes on
        signal.signal(signal.SIGPIPE, signal.SIG_IGN)
