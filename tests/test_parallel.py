"""The worker processes: their results, failures and deaths, and that none is left behind."""
import multiprocessing
import signal
import time

import pytest
import torch

from util import parallel
from util.failure import Failure

# pytest-xdist has a thread of its own, which takes no harm when a test forks
pytestmark = pytest.mark.filterwarnings("ignore:.*multi-threaded:DeprecationWarning")


def reciprocal(task):
    if task == "wait":
        time.sleep(40)
    return 1 / task


def settings(task):
    return torch.get_num_threads(), torch.backends.mkldnn.enabled, signal.getsignal(signal.SIGINT)


def wait_for_workers(count):
    """Wait until so many are left."""
    deadline = time.monotonic() + 20
    while len(multiprocessing.active_children()) != count:
        assert time.monotonic() < deadline, multiprocessing.active_children()
        time.sleep(0.02)


@pytest.fixture(autouse=True)
def no_worker_is_left_behind():
    yield
    wait_for_workers(0)


def test_results_come_as_tasks_end_and_all_end_when_nobody_wants_more():
    results = parallel.run_parallel(reciprocal, ["wait", 4, "wait", "wait"], processes=2)
    assert next(results) == (4, 0.25)
    wait_for_workers(1)
    results.close()


results = []  # which live as long as their process


def end_with_work_under_way():
    results.append(parallel.run_parallel(reciprocal, ["wait", 4], processes=2))
    next(results[0])


def test_a_process_does_not_wait_for_workers_at_its_end():
    """As when a training diverges. They would go on for 40 seconds."""
    process = multiprocessing.get_context("fork").Process(target=end_with_work_under_way)
    process.start()
    process.join(20)
    assert process.exitcode == 0


def test_failing_task_ends_all(capfd):
    with pytest.raises(Failure, match="^the process for 0 ended with exit code 1$"):
        list(parallel.run_parallel(reciprocal, ["wait", 1, 0, "wait"], processes=2))
    assert capfd.readouterr().err.endswith("ZeroDivisionError: division by zero\n")


def test_worker_that_shares_nothing_computes_with_one_thread_and_leaves_ctrl_c_to_the_system(monkeypatch):
    """As on macOS."""
    monkeypatch.setattr(parallel, "START_METHOD", "spawn")
    results = list(parallel.run_parallel(settings, ["task"], processes=1))
    assert results == [("task", (1, False, signal.SIG_DFL))]
