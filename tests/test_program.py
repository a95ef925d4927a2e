"""How the program ends: one line, an exit code, and nothing left running. No test here imports what takes seconds."""
import importlib.util
import os
import re
import signal
import sys

import pytest

from tests.processes import ENDS, ROOT, end_by, started
from util import program
from util.program import Failure, UsageError


def script(text, encoding="utf-8", **options):
    return started(sys.executable, "-c", f"import sys, signal, os\nfrom util import program\n{text}", cwd=ROOT,
                   env={**os.environ, "PYTHONIOENCODING": encoding, "PYTHONUNBUFFERED": ""}, **options)


def raising(error):
    def main():
        raise error
    return main


@pytest.mark.parametrize("error, code, line", [
    (Failure("the line"), 1, "the line"),
    (UsageError("the line"), 2, "the line"),
    (MemoryError(), 1, "out of memory; fewer --jobs need less"),
    (OSError(28, "No space left on device"), 1, "OSError: [Errno 28] No space left on device"),
    (Failure("a\nline \t\x1b[31m with\r what\0ever\u2028"), 1, "a line [31m with what ever"),
])
def test_failure_is_one_line(capsys, error, code, line):
    assert program.run(raising(error)) == code
    assert capsys.readouterr() == ("", f"main.py: error: {line}\n")


def test_success_is_silent(capsys):
    assert program.run(lambda: None) == 0
    assert capsys.readouterr() == ("", "")


def test_fault_of_the_program_is_not_hidden():
    with pytest.raises(ZeroDivisionError):
        program.run(lambda: 1 / 0)


def test_standard_output_that_cannot_be_written(unwritable):
    """Python must not add its own complaint when it ends, either."""
    descriptor, problem = unwritable
    with script(f"os.dup2({descriptor}, 1); sys.exit(program.run(lambda: program.say('text')))",
                pass_fds=[descriptor]) as process:
        _, errors = process.communicate()
    assert (process.returncode, errors) == (1, f"main.py: error: cannot write to the standard output: {problem}\n")


def test_terminal_that_knows_ascii_only():
    with script("sys.exit(program.run(lambda: program.say('1 ± 2')))", encoding="ascii") as process:
        assert process.communicate() == ("1 ? 2\n", "")
    assert process.returncode == 0


@pytest.mark.parametrize("number", ENDS)
@pytest.mark.parametrize("cleaning", ["pass", "signal.pause()"], ids=["quick", "endless"])
def test_signals_end_everything_in_one_line(number, cleaning):
    """However many come: the first starts the cleaning up, and the others do not disturb it, however long it takes."""
    with script(f"""
program.GRACE = 0.2
def main():
    try:
        program.say("ready")
        while True:
            signal.pause()
    finally:
        program.say("cleaning")
        for _ in range(3):
            os.kill(os.getpid(), {number:d})
        {cleaning}
        program.say("done")
sys.exit(program.run(main))
""") as process:
        assert process.stdout.readline() == "ready\n"
        output = end_by(number, process, times=20)
    assert output == ("cleaning\ndone\n" if cleaning == "pass" else "cleaning\n")


def test_signals_are_held_back_while_python_begins_to_ignore_them(monkeypatch):
    """It complains of one that comes just then, about once in 35 bursts."""
    def note(number, handler):
        if handler == signal.SIG_IGN:
            held_back.append(set(program.SIGNALS) <= signal.pthread_sigmask(signal.SIG_BLOCK, []))
        return original(number, handler)

    held_back, original = [], signal.signal
    monkeypatch.setattr(signal, "signal", note)
    program.run(lambda: None)
    assert held_back == [True, True]
    assert signal.pthread_sigmask(signal.SIG_BLOCK, []) == set()


def test_signals_held_back():
    with script("""
def main():
    with program.signals_held_back():
        os.kill(os.getpid(), signal.SIGINT)
        program.say("held back")
    program.say("not any more")
sys.exit(program.run(main))
""") as process:
        assert process.communicate() == ("held back\n", "main.py: error: interrupted\n")
    assert process.returncode == 130


@pytest.mark.parametrize("number", ENDS)
def test_signals_during_the_imports(number, tmp_path):
    """The imports are held up, by a module that takes the place of torch."""
    (tmp_path / "torch.py").write_text("import signal\nprint('importing', flush=True)\nwhile True: signal.pause()\n")
    with started(sys.executable, str(ROOT / "main.py"), env={**os.environ, "PYTHONPATH": str(tmp_path)}) as process:
        assert process.stdout.readline() == "importing\n"
        end_by(number, process, times=20)


@pytest.mark.skipif(not os.path.exists("/proc/self/task"), reason="there is no /proc")
def test_no_idle_thread_takes_signals():
    """Numpy starts one for each core, unless it is told not to."""
    with script("program.begin(); import numpy; print(len(os.listdir('/proc/self/task')))") as process:
        assert process.communicate() == ("1\n", "")


def test_packages_that_are_not_installed(tmp_path):
    """An interpreter that finds none but its own."""
    with started(sys.executable, "-S", str(ROOT / "main.py"), cwd=tmp_path) as process:
        output, errors = process.communicate()
    assert (process.returncode, output) == (1, "")
    assert re.fullmatch(r"main\.py: error: not installed: torch, torchvision, scipy, matplotlib; .*"
                        r"'python3 -m pip install -r requirements\.txt'\n", errors)


def test_package_that_is_not_installed(monkeypatch, capsys):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "scipy" else name)
    with pytest.raises(SystemExit, match="1"):
        program.begin()
    assert capsys.readouterr().err.startswith("main.py: error: not installed: scipy; ")
