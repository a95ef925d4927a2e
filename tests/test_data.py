"""Scaling, minibatches, the synthetic images, and every way in which CIFAR-10 may or may not be there."""
import shutil
import signal
import socket
import socketserver
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from torchvision import transforms
from torchvision.datasets import CIFAR10

from tests.helpers import BATCHES, cifar10_images, random_images, write_cifar10
from util import data
from util.data import load, minibatches, scale, synthetic_images
from util.failure import Failure, plain_endings

# torchvision does not say yet how Python shall filter what it extracts
pytestmark = pytest.mark.filterwarnings("ignore:Python 3.14 will, by default, filter:DeprecationWarning")
OK = b"HTTP/1.0 200 OK\r\nContent-Length: %d\r\n\r\n"


def test_all_pixel_values_are_scaled_as_in_the_tutorial():
    ramp = np.arange(256, dtype=np.uint8).reshape(16, 16, 1)
    expected = transforms.Normalize(0.5, 0.5)(transforms.ToTensor()(ramp))
    assert torch.equal(scale(torch.from_numpy(ramp).permute(2, 0, 1)), expected)


def test_an_epoch_shows_each_image_once_with_its_label():
    """Three images of 1003 are left over."""
    images = random_images(1003)._replace(labels=torch.arange(1003))
    inputs, labels = zip(*minibatches(images, 4, torch.Generator().manual_seed(0)))
    shown = torch.cat(labels)
    assert len(labels) == 250 and len(shown.unique()) == 1000
    assert torch.equal(torch.cat(inputs), scale(images.pixels[shown]))


@pytest.mark.parametrize("train, count, first, last, labels", [
    (True, 2500, [135, 99, 97, 136, 87, 132, 67, 74], [131, 255, 69, 74, 116, 131, 136, 221], "3150442891"),
    (False, 1200, [238, 181, 161, 116, 78, 2, 68, 102], [203, 255, 153, 255, 56, 199, 134, 209], "0619705653")])
def test_synthetic_images_are_those_of_all_reported_losses(train, count, first, last, labels):
    """Eight pixels of the first image and of the last one, which other versions of SciPy may round to a neighbour."""
    images = synthetic_images(train, count)
    pixels = images.pixels.numpy()
    np.testing.assert_allclose(pixels[0, 0, 0, :8], first, atol=1)
    np.testing.assert_allclose(pixels[-1, 2, 31, 24:], last, atol=1)
    assert "".join(map(str, images.labels[:10].tolist())) == labels


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder with a tiny CIFAR-10, which is on no server. Synthetic images are a quick stand-in."""
    folder = tmp_path / "data"
    write_cifar10(folder, monkeypatch)
    monkeypatch.setattr(data, "synthetic_images", lambda train, count: random_images(count))
    return folder


@pytest.fixture
def serve(monkeypatch):
    """Point torchvision to a server that gives one answer to all, or waits if that is None."""
    class Handler(socketserver.StreamRequestHandler):
        timeout = 5  # seconds

        def handle(self):
            assert signal.getsignal(signal.SIGPIPE) is signal.SIG_IGN  # else a closed connection ends the program
            self.request.recv(10_000)
            if server.answer is None:
                self.rfile.read()
            else:
                self.wfile.write(server.answer)

    def start(answer):
        server.answer = answer
        monkeypatch.setattr(CIFAR10, "url", f"http://127.0.0.1:{server.server_address[1]}/")

    with socketserver.TCPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,)).start()
        yield start
        server.shutdown()


def assert_official(loaded, count):
    """Check that all is as in the official files, value for value."""
    training, test = cifar10_images(BATCHES[:5]), cifar10_images(BATCHES[5:])
    assert loaded.name == "cifar10"
    assert all(map(torch.equal, loaded.training, (part[:count] for part in training)))
    assert all(map(torch.equal, loaded.test, test))


@pytest.mark.parametrize("missing", [CIFAR10.filename, CIFAR10.base_folder])
def test_archive_or_extracted_files_are_enough(folder, missing):
    (folder / missing).rename(folder / "elsewhere")
    assert_official(load("auto", str(folder), 20), 20)
    assert_official(load("cifar10", str(folder), 7), 7)


def test_images_may_be_loaded_by_a_thread(folder):
    """Which can change no handler of signals."""
    with ThreadPoolExecutor() as threads:
        loading = threads.submit(load, "cifar10", str(folder), 20)
    assert_official(loading.result(), 20)


def test_missing_images_are_downloaded(folder, serve, tmp_path):
    content = (folder / CIFAR10.filename).read_bytes()
    serve(OK % len(content) + content)
    with plain_endings("main.py"):
        loaded = load("cifar10", str(tmp_path / "new"), 20)
        assert signal.getsignal(signal.SIGPIPE) is signal.SIG_DFL  # as before
    assert_official(loaded, 20)
    assert socket.getdefaulttimeout() is None


@pytest.mark.parametrize("left, state", [
    ("notes.txt", "missing"), (CIFAR10.filename, "damaged"), (f"{CIFAR10.base_folder}/data_batch_3", "damaged")])
def test_without_a_server_synthetic_data_take_their_place_with_a_warning_or_not(folder, capsys, left, state):
    shutil.rmtree(folder)
    (folder / left).parent.mkdir(parents=True)
    (folder / left).write_bytes(b"no images")
    name, training, test = load("auto", str(folder), 7)
    assert (name, len(training.labels), len(test.labels)) == ("synthetic", 7, 10_000)
    problem = f"CIFAR-10 in '{folder}' is {state} and cannot be loaded"
    warning = capsys.readouterr().err
    assert warning.startswith(f"warning: {problem}") and warning.count("\n") == 1
    with pytest.raises(Failure, match=f"^{problem} .* refused"):
        load("cifar10", str(folder), 7)


@pytest.mark.parametrize("answer, problem", [
    (OK % 100_000 + b"the first part", "corrupted"),
    (b"HTTP/1.0 404 Not Found\r\nContent-Length: 0\r\n\r\n", "Not Found"),
    (b"", "closed connection"), (b"not HTTP", "not HTTP"), (None, "timed out")])
def test_a_server_without_the_archive_counts_as_none(folder, serve, monkeypatch, tmp_path, answer, problem):
    monkeypatch.setattr(data, "TIMEOUT", data.TIMEOUT / 25)  # 0.2 s, where the server would give up after 5
    serve(answer)
    with pytest.raises(Failure, match=f"is missing and cannot be loaded .*{problem}"):
        load("cifar10", str(tmp_path / "new"), 20)


def test_a_file_in_the_place_of_the_folder_is_refused_by_the_option(folder):
    archive = folder / CIFAR10.filename
    with pytest.raises(Failure, match=f"^--data-dir: cannot read or write CIFAR-10 in '{archive}'"):
        load("auto", str(archive), 20)
