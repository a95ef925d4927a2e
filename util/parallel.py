"""Work done side by side, each task in a process of its own, none of which outlives this one."""
from __future__ import annotations

import os
import signal
import sys
import threading
from multiprocessing import connection, get_context, parent_process
from typing import Any, Callable, Iterator, Sequence

import torch

from util.failure import Failure

# A forked process shares the imports and the images; elsewhere than on Linux, system libraries may not survive that.
START_METHOD = "fork" if sys.platform == "linux" else "spawn"


def run_parallel(function: Callable[[Any], Any], tasks: Sequence[Any], processes: int) -> Iterator[tuple[Any, Any]]:
    """Call `function(task)` on each task, so many at a time; yield (task, result) in the order of their ends.

    All must be picklable. This process must not have started threads that compute, which a forked one could not use.
    If a process ends without a result, all others are ended, too, and a `Failure` is raised.
    """
    context = get_context(START_METHOD)
    waiting, working = list(tasks)[::-1], {}
    try:
        while waiting or working:
            while waiting and len(working) < processes:
                task = waiting.pop()
                result, sender = context.Pipe(duplex=False)
                worker = context.Process(target=_work, args=(function, task, sender), daemon=True)
                worker.start()
                sender.close()  # the worker's copy is now the only one, so that the pipe ends with it
                working[result] = task, worker
            for result in connection.wait(list(working)):
                task, worker = working.pop(result)
                try:
                    content = result.recv()
                except EOFError:
                    worker.join()
                    if worker.exitcode == -signal.SIGPIPE:  # nobody reads the output any more
                        signal.raise_signal(signal.SIGPIPE)
                    raise Failure(f"the process for {task} ended with exit code {worker.exitcode}") from None
                yield task, content
    finally:
        for _, worker in working.values():
            worker.kill()


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
