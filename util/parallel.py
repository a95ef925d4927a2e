"""Work done side by side in processes of its own, none of which outlives this one."""
from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import threading
from multiprocessing import connection, resource_tracker
from typing import Any, Callable, Iterator, Sequence

from util.errors import Failure, WorkerError


def available_cores() -> int:
    """Return the number of processor cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def run_parallel(function: Callable[[Any], Any], tasks: Sequence[Any], processes: int) -> list[Any]:
    """Call `function` on each task in a process of its own, so many at a time; return the results in the tasks' order.

    The function, tasks and results must be picklable. The first task to fail ends all others at once, as an interrupt
    (Ctrl-C) of this process does; the workers themselves do not notice interrupts.

    Not concurrent.futures.ProcessPoolExecutor: it may wait for ever if a worker is killed soon after its start.

    Raises:
        WorkerError: if a worker ends without a result.
        Failure, OSError, MemoryError: what `function` raised, if it did.
    """
    context = multiprocessing.get_context("spawn")
    results = [None] * len(tasks)
    waiting = list(enumerate(tasks))
    running = {}
    try:
        while waiting or running:
            while waiting and len(running) < processes:
                index, task = waiting.pop(0)
                receiver, sender = context.Pipe(duplex=False)
                worker = context.Process(target=_work, args=(function, task, sender))
                with _interrupts_held_back():
                    worker.start()
                sender.close()  # the worker's copy is now the only one, so its end is the pipe's end
                running[receiver] = index, worker
            for receiver in connection.wait(list(running)):
                index, worker = running.pop(receiver)
                try:
                    failure, results[index] = receiver.recv()
                except (EOFError, OSError):
                    worker.join()
                    raise WorkerError(_cause_of_death(worker.exitcode)) from None
                if failure:
                    raise failure
                worker.join()
        return results
    finally:
        for worker in multiprocessing.active_children():
            worker.kill()
            worker.join()


def _work(function: Callable[[Any], Any], task: Any, sender: connection.Connection) -> None:
    """Be a worker process. An unexpected exception ends it with a traceback."""
    threading.Thread(target=_end_with_parent, daemon=True).start()
    try:
        outcome = None, function(task)
    except (Failure, OSError, MemoryError) as error:
        outcome = error, None
    sender.send(outcome)


def _end_with_parent() -> None:
    """End this process when its parent has ended, in whatever way that came about."""
    multiprocessing.parent_process().join()
    os._exit(1)


def _cause_of_death(exit_code: int) -> str:
    if exit_code < 0:
        return (f"a worker process was killed from outside by signal {-exit_code}, perhaps because memory ran out; "
                "try again with a lower --jobs")
    return f"a worker process ended with exit code {exit_code} instead of a result; its own message says why"


@contextlib.contextmanager
def _interrupts_held_back() -> Iterator[None]:
    """Let processes that are started here be deaf to interrupts from their first moment on."""
    resource_tracker.ensure_running()  # its start, otherwise a part of the first process's, would lift the block
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})  # which the process inherits
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
