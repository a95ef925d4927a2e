"""Scaling, minibatches, the synthetic images, and every way in which CIFAR-10 may or may not be there."""
import os
import shutil
import signal
import socket
import socketserver
import threading

import numpy as np
import pytest
import torch
from torchvision import transforms
from torchvision.datasets import CIFAR10

from tests.helpers import BATCHES, cifar10_images, write_cifar10
from util import data
from util.data import Images, load, minibatches, scale, synthetic_images
from util.failure import Failure

# torchvision does not say yet how Python shall filter what it extracts
pytestmark = pytest.mark.filterwarnings("ignore:Python 3.14 will, by default, filter:DeprecationWarning")
OK = b"HTTP/1.0 200 OK\r\nContent-Length: %d\r\n\r\n"
MODES = pytest.mark.parametrize("dataset", ["auto", "cifar10"])


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """A folder with a tiny CIFAR-10. Synthetic images are a quick stand-in, and the caller has a timeout of its own."""
    folder = tmp_path / "data"
    write_cifar10(folder, monkeypatch)
    monkeypatch.setattr(data, "synthetic_images", lambda train, count: numbered_images(count))
    socket.setdefaulttimeout(77)
    previous = signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # as in the program
    yield folder
    found = socket.getdefaulttimeout(), signal.signal(signal.SIGPIPE, previous)
    socket.setdefaulttimeout(None)
    assert found == (77, signal.SIG_DFL)


@pytest.fixture
def serve(monkeypatch):
    """Point torchvision to a server that gives one answer to all, or waits if that is None."""
    class Handler(socketserver.StreamRequestHandler):
        timeout = 5  # seconds

        def handle(self):
            assert signal.getsignal(signal.SIGPIPE) is signal.SIG_IGN  # else a closed connection ends the program
            while self.rfile.readline().strip():  # the request ends with an empty line
                pass
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


def numbered_images(count):
    rng = np.random.default_rng(1)
    return Images(torch.from_numpy(rng.integers(0, 256, (count, 3, 32, 32), dtype=np.uint8)), torch.arange(count))


def assert_official(loaded, count=20):
    """Check that all is as in the official files, value for value."""
    assert loaded.name == "cifar10"
    training, test = cifar10_images(BATCHES[:5]), cifar10_images(BATCHES[5:])
    assert torch.equal(loaded.training.pixels, training.pixels[:count])
    assert torch.equal(loaded.training.labels, training.labels[:count])
    assert torch.equal(loaded.test.pixels, test.pixels) and torch.equal(loaded.test.labels, test.labels)


def test_all_pixel_values_are_scaled_as_in_the_tutorial():
    ramp = np.arange(256, dtype=np.uint8).reshape(16, 16, 1)
    expected = transforms.Normalize(0.5, 0.5)(transforms.ToTensor()(ramp))
    assert torch.equal(scale(torch.from_numpy(ramp).permute(2, 0, 1)), expected)


def test_an_epoch_shows_each_image_once_with_its_label():
    """In another order each epoch; three images of 1003 are left over."""
    images, generator, orders = numbered_images(1003), torch.Generator().manual_seed(0), []
    for _ in range(2):
        inputs, labels = zip(*minibatches(images, 4, generator))
        assert all(len(minibatch) == 4 for minibatch in labels)
        assert torch.equal(torch.cat(inputs), scale(images.pixels[torch.cat(labels)]))
        orders.append(torch.cat(labels).tolist())
    assert len(set(orders[0])) == len(set(orders[1])) == 1000
    assert sorted(orders[0]) != orders[0] != orders[1]


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


def test_synthetic_images_are_always_the_same_and_can_be_told_apart():
    many, few, test = synthetic_images(True, 1500), synthetic_images(True, 500), synthetic_images(False, 500)
    assert torch.equal(many.pixels[:500], few.pixels) and torch.equal(many.labels[:500], few.labels)
    assert many.pixels.shape == (1500, 3, 32, 32) and many.pixels.dtype == torch.uint8
    assert not torch.equal(test.pixels, few.pixels)
    means = torch.stack([scale(many.pixels[many.labels == label]).mean(dim=0) for label in range(10)])
    guesses = torch.cdist(scale(test.pixels).flatten(1), means.flatten(1)).argmin(dim=1)
    assert (guesses == test.labels).float().mean() > 0.2  # 0.1 is chance, with a standard deviation of 0.013


def spoil(folder, archive, batches):
    """Make the archive and the extracted batches "cut" or "missing", or leave them "good"."""
    if archive == "cut":
        os.truncate(folder / CIFAR10.filename, 100)
    if archive == "missing":
        os.unlink(folder / CIFAR10.filename)
    if batches == "cut":
        os.truncate(folder / CIFAR10.base_folder / "data_batch_3", 100)
    if batches == "missing":
        shutil.rmtree(folder / CIFAR10.base_folder)


@MODES
@pytest.mark.parametrize("archive", ["good", "cut", "missing"])
@pytest.mark.parametrize("batches", ["good", "cut", "missing"])
def test_what_is_there_is_used_and_the_rest_downloaded(folder, serve, dataset, archive, batches):
    content = (folder / CIFAR10.filename).read_bytes()
    spoil(folder, archive, batches)
    if "good" not in (archive, batches):
        serve(OK % len(content) + content)
    assert_official(load(dataset, str(folder), 20))
    assert_official(load(dataset, str(folder), 7), count=7)


@pytest.mark.parametrize("archive", ["cut", "missing"])
@pytest.mark.parametrize("batches", ["cut", "missing"])
def test_without_a_server_synthetic_data_take_their_place_or_not(folder, capsys, archive, batches):
    spoil(folder, archive, batches)
    problem = "missing" if archive == batches == "missing" else "damaged"
    loaded = load("auto", str(folder), 7)
    assert (loaded.name, len(loaded.training.labels), len(loaded.test.labels)) == ("synthetic", 7, 10_000)
    warning = capsys.readouterr().err
    assert warning.startswith(f"warning: CIFAR-10 in '{folder}' is {problem} and") and warning.count("\n") == 1
    with pytest.raises(Failure, match=f"^CIFAR-10 in '{folder}' is {problem} and .* refused"):
        load("cifar10", str(folder), 7)


@pytest.mark.parametrize("answer, problem", [
    (OK % 100_000 + b"the first part", "corrupted"), (OK % 23 + b"<html>Please log in to ", "corrupted"),
    (b"HTTP/1.0 404 Not Found\r\nContent-Length: 0\r\n\r\n", "Not Found"), (b"", "closed connection"),
    (b"not HTTP", "not HTTP"), (None, "timed out")])
def test_a_server_without_the_archive_counts_as_none(folder, serve, monkeypatch, capsys, answer, problem):
    monkeypatch.setattr(data, "TIMEOUT", data.TIMEOUT / 25)  # 0.2 s, where the server would give up after 5
    serve(answer)
    shutil.rmtree(folder)
    assert load("auto", str(folder), 20).name == "synthetic"
    assert f"warning: CIFAR-10 in '{folder}' is missing and" in capsys.readouterr().err
    with pytest.raises(Failure, match=problem):
        load("cifar10", str(folder), 20)


@MODES
def test_a_file_in_the_place_of_the_folder(folder, dataset):
    with pytest.raises(Failure, match=f"^--data-dir: .*'{folder / CIFAR10.filename}'"):
        load(dataset, str(folder / CIFAR10.filename), 20)


def test_a_home_that_nobody_has(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(Failure, match="^CIFAR-10 in '~nobody-has-it/data' is missing"):
        load("cifar10", "~nobody-has-it/data", 20)


@MODES
def test_no_permission(folder, dataset):
    user = os.geteuid()
    folder.chmod(0)
    os.seteuid(user or 65534)  # since the root user may do all
    try:
        with pytest.raises(Failure, match=f"^--data-dir: .*'{folder}'.*Permission denied"):
            load(dataset, str(folder), 20)
    finally:
        os.seteuid(user)
        folder.chmod(0o700)
