"""Settings of all tests, and fixtures that several files need."""
import os
import signal

import pytest
import torch

from util import program


@pytest.fixture(scope="session", autouse=True)
def as_in_the_workers():
    """Networks this small gain neither from threads nor from oneDNN."""
    torch.set_num_threads(1)
    torch.backends.mkldnn.enabled = False


@pytest.fixture(autouse=True)
def signal_handlers_are_restored():
    """`program.run` and `program.begin` set their own."""
    handlers = {number: signal.getsignal(number) for number in program.SIGNALS}
    yield
    for number, handler in handlers.items():
        signal.signal(number, handler)


@pytest.fixture(params=["Broken pipe", "No space left on device"])
def unwritable(request):
    """A file descriptor that cannot be written to, and why not."""
    if request.param == "Broken pipe":
        readable, writable = os.pipe()
        os.close(readable)
    elif os.path.exists("/dev/full"):
        writable = os.open("/dev/full", os.O_WRONLY)
    else:
        pytest.skip("there is no /dev/full")
    yield writable, request.param
    os.close(writable)
