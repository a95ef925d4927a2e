"""Processes that tests start, each in a group of its own with all that it starts, and a look at what is left."""
import contextlib
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).parent.parent
ENDS = {signal.SIGINT: (130, "interrupted"), signal.SIGTERM: (143, "terminated")}  # exit codes and messages


@contextlib.contextmanager
def started(*command, **options):
    """Start a program with pipes for its outputs; end all of its group afterwards."""
    live_processes(0)  # where this fails, nothing must be started
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                               start_new_session=True, **options)
    with _all_ended(process):
        yield process


@contextlib.contextmanager
def forked(function, *arguments):
    """Let a copy of this process, as it is, return `function(*arguments)` as its exit code; otherwise as `started`.

    This spares it the imports, which take seconds.
    """
    live_processes(0)
    process = _Forked(function, arguments)
    with _all_ended(process):
        yield process


class _Forked:
    """What a test needs of a subprocess.Popen."""

    def __init__(self, function, arguments):
        outputs = [os.pipe(), os.pipe()]
        self._process = multiprocessing.get_context("fork").Process(target=_run, args=(outputs, function, arguments))
        self._process.start()
        self.pid = self._process.pid
        with contextlib.suppress(OSError):  # if it was faster
            os.setpgid(self.pid, self.pid)
        for _, writable in outputs:
            os.close(writable)
        self.stdout, self.stderr = (open(readable, encoding="utf-8") for readable, _ in outputs)

    def communicate(self):
        with self.stdout, self.stderr:
            outputs = self.stdout.read(), self.stderr.read()
        self._process.join()
        self.returncode = self._process.exitcode
        return outputs


def _run(outputs, function, arguments):
    with contextlib.suppress(OSError):
        os.setpgid(0, 0)
    for descriptor, (readable, writable) in zip((1, 2), outputs):
        os.dup2(writable, descriptor)
        os.close(readable)
        os.close(writable)
    sys.stdout, sys.stderr = (open(descriptor, "w", encoding="utf-8", closefd=False) for descriptor in (1, 2))
    sys.exit(function(*arguments))


@contextlib.contextmanager
def _all_ended(process):
    try:
        yield
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        if not process.stdout.closed:
            process.communicate()


def live_processes(group):
    """Return the numbers of the processes in a group, without those that have ended but still show up."""
    if Path("/proc/self/stat").exists():
        rows = []
        for path in Path("/proc").glob("[0-9]*/stat"):
            with contextlib.suppress(OSError):  # if it has ended meanwhile
                state, _, its_group = path.read_text().rpartition(")")[2].split()[:3]
                rows.append((path.parent.name, its_group, state))
    else:
        table = subprocess.run(["ps", "-axo", "pid=,pgid=,stat="], stdout=subprocess.PIPE, text=True, check=True).stdout
        rows = [line.split() for line in table.splitlines()]
    return [int(pid) for pid, its_group, state in rows if int(its_group) == group and not state.startswith("Z")]


def all_end_within(seconds, group):
    """Wait until a group has no live process any more, but not longer than so many seconds."""
    deadline = time.monotonic() + seconds
    while live_processes(group):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


def end_by(number, process, times, send=os.kill):
    """Send a signal many times; all must end within two seconds, with one line and an exit code. Return the output.

    `send` is `os.kill` for the process alone, or `os.killpg` for all of its group, as a terminal does for Ctrl-C.
    """
    for _ in range(times):
        send(process.pid, number)
    assert all_end_within(2, process.pid)
    output, errors = process.communicate()
    code, word = ENDS[number]
    assert (process.returncode, errors) == (code, f"main.py: error: {word}\n")
    return output
