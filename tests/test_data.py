"""Scaling, minibatches, the synthetic stand-in, and every way in which CIFAR-10 may or may not be there."""
import hashlib
import http.server
import pickle
import shutil
import socket
import tarfile
import threading

import numpy as np
import pytest
import torch
from torchvision import transforms
from torchvision.datasets import CIFAR10

from util import data
from util.errors import DataError


def md5(path):
    return hashlib.md5(path.read_bytes()).hexdigest()


@pytest.fixture
def official(tmp_path, monkeypatch):
    """A tiny data set in the official layout, extracted and as an archive, whose checksums torchvision now expects.

    No server has it: the address leads to a closed port of this machine.
    """
    source = tmp_path / "source"
    batches = source / CIFAR10.base_folder
    batches.mkdir(parents=True)
    rng = np.random.default_rng(0)
    for name in [name for name, _ in CIFAR10.train_list + CIFAR10.test_list]:
        content = {"data": rng.integers(0, 256, (4, 3072), dtype=np.uint8), "labels": rng.integers(10, size=4).tolist()}
        (batches / name).write_bytes(pickle.dumps(content))
    (batches / "batches.meta").write_bytes(pickle.dumps({"label_names": [str(label) for label in range(10)]}))
    archive = source / CIFAR10.filename
    with tarfile.open(archive, "w:gz") as tar:
        tar.add(batches, CIFAR10.base_folder)

    for part in ("train_list", "test_list"):
        names = [name for name, _ in getattr(CIFAR10, part)]
        monkeypatch.setattr(CIFAR10, part, [[name, md5(batches / name)] for name in names])
    monkeypatch.setattr(CIFAR10, "meta", dict(CIFAR10.meta, md5=md5(batches / "batches.meta")))
    monkeypatch.setattr(CIFAR10, "tgz_md5", md5(archive))
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
    monkeypatch.setattr(CIFAR10, "url", f"http://127.0.0.1:{port}/{CIFAR10.filename}")
    return source


@pytest.fixture
def serve(monkeypatch):
    """Start a server that answers every request with the given bytes, and point torchvision to it."""
    servers = []

    def start(content):
        class Handler(http.server.BaseHTTPRequestHandler):
            def do_HEAD(self):
                self.send_response(200)
                self.send_header("Content-Length", len(content))
                self.end_headers()

            def do_GET(self):
                self.do_HEAD()
                self.wfile.write(content)

            def log_message(self, *_):
                pass

        servers.append(http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler))
        threading.Thread(target=servers[-1].serve_forever, args=(0.01,), daemon=True).start()
        monkeypatch.setattr(CIFAR10, "url", f"http://127.0.0.1:{servers[-1].server_port}/{CIFAR10.filename}")

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


def test_scaled_pixels_equal_torchvisions(official):
    """Value for value, with the transforms that the tutorial uses."""
    normalize = transforms.Compose([transforms.ToTensor(), transforms.Normalize((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))])
    for train in (True, False):
        expected = CIFAR10(official, train=train, transform=normalize)
        images = data.load("cifar10", str(official), train)
        assert images.pixels.dtype == torch.uint8
        assert len(images.labels) == len(expected) == (20 if train else 4)
        for pixels, label, (scaled, target) in zip(images.pixels, images.labels, expected):
            assert torch.equal(data.scale(pixels), scaled)
            assert label == target


def test_all_pixel_values_scale_as_torchvisions():
    ramp = np.arange(256, dtype=np.uint8).reshape(16, 16, 1)
    expected = transforms.Normalize(0.5, 0.5)(transforms.ToTensor()(ramp))
    assert torch.equal(data.scale(torch.from_numpy(ramp).permute(2, 0, 1)), expected)


def test_first_images_only(official):
    few, all_of_them = (data.load("cifar10", str(official), True, count) for count in (7, None))
    assert torch.equal(few.pixels, all_of_them.pixels[:7])
    assert torch.equal(few.labels, all_of_them.labels[:7])


def test_more_images_than_there_are(official):
    with pytest.raises(DataError, match="21 images were asked for, but there are only 20"):
        data.load("cifar10", str(official), True, 21)


def test_minibatches_are_the_same_for_the_same_seed():
    images = data.synthetic_images(train=True, count=30)

    def epochs(seed):
        order = torch.Generator().manual_seed(seed)
        return [list(data.minibatches(images, 4, order)) for _ in range(2)]

    first, again, other = epochs(0), epochs(0), epochs(1)
    for epoch, same in zip(first, again):
        assert len(epoch) == 7  # 30 images make seven minibatches; two images are left over
        for (inputs, labels), (same_inputs, same_labels) in zip(epoch, same):
            assert inputs.shape == (4, 3, 32, 32) and inputs.dtype == torch.float32
            assert torch.equal(inputs, same_inputs) and torch.equal(labels, same_labels)
    assert not torch.equal(first[0][0][0], other[0][0][0])  # another seed
    assert not torch.equal(first[0][0][0], first[1][0][0])  # another epoch


def test_an_epoch_shows_each_image_once_with_its_label():
    pixels = torch.arange(40, dtype=torch.uint8)[:, None, None, None].expand(-1, 3, 32, 32)
    images = data.Images(pixels, torch.arange(40))
    seen = []
    for inputs, labels in data.minibatches(images, 4, torch.Generator().manual_seed(0)):
        assert torch.equal(inputs, data.scale(pixels[labels]))
        seen += labels.tolist()
    assert sorted(seen) == list(range(40)) != seen


def test_synthetic_images_are_always_the_same():
    many, few = data.synthetic_images(True, 1500), data.synthetic_images(True, 1200)
    assert torch.equal(many.pixels[:1200], few.pixels) and torch.equal(many.labels[:1200], few.labels)
    assert many.pixels.shape == (1500, 3, 32, 32) and many.pixels.dtype == torch.uint8
    assert set(many.labels.tolist()) == set(range(10))
    test = data.synthetic_images(False)
    assert len(test.labels) == 10_000
    assert not torch.equal(test.pixels[:1000], many.pixels[:1000])


def test_extracted_folder_is_used(official):
    (official / CIFAR10.filename).unlink()
    assert data.find("auto", str(official), quiet=True) == ("cifar10", "")
    assert data.find("cifar10", str(official), quiet=True) == ("cifar10", "")


def test_archive_is_used(official):
    shutil.rmtree(official / CIFAR10.base_folder)
    assert data.find("auto", str(official), quiet=True) == ("cifar10", "")
    assert len(data.load("cifar10", str(official), True).labels) == 20


def test_damaged_folder_is_extracted_anew(official):
    (official / CIFAR10.base_folder / "data_batch_3").write_bytes(b"damaged")
    assert data.find("cifar10", str(official), quiet=True) == ("cifar10", "")


def test_download(official, serve, tmp_path):
    serve((official / CIFAR10.filename).read_bytes())
    folder = tmp_path / "new" / "data"
    assert data.find("auto", str(folder), quiet=True) == ("cifar10", "")
    assert len(data.load("cifar10", str(folder), False).labels) == 4


@pytest.mark.parametrize("quiet", [True, False])
def test_quiet_download_prints_nothing(official, serve, tmp_path, capfd, quiet):
    serve((official / CIFAR10.filename).read_bytes())
    data.find("auto", str(tmp_path / "data"), quiet)
    assert ("".join(capfd.readouterr()) == "") == quiet


def test_auto_falls_back_when_the_server_cannot_be_reached(official, tmp_path):
    folder = tmp_path / "data"
    source, warning = data.find("auto", str(folder), quiet=True)
    assert source == "synthetic"
    for part in (str(folder), "refused", "cifar-10-python.tar.gz", "https://www.cs.toronto.edu", "not CIFAR-10"):
        assert part in warning


def test_cifar10_does_not_fall_back(official, tmp_path):
    with pytest.raises(DataError, match="cannot be downloaded.*refused.*by hand"):
        data.find("cifar10", str(tmp_path / "data"), quiet=True)


def test_silent_server_counts_as_unreachable_after_the_timeout(official, tmp_path, monkeypatch):
    monkeypatch.setattr(data, "TIMEOUT", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as silent:  # accepts connections, answers nothing
        monkeypatch.setattr(CIFAR10, "url", f"http://127.0.0.1:{silent.getsockname()[1]}/{CIFAR10.filename}")
        source, warning = data.find("auto", str(tmp_path / "data"), quiet=True)
    assert source == "synthetic" and "timed out" in warning
    assert socket.getdefaulttimeout() is None


def test_interrupted_download_leaves_no_part_behind(official, tmp_path, monkeypatch):
    folder = tmp_path / "data"

    def interrupted(self):
        folder.mkdir()
        (folder / CIFAR10.filename).write_bytes(b"the first part")
        raise KeyboardInterrupt

    monkeypatch.setattr(CIFAR10, "download", interrupted)
    with pytest.raises(KeyboardInterrupt):
        data.find("auto", str(folder), quiet=True)
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize("dataset", ["auto", "cifar10"])
def test_corrupt_folder(official, dataset):
    (official / CIFAR10.filename).unlink()
    batches = official / CIFAR10.base_folder
    (batches / "data_batch_3").write_bytes(b"damaged")
    with pytest.raises(DataError, match=f"corrupt.*delete {batches},"):
        data.find(dataset, str(official), quiet=True)


@pytest.mark.parametrize("dataset", ["auto", "cifar10"])
def test_corrupt_archive(official, dataset):
    shutil.rmtree(official / CIFAR10.base_folder)
    archive = official / CIFAR10.filename
    archive.write_bytes(archive.read_bytes()[:100])
    with pytest.raises(DataError, match=f"corrupt.*delete {archive},"):
        data.find(dataset, str(official), quiet=True)
    assert archive.exists()


@pytest.mark.parametrize("dataset", ["auto", "cifar10"])
def test_corrupt_download(official, serve, tmp_path, dataset):
    serve(b"<html>Please log in to the network.</html>")
    with pytest.raises(DataError, match=f"corrupt.*delete {tmp_path / 'data' / CIFAR10.filename},"):
        data.find(dataset, str(tmp_path / "data"), quiet=True)
