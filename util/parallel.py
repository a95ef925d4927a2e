"""Work done side by side, each task in a process of its own, none of which outlives this one."""
from __future__ import annotations

import collections
import os
import signal
import sys
import threading
from multiprocessing import Process, connection, get_context, parent_process
from typing import Any, Callable, Iterator, Sequence

import torch

from util.failure import Failure

# A forked process shares the imports and the images; elsewhere than on Linux, system libraries may not survive that.
START_METHOD = "fork" if sys.platform == "linux" else "spawn"


def run_parallel(function: Callable[[Any], Any], tasks: Sequence[Any], processes: int) -> Iterator[tuple[Any, Any]]:
    """Call `function(task)` for all tasks, `processes` of them at a time; yield (task, result) as each one ends.

    Function, tasks and results must be picklable. This process must not have started threads that compute, nor
    used CUDA, since a forked one could use neither.
    If a process ends without a result, all others are killed, and a `Failure` is raised.
    """
    waiting = collections.deque(tasks)
    working = {}  # each worker and its task, by the pipe that will bring the result
    try:
        while waiting or working:
            while waiting and len(working) < processes:
                task = waiting.popleft()
                pipe, worker = _start(function, task)
                working[pipe] = worker, task
            for pipe in connection.wait(list(working)):
                worker, task = working.pop(pipe)
                yield task, _receive(pipe, worker, task)
    finally:
        for worker, _ in working.values():
            worker.kill()


def _start(function: Callable[[Any], Any], task: Any) -> tuple[connection.Connection, Process]:
    context = get_context(START_METHOD)
    receiver, sender = context.Pipe(duplex=False)
    worker = context.Process(target=_work, args=(function, task, sender), daemon=True)
    worker.start()
    sender.close()  # the worker's copy is now the only one, so that the pipe ends with it
    return receiver, worker


def _receive(pipe: connection.Connection, worker: Process, task: Any) -> Any:
    try:
        return pipe.recv()
    except EOFError:
        worker.join()
    if worker.exitcode == -signal.SIGPIPE:  # nobody reads the output any more
        signal.raise_signal(signal.SIGPIPE)
    raise Failure(f"the process for {task} ended with exit code {worker.exitcode}")


def _work(function: Callable[[Any], Any], task: Any, sender: connection.Connection) -> None:
    for number in signal.SIGINT, signal.SIGPIPE:
        signal.signal(number, signal.SIG_DFL)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    torch.set_num_threads(1)  # networks this small gain neither from threads
    torch.backends.mkldnn.enabled = False  # nor from oneDNN
    sender.send(function(task))


def _end_with_parent() -> None:
    parent_process().join()
    os._exit(1)
