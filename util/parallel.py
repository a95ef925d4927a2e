"""Work done side by side in processes of its own, none of which outlives this one."""
from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
from functools import partial
from multiprocessing import connection, parent_process, resource_tracker
from typing import Any, Callable, Iterator, Sequence

from torch import multiprocessing  # moves tensors into shared memory where it cannot share all memory, see below

from util.program import Failure, signals_held_back

# A forked process has everything from the start: the imports, and the images, in the same memory. Elsewhere than on
# Linux, the system's own libraries may not survive that, so a process is started from scratch.
START_METHOD = "fork" if sys.platform == "linux" else "spawn"


def available_cores() -> int:
    """Return the number of processor cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def run_parallel(function: Callable[[Any, Callable[[str], None]], Any], tasks: Sequence[Any], processes: int,
                 report: Callable[[str], None]) -> Iterator[tuple[Any, Any]]:
    """Call `function(task, report)` on each task in worker processes; yield (task, result) as they are finished.

    The first task to fail ends all others at once, as an interrupt (Ctrl-C) of this process does; the workers
    themselves do not notice interrupts, and end when this process has ended in whatever way.

    Args:
        function: takes a task and a function that passes a line of text on to `report` in this process. It, tasks and
            results must be picklable.
        processes: how many work at a time. This process must not have started threads that compute.
        report: takes the lines.

    Raises:
        Failure: if a worker ends without a result.
        Failure, OSError, MemoryError: what `function` raised, if it did.
    """
    context = multiprocessing.get_context(START_METHOD)
    waiting = list(tasks)[::-1]
    busy = {}
    workers = []
    pipes = []  # kept to the end, because an interrupt that happened to land in a finalizer would be lost

    def assign(worker: multiprocessing.Process, pipe: connection.Connection) -> None:
        busy[pipe] = worker, waiting.pop()
        with contextlib.suppress(ConnectionError):  # of which the next reading tells
            pipe.send(busy[pipe][1])

    if START_METHOD == "spawn":
        resource_tracker.ensure_running()  # a part of the first start otherwise, where it lets signals through
    try:
        for _ in range(min(processes, len(tasks))):
            here, there = context.Pipe()
            pipes += here, there
            worker = context.Process(target=_work, args=(function, there), daemon=True)
            with signals_held_back():  # which the worker inherits, deaf from its first moment on
                worker.start()
                workers.append(worker)
            there.close()  # the worker's copy is now the only one, so its end is the pipe's end
            assign(worker, here)
        while busy:
            for here in connection.wait(list(busy)):
                worker, task = busy[here]
                try:
                    kind, content = here.recv()
                except (EOFError, OSError):
                    worker.join()
                    raise Failure(_cause_of_death(worker.exitcode)) from None
                if kind == "line":
                    report(content)
                elif kind == "failure":
                    raise content
                else:
                    del busy[here]
                    if waiting:
                        assign(worker, here)
                    yield task, content
    finally:
        for worker in workers:
            worker.kill()
        for worker in workers:
            worker.join()


def _work(function: Callable, pipe: connection.Connection) -> None:
    """Be a worker process. An unexpected exception ends it with a traceback."""
    def send(kind: str, content: Any) -> None:
        with _end_if_broken():
            pipe.send((kind, content))

    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})
    threading.Thread(target=_end_with_parent, daemon=True).start()
    while True:
        with _end_if_broken():
            task = pipe.recv()
        try:
            outcome = "result", function(task, partial(send, "line"))
        except (Failure, OSError, MemoryError) as error:
            outcome = "failure", error
        send(*outcome)


@contextlib.contextmanager
def _end_if_broken() -> Iterator[None]:
    """End this process if the pipe that is used has no other end any more."""
    try:
        yield
    except (EOFError, ConnectionError):
        os._exit(1)


def _end_with_parent() -> None:
    """End this process when its parent has ended, in whatever way that came about."""
    parent_process().join()
    os._exit(1)


def _cause_of_death(exit_code: int) -> str:
    if exit_code < 0:
        return (f"a worker process was killed from outside by signal {-exit_code}, perhaps because memory ran out; "
                "try again with a lower --jobs")
    return f"a worker process ended with exit code {exit_code} instead of a result; its own message says why"
