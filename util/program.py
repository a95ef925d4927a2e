"""How the program ends: in one line that says what went wrong, and with an exit code, whatever happens."""
from __future__ import annotations

import contextlib
import importlib.util
import os
import signal
import sys
import threading
from typing import Callable, Iterator

SIGNALS = {signal.SIGINT: "interrupted", signal.SIGTERM: "terminated"}
GRACE = 1.5  # seconds for cleaning up after a signal


class Failure(Exception):
    """Something that a user can cause or mend; the message says what, why, and what to do. The exit code is 1."""

    exit_code = 1


class UsageError(Failure):
    """The command line asks for something that cannot be. The exit code is 2."""

    exit_code = 2


def begin() -> None:
    """Prepare this process to end in one line even while the imports, which take seconds, go on."""
    missing = [name for name in ("torch", "torchvision", "scipy", "matplotlib") if not importlib.util.find_spec(name)]
    if missing:
        complain(f"not installed: {', '.join(missing)}; install the packages that the demo needs with "
                 "'python3 -m pip install -r requirements.txt'")
        sys.exit(1)
    os.environ["MPLBACKEND"] = "agg"  # matplotlib does not even import where a notebook's backend is named but missing
    os.environ["OPENBLAS_NUM_THREADS"] = "1"  # numpy's and scipy's idle threads would take signals that are held back

    def end(number: int, _: object) -> None:  # an exception would leave a half-imported module in an odd state
        signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
        os.write(2, f"main.py: error: {SIGNALS[number]}\n".encode())
        os._exit(128 + number)

    for number in SIGNALS:
        signal.signal(number, end)


def run(main: Callable[[], None]) -> int:
    """Call `main`; return its exit code: 0, 1 after a failure, 2 after wrong usage. Signal n ends all with 128 + n."""
    received = []

    def unwind(number: int, _: object) -> None:
        _ignore_signals()  # nothing shall disturb the cleaning up, which the exception starts ...
        sys.unraisablehook = lambda _: None  # where an exception cannot be raised, only the watchdog, below, ends this
        received.append(number)
        os.write(2, f"main.py: error: {SIGNALS[number]}\n".encode())
        watchdog = threading.Timer(GRACE, os._exit, [128 + number])  # ... unless it takes too long
        watchdog.daemon = True
        watchdog.start()
        raise KeyboardInterrupt

    try:
        try:
            for number in SIGNALS:
                signal.signal(number, unwind)
            for stream in filter(None, (sys.stdout, sys.stderr)):
                stream.reconfigure(errors="replace")  # a terminal may know ASCII only
            main()
        finally:
            _ignore_signals()  # it is over anyway
    except KeyboardInterrupt:
        os._exit(128 + received[0])  # all is cleaned up, and what Python does when it ends would only take time
    except Failure as failure:
        complain(str(failure))
        return failure.exit_code
    except MemoryError:
        complain("out of memory; fewer --jobs need less")
        return 1
    except OSError as error:
        complain(f"{type(error).__name__}: {error}")
        return 1
    return 0


def say(text: str) -> None:
    """Print to the standard output.

    Raises:
        Failure: if that is closed or full.
    """
    try:
        print(text, flush=True)
    except OSError as error:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())  # for what is left in the buffer, which Python writes when it ends
        raise Failure(f"cannot write to the standard output: {error.strerror}") from error


def complain(problem: str, kind: str = "error") -> None:
    """Print one line to the standard error output, whatever the text contains."""
    line = " ".join("".join(c if c.isprintable() else " " for c in problem).split())
    print(f"main.py: {kind}: {line}", file=sys.stderr, flush=True)


def _ignore_signals() -> None:
    with signals_held_back():  # Python complains of one that comes just while it begins to ignore them
        for number in SIGNALS:
            signal.signal(number, signal.SIG_IGN)


@contextlib.contextmanager
def signals_held_back() -> Iterator[None]:
    """Let signals that would end this process wait until the block is over."""
    signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
