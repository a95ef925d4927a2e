"""The worker processes: results, failures and deaths, and that none is left behind."""
import multiprocessing
import os
import signal
from functools import partial

import pytest
import torch

from tests.processes import all_end_within, end_by, forked, live_processes
from util import parallel, program
from util.parallel import START_METHOD, run_parallel
from util.program import Failure, UsageError

CONTEXT = multiprocessing.get_context(START_METHOD)


def meet(barrier, task, report):
    """Wait until as many workers are here as the barrier asks for."""
    barrier.wait(timeout=60)
    return os.getpid()


def wait_for(event, task, report):
    if task == "slow":
        event.wait(timeout=60)


def tell(task, report):
    report(f"{task} begins")
    report(f"{task} ends")


def fail_or_wait(task, report):
    if isinstance(task, Exception):
        raise task
    signal.pause()


def die_or_wait(task, report):
    if task == "die":
        os.kill(os.getpid(), signal.SIGKILL)
    signal.pause()


def blocked_signals(task, report):
    return signal.pthread_sigmask(signal.SIG_BLOCK, [])


def mark_or_wait(tensor, task, report):
    if task > 1:
        report("waiting")
        signal.pause()
    tensor[task] = 1


def outcomes(function, tasks, processes, report=None):
    return list(run_parallel(function, tasks, processes, report))


@pytest.fixture(autouse=True)
def no_worker_is_left_behind():
    yield
    assert multiprocessing.active_children() == []


@pytest.mark.parametrize("processes", [1, 3])
def test_so_many_processes_work_at_a_time_and_serve_several_tasks(processes):
    results = outcomes(partial(meet, CONTEXT.Barrier(processes)), range(6), processes)
    assert sorted(task for task, _ in results) == [0, 1, 2, 3, 4, 5]
    workers = {worker for _, worker in results}
    assert len(workers) == processes and os.getpid() not in workers


def test_no_more_processes_than_tasks():
    results = outcomes(partial(meet, CONTEXT.Barrier(2)), [0, 1], 9)
    assert len({worker for _, worker in results}) == 2


def test_results_come_as_they_are_finished():
    event = CONTEXT.Event()
    results = run_parallel(partial(wait_for, event), ["slow", "quick", "quicker"], 2, None)
    assert [next(results), next(results)] == [("quick", None), ("quicker", None)]
    event.set()
    assert list(results) == [("slow", None)]


def test_lines_are_passed_on():
    lines = []
    assert outcomes(tell, ["first", "second"], 1, lines.append) == [("first", None), ("second", None)]
    assert lines == ["first begins", "first ends", "second begins", "second ends"]


@pytest.mark.parametrize("error", [UsageError("a"), OSError(28, "a"), MemoryError("a")])
def test_first_failure_ends_all(error):
    with pytest.raises(type(error), match="a"):
        outcomes(fail_or_wait, ["wait", error, "wait"], 2)


@pytest.mark.parametrize("kind", [ZeroDivisionError, EOFError])
def test_unexpected_exception_ends_all_with_a_traceback(capfd, kind):
    with pytest.raises(Failure, match="exit code 1 instead of a result"):
        outcomes(fail_or_wait, ["wait", kind("the reason")], 2)
    assert capfd.readouterr().err.endswith(f"{kind.__name__}: the reason\n")


@pytest.mark.parametrize("tasks", [["wait", "die"], ["die", "wait"], ["die"], ["die", "die", "die"]])
def test_killed_worker_is_a_failure(tasks):
    with pytest.raises(Failure, match="killed from outside by signal 9, .*memory.*--jobs"):
        outcomes(die_or_wait, tasks, 2)


def test_worker_killed_between_two_tasks_is_a_failure(monkeypatch):
    def wait_and_kill(pipes):
        ready = wait(pipes)
        for worker in multiprocessing.active_children():
            worker.kill()
            worker.join()
        return ready

    wait = parallel.connection.wait
    monkeypatch.setattr(parallel.connection, "wait", wait_and_kill)
    with pytest.raises(Failure, match="killed from outside by signal 9"):
        outcomes(blocked_signals, ["first", "second"], 1)


def test_results_that_nobody_wants_any_more_end_all():
    event = CONTEXT.Event()
    results = run_parallel(partial(wait_for, event), ["slow", "quick"], 2, None)
    assert next(results) == ("quick", None)
    results.close()


def test_workers_leave_interrupts_to_the_parent():
    (_, blocked), = outcomes(blocked_signals, [None], 1)
    assert signal.SIGINT in blocked and signal.SIGTERM not in blocked
    assert blocked_signals(None, None) == set()


def work_for_ever():
    return program.run(lambda: outcomes(mark_or_wait_for_ever, [2, 3], 2, program.say))


def mark_or_wait_for_ever(task, report):
    mark_or_wait(None, task, report)


def test_workers_do_not_outlive_a_killed_parent():
    with forked(work_for_ever) as process:
        assert [process.stdout.readline() for _ in range(2)] == ["waiting\n", "waiting\n"]
        assert len(live_processes(process.pid)) == 3
        os.kill(process.pid, signal.SIGKILL)
        assert all_end_within(2, process.pid)


def work_without_a_parent(tasks):
    here, there = CONTEXT.Pipe()
    for task in tasks:
        here.send(task)
    here.close()
    parallel._work(tell, there)


@pytest.mark.parametrize("tasks", [[], ["first"]], ids=["waiting for a task", "telling"])
def test_worker_without_a_parent_ends_silently(tasks):
    with forked(work_without_a_parent, tasks) as process:
        assert process.communicate() == ("", "")
    assert process.returncode == 1


def work_and_tell_of_finalizers():
    parallel.connection.Connection.__del__ = lambda pipe: program.say("finalizer")
    return work_for_ever()


def test_nothing_is_finalized_while_work_goes_on():
    """An interrupt that happens to land in a finalizer is lost."""
    with forked(work_and_tell_of_finalizers) as process:
        assert [process.stdout.readline() for _ in range(2)] == ["waiting\n", "waiting\n"]


def work_and_interrupt_all_at_the_start():
    def interrupt_and_begin(worker, *arguments, **options):
        for _ in range(3):
            os.killpg(0, signal.SIGINT)
        return begin(worker, *arguments, **options)

    begin = multiprocessing.process.BaseProcess._bootstrap  # what a new process calls first
    multiprocessing.process.BaseProcess._bootstrap = interrupt_and_begin
    parallel.START_METHOD = "fork"
    return work_for_ever()


def test_interrupt_while_workers_start():
    with forked(work_and_interrupt_all_at_the_start) as process:
        assert process.communicate() == ("", "main.py: error: interrupted\n")
        assert process.returncode == 130
        assert all_end_within(2, process.pid)


def spawn_a_worker():
    def start_and_tell(worker):
        start(worker)
        program.say(f"interrupts are held back: {signal.SIGINT in blocked_signals(None, None)}")

    start = multiprocessing.process.BaseProcess.start
    multiprocessing.process.BaseProcess.start = start_and_tell
    parallel.START_METHOD = "spawn"
    marks = torch.zeros(2)

    def main():
        for task, _ in run_parallel(partial(mark_or_wait, marks), [0, 1, 2], 1, program.say):
            program.say(f"{task} is finished: {marks[task]:.0f}")

    return program.run(main)


def test_worker_that_starts_from_scratch():
    """As on macOS: it shares tensors with its parent, and is ended as quickly."""
    with forked(spawn_a_worker) as process:
        lines = [process.stdout.readline() for _ in range(4)]
        assert lines == ["interrupts are held back: True\n", "0 is finished: 1\n", "1 is finished: 1\n", "waiting\n"]
        assert end_by(signal.SIGINT, process, 5, os.killpg) == ""
