"""The pool of worker processes: order, results, failures and deaths."""
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.processes import all_end_within, live_processes
from util.errors import UsageError, WorkerError
from util.parallel import run_parallel


def square(number):
    return number * number, os.getpid()


def count_company(folder):
    """Return how many processes are in here at a time, this one included."""
    mark = Path(folder, str(os.getpid()))
    mark.touch()
    time.sleep(0.3)
    company = len(list(Path(folder).iterdir()))
    mark.unlink()
    return company


def fail_or_sleep(seconds):
    if seconds == 0:
        raise UsageError("zero")
    time.sleep(seconds)


def die_or_sleep(seconds):
    if seconds == 0:
        os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(seconds)


def interrupts_are_held_back(_):
    return signal.SIGINT in signal.pthread_sigmask(signal.SIG_BLOCK, [])


def tell_and_sleep(seconds):
    print("working\n", end="", flush=True)
    time.sleep(seconds)


@pytest.fixture(autouse=True)
def no_worker_is_left_behind():
    yield
    assert multiprocessing.active_children() == []


@pytest.mark.parametrize("processes", [1, 3])
def test_no_more_processes_at_a_time_than_asked_for(processes, tmp_path):
    most = max(run_parallel(count_company, [str(tmp_path)] * 4, processes))
    assert most <= processes
    assert processes == 1 or most > 1


@pytest.mark.parametrize("processes", [1, 2, 9])
def test_results_come_in_the_order_of_the_tasks(processes):
    results = run_parallel(square, range(5), processes)
    assert [number for number, _ in results] == [0, 1, 4, 9, 16]
    assert len({os.getpid(), *(worker for _, worker in results)}) == 6


def test_first_failure_ends_all():
    with pytest.raises(UsageError, match="zero"):
        run_parallel(fail_or_sleep, [3600, 0], 2)


@pytest.mark.parametrize("tasks", [[3600, 0], [0, 3600], [0], [0, 0, 0]])
def test_killed_worker_is_a_failure(tasks):
    with pytest.raises(WorkerError, match="killed from outside by signal 9, .*memory.*--jobs"):
        run_parallel(die_or_sleep, tasks, 2)


def test_unexpected_exception_ends_all_with_a_traceback(capfd):
    with pytest.raises(WorkerError, match="exit code 1 instead of a result"):
        run_parallel(int, ["3600", "no number"], 2)
    assert "ValueError: invalid literal" in capfd.readouterr().err


def test_workers_leave_interrupts_to_the_parent():
    assert run_parallel(interrupts_are_held_back, [None, None], 1) == [True, True]
    assert not interrupts_are_held_back(None)


@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_workers_do_not_outlive_the_parent(end):
    script = "from tests.test_parallel import *; run_parallel(tell_and_sleep, [3600, 3600], 2)"
    parent = subprocess.Popen([sys.executable, "-c", script], cwd=Path(__file__).parent.parent, start_new_session=True,
                              stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    assert [parent.stdout.readline() for _ in range(2)] == ["working\n", "working\n"]
    assert len(live_processes(parent.pid)) >= 3
    parent.send_signal(end)
    assert all_end_within(2, parent.pid)
    parent.communicate()
