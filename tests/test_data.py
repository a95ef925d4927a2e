"""Scaling, minibatches, moments, the synthetic images, and every way in which CIFAR-10 may or may not be there."""
import errno
import hashlib
import os
import pickle
import shutil
import socket
import socketserver
import struct
import tarfile
import threading
from pathlib import Path

import numpy as np
import pytest
import torch
from torchvision import transforms
from torchvision.datasets import CIFAR10

from util import data
from util.program import Failure, UsageError

RNG = np.random.default_rng(0)
BATCHES = [{"data": RNG.integers(0, 256, (4, 3072), dtype=np.uint8), "labels": RNG.integers(10, size=4).tolist()}
           for _ in CIFAR10.train_list + CIFAR10.test_list]
DATASETS = pytest.mark.parametrize("dataset", ["auto", "cifar10"])
FULL = OSError(errno.ENOSPC, "No space left on device")
FORBIDDEN = PermissionError(errno.EACCES, "Permission denied")


def load(dataset, folder, count=20, quiet=True):
    return data.load(dataset, str(folder), count, quiet)


def assert_official(loaded, count=20):
    """Check that all is as in the official files, value for value."""
    assert (loaded.name, loaded.warning) == ("cifar10", "")
    pixels = torch.from_numpy(np.concatenate([batch["data"] for batch in BATCHES]).reshape(-1, 3, 32, 32))
    labels = torch.tensor([label for batch in BATCHES for label in batch["labels"]])
    for images, part in ((loaded.training, slice(count)), (loaded.test, slice(20, None))):
        assert images.pixels.dtype == torch.uint8 and images.labels.dtype == torch.int64
        assert torch.equal(images.pixels, pixels[part]) and torch.equal(images.labels, labels[part])


def md5(path):
    return hashlib.md5(path.read_bytes()).hexdigest()


def contents(folder):
    """Return all files, with what is in them, and all folders."""
    return {str(path.relative_to(folder)): path.is_file() and path.read_bytes() for path in folder.rglob("*")}


def random_images(count):
    rng = np.random.default_rng(1)
    return data.Images(torch.from_numpy(rng.integers(0, 256, (count, 3, 32, 32), dtype=np.uint8)),
                       torch.from_numpy(rng.integers(10, size=count)))


@pytest.fixture
def official(tmp_path, monkeypatch):
    """A tiny data set in the official layout, extracted and as an archive, whose checksums torchvision now expects.

    No server has it: the address leads to a closed port of this machine.
    """
    source = tmp_path / "source"
    batches = source / CIFAR10.base_folder
    batches.mkdir(parents=True)
    for (name, _), content in zip(CIFAR10.train_list + CIFAR10.test_list, BATCHES):
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
def archive_only(official):
    """The archive of the tiny data set, alone in its folder."""
    shutil.rmtree(official / CIFAR10.base_folder)
    return official / CIFAR10.filename


@pytest.fixture
def serve(monkeypatch):
    """Start a server that torchvision is pointed to.

    It answers every request with the given bytes, headers included, or resets the connection if it is given None.
    """
    servers = []

    def start(answer):
        class Handler(socketserver.StreamRequestHandler):
            def handle(self):
                while self.rfile.readline().strip():  # the request ends with an empty line
                    pass
                if answer is None:
                    self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                    os.close(self.connection.detach())
                else:
                    self.wfile.write(answer)

        server = socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler)
        server.daemon_threads = True
        server.handle_error = lambda *_: None  # the client need not listen to the end
        servers.append(server)
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        monkeypatch.setattr(CIFAR10, "url", f"http://127.0.0.1:{server.server_address[1]}/{CIFAR10.filename}")

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


@pytest.fixture
def stand_in(monkeypatch):
    """Some images in the place of the synthetic ones, which take their time, by whether they are to train with."""
    images = {True: random_images(30), False: random_images(10)}
    monkeypatch.setattr(data, "synthetic_images", lambda train, count: data.Images(
        images[train].pixels[:count], images[train].labels[:count]))
    return images


def http(content):
    return b"HTTP/1.0 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(content), content)


def redirect(address):
    return b"HTTP/1.0 302 Found\r\nLocation: %s\r\nContent-Length: 0\r\n\r\n" % address


def test_scaled_pixels_equal_torchvisions(official):
    """Value for value, with the transforms that the tutorial uses."""
    normalize = transforms.Compose([transforms.ToTensor(), transforms.Normalize((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))])
    loaded = load("cifar10", official)
    for train, images in ((True, loaded.training), (False, loaded.test)):
        expected = CIFAR10(str(official), train=train, transform=normalize)
        assert len(images.labels) == len(expected) == (20 if train else 4)
        for pixels, label, (scaled, target) in zip(images.pixels, images.labels, expected):
            assert torch.equal(data.scale(pixels), scaled)
            assert label == target


def test_all_pixel_values_scale_as_torchvisions():
    ramp = np.arange(256, dtype=np.uint8).reshape(16, 16, 1)
    expected = transforms.Normalize(0.5, 0.5)(transforms.ToTensor()(ramp))
    assert torch.equal(data.scale(torch.from_numpy(ramp).permute(2, 0, 1)), expected)


def test_minibatches_are_the_same_for_the_same_seed():
    images = random_images(30)

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


def test_minibatches_are_as_if_scaled_one_by_one():
    images = random_images(4 * (data.CHUNK + 2) + 3)  # one chunk, two more minibatches, and a rest
    order = torch.randperm(len(images.labels), generator=torch.Generator().manual_seed(0))
    minibatches = list(data.minibatches(images, 4, torch.Generator().manual_seed(0)))
    assert len(minibatches) == data.CHUNK + 2
    for (inputs, labels), chosen in zip(minibatches, order.split(4)):
        assert torch.equal(inputs, data.scale(images.pixels[chosen])) and torch.equal(labels, images.labels[chosen])


def test_an_epoch_shows_each_image_once_with_its_label(monkeypatch):
    monkeypatch.setattr(data, "CHUNK", 3)
    pixels = torch.arange(40, dtype=torch.uint8)[:, None, None, None].expand(-1, 3, 32, 32)
    images = data.Images(pixels, torch.arange(40))
    seen = []
    for inputs, labels in data.minibatches(images, 4, torch.Generator().manual_seed(0)):
        assert torch.equal(inputs, data.scale(pixels[labels]))
        seen += labels.tolist()
    assert sorted(seen) == list(range(40)) != seen


def test_input_moments_equal_a_plain_computation():
    images = random_images(1003)  # more than are measured at a time
    images.pixels[1000:] = 255 - images.pixels[1000:] // 5
    images.pixels[:, 1] //= 2
    images.pixels[:, :, 1::2] //= 3  # so that the two directions differ
    scaled = images.pixels.numpy() / 127.5 - 1
    beside = np.mean(scaled[:, :, :, 1:] * scaled[:, :, :, :-1])
    below = np.mean(scaled[:, :, 1:, :] * scaled[:, :, :-1, :])
    assert abs(beside - below) > 0.01
    assert data.input_moments(images) == pytest.approx((np.mean(scaled**2), (beside + below) / 2), rel=1e-6)


@pytest.mark.parametrize("value", [0, 100, 255])
def test_input_moments_of_constant_images(value):
    images = data.Images(torch.full((3, 3, 32, 32), value, dtype=torch.uint8), torch.zeros(3, dtype=torch.int64))
    square = data.scale(torch.tensor([value], dtype=torch.uint8)).item()**2
    assert data.input_moments(images) == pytest.approx((square, square), rel=1e-14)


def test_synthetic_images_are_always_the_same():
    many, few = data.synthetic_images(True, 1500), data.synthetic_images(True, 1200)
    assert torch.equal(many.pixels[:1200], few.pixels) and torch.equal(many.labels[:1200], few.labels)
    assert many.pixels.shape == (1500, 3, 32, 32) and many.pixels.dtype == torch.uint8
    assert set(many.labels.tolist()) == set(range(10))
    test = data.synthetic_images(False, 100)
    assert len(test.labels) == 100
    assert not torch.equal(test.pixels, many.pixels[:100])


def test_synthetic_data_set(stand_in, tmp_path):
    name, training, test, warning = load("synthetic", tmp_path / "data", count=7)
    assert (name, warning) == ("synthetic", "")
    assert torch.equal(training.pixels, stand_in[True].pixels[:7])
    assert torch.equal(test.pixels, stand_in[False].pixels)
    assert contents(tmp_path) == {}


@DATASETS
def test_extracted_folder_is_used(official, dataset):
    (official / CIFAR10.filename).unlink()
    before = contents(official)
    assert_official(load(dataset, official))
    assert contents(official) == before


@DATASETS
def test_archive_is_used(official, archive_only, dataset):
    archive = archive_only.read_bytes()
    assert_official(load(dataset, official))
    assert archive_only.read_bytes() == archive
    archive_only.unlink()
    assert_official(load(dataset, official))  # from what has been extracted


def test_archive_is_used_below_the_home_folder(official, archive_only, monkeypatch):
    """Where torchvision would look for it, wherever the program runs."""
    monkeypatch.setenv("HOME", str(official.parent))
    (official / "elsewhere").mkdir()
    monkeypatch.chdir(official / "elsewhere")
    assert_official(load("cifar10", "~/source"))
    assert contents(official / "elsewhere") == {}


@DATASETS
@pytest.mark.parametrize("damage", [lambda path: path.write_bytes(b"damaged"), Path.unlink], ids=["changed", "missing"])
@pytest.mark.parametrize("name", ["data_batch_3", "test_batch", "batches.meta"])
def test_damaged_folder_is_extracted_anew(official, dataset, damage, name):
    before = contents(official)
    damage(official / CIFAR10.base_folder / name)
    assert_official(load(dataset, official))
    assert contents(official) == before


@pytest.mark.parametrize("count", [4, 7, 8, 19])
def test_first_training_images_only(official, count):
    assert_official(load("cifar10", official, count), count)


@DATASETS
def test_download(official, serve, tmp_path, dataset):
    serve(http((official / CIFAR10.filename).read_bytes()))
    assert_official(load(dataset, tmp_path / "new" / "data"))
    assert contents(tmp_path / "new" / "data") == contents(official)


@pytest.mark.parametrize("quiet", [True, False])
def test_quiet_download_prints_nothing(official, serve, tmp_path, capfd, quiet):
    serve(http((official / CIFAR10.filename).read_bytes()))
    load("cifar10", tmp_path / "data", quiet=quiet)
    assert ("".join(capfd.readouterr()) == "") == quiet


def test_nobody_meets_a_part_of_a_file(official, serve, tmp_path, monkeypatch):
    folder, archive = tmp_path / "data", (official / CIFAR10.filename).read_bytes()
    serve(http(archive))
    seen = []

    def look(step, *arguments):
        seen.append({path.name: path.is_file() and path.read_bytes()
                     for path in folder.iterdir() if not path.name.startswith(".")})
        assert len(list(folder.glob(".*"))) == 1
        step(*arguments)

    def download(url, root, filename, checksum, step=data.download_url):
        Path(root, filename).write_bytes(b"the first part")
        look(step, url, root, filename, checksum)

    def extract(path, root, step=data.extract_archive):
        step(path, root)
        look(step, path, root)

    monkeypatch.setattr(data, "download_url", download)
    monkeypatch.setattr(data, "extract_archive", extract)
    assert_official(load("cifar10", folder))
    assert seen == [{}, {CIFAR10.filename: archive}]


@pytest.mark.parametrize("step", ["download_url", "extract_archive"])
def test_two_first_runs_at_a_time(official, serve, tmp_path, monkeypatch, step):
    """The second one begins and ends while the first one downloads or extracts."""
    serve(http((official / CIFAR10.filename).read_bytes()))
    original = getattr(data, step)

    def and_meanwhile(*arguments):
        monkeypatch.setattr(data, step, original)
        assert_official(load("cifar10", tmp_path / "data"))
        original(*arguments)

    monkeypatch.setattr(data, step, and_meanwhile)
    assert_official(load("cifar10", tmp_path / "data"))
    assert contents(tmp_path / "data") == contents(official)


def test_auto_falls_back_when_the_server_cannot_be_reached(official, tmp_path, stand_in):
    folder = tmp_path / "data"
    name, training, test, warning = load("auto", folder, count=7)
    assert name == "synthetic"
    assert torch.equal(training.pixels, stand_in[True].pixels[:7])
    assert torch.equal(test.pixels, stand_in[False].pixels)
    for part in (str(folder), "cannot be downloaded", "refused", "cifar-10-python.tar.gz",
                 "https://www.cs.toronto.edu", "not CIFAR-10"):
        assert part in warning
    assert not folder.exists()


def test_cifar10_does_not_fall_back(official, tmp_path):
    with pytest.raises(Failure, match="cannot be downloaded.*refused.*by hand"):
        load("cifar10", tmp_path / "data")
    assert not (tmp_path / "data").exists()


def test_silent_server_counts_as_unreachable_after_the_timeout(official, tmp_path, stand_in, monkeypatch):
    monkeypatch.setattr(data, "TIMEOUT", 0.1)
    with socket.create_server(("127.0.0.1", 0)) as silent:  # accepts connections, answers nothing
        monkeypatch.setattr(CIFAR10, "url", f"http://127.0.0.1:{silent.getsockname()[1]}/{CIFAR10.filename}")
        loaded = load("auto", tmp_path / "data")
        with pytest.raises(Failure, match="cannot be downloaded.*timed out"):
            load("cifar10", tmp_path / "data")
    assert loaded.name == "synthetic" and "timed out" in loaded.warning
    assert not (tmp_path / "data").exists()
    assert socket.getdefaulttimeout() is None


@pytest.mark.parametrize("answer", [
    pytest.param(lambda archive: http(archive)[:-1], id="closes early"),
    pytest.param(lambda archive: http(b""), id="empty"),
    pytest.param(lambda archive: b"", id="closes at once"),
    pytest.param(lambda archive: None, id="resets"),
    pytest.param(lambda archive: http(b"<html>Please log in to the network.</html>"), id="HTML page"),
    pytest.param(lambda archive: b"HTTP/1.0 404 Not Found\r\nContent-Length: 0\r\n\r\n", id="not found"),
    pytest.param(lambda archive: redirect(b"/" + CIFAR10.filename.encode()), id="redirect loop"),
    pytest.param(lambda archive: redirect(b"http://[/"), id="redirect to nowhere"),
    pytest.param(lambda archive: archive, id="not HTTP"),
])
def test_anything_but_the_archive_counts_as_no_download(official, serve, tmp_path, stand_in, answer):
    new, old = tmp_path / "new" / "data", tmp_path / "old"
    old.mkdir()
    (old / "notes").write_bytes(b"something else")
    serve(answer((official / CIFAR10.filename).read_bytes()))
    for folder in (new, old):
        with pytest.raises(Failure, match="cannot be downloaded") as caught:
            load("cifar10", folder)
        assert caught.type is Failure
        loaded = load("auto", folder)
        assert loaded.name == "synthetic" and "cannot be downloaded" in loaded.warning
        assert torch.equal(loaded.training.pixels, stand_in[True].pixels[:20])
    assert not new.parent.exists()
    assert contents(old) == {"notes": b"something else"}


@DATASETS
def test_a_file_in_the_place_of_the_folder(official, tmp_path, dataset):
    (tmp_path / "data").write_bytes(b"something else")
    with pytest.raises(UsageError, match="--data-dir.*data' is not a folder"):
        load(dataset, tmp_path / "data")
    assert (tmp_path / "data").read_bytes() == b"something else"


@DATASETS
def test_corrupt_folder(official, dataset):
    (official / CIFAR10.filename).unlink()
    batches = official / CIFAR10.base_folder
    (batches / "data_batch_3").write_bytes(b"damaged")
    before = contents(official)
    with pytest.raises(Failure, match=f"'{batches}' is corrupt; delete it"):
        load(dataset, official)
    assert contents(official) == before


@DATASETS
@pytest.mark.parametrize("extracted", [True, False])
def test_corrupt_archive(official, dataset, extracted):
    archive, batches = official / CIFAR10.filename, official / CIFAR10.base_folder
    archive.write_bytes(archive.read_bytes()[:100])
    (batches / "data_batch_3").write_bytes(b"damaged")
    if not extracted:
        shutil.rmtree(batches)
    before = contents(official)
    with pytest.raises(Failure, match=f"'{archive}' is corrupt; delete it"):
        load(dataset, official)
    assert contents(official) == before


@DATASETS
@pytest.mark.parametrize("step, error", [
    ("tempfile.TemporaryDirectory", FORBIDDEN), ("tempfile.TemporaryDirectory", FULL),
    ("extract_archive", FORBIDDEN), ("extract_archive", FULL), ("os.replace", FORBIDDEN)])
def test_good_archive_where_nothing_can_be_written(official, archive_only, monkeypatch, dataset, step, error):
    def refuse(*_, **__):
        raise error

    before = contents(official)
    with monkeypatch.context() as patch, pytest.raises(Failure) as caught:
        patch.setattr(f"util.data.{step}", refuse)
        load(dataset, official)
    assert error.strerror in str(caught.value)
    assert "corrupt" not in str(caught.value) and "delete" not in str(caught.value)
    assert contents(official) == before


@DATASETS
@pytest.mark.parametrize("error, ending", [(KeyboardInterrupt(), KeyboardInterrupt), (FULL, Failure)])
@pytest.mark.parametrize("existing", [True, False])
def test_broken_off_download_leaves_nothing(official, tmp_path, monkeypatch, dataset, error, ending, existing):
    folder = tmp_path / "data"
    if existing:
        folder.mkdir()

    def break_off(url, root, filename, checksum):
        assert socket.getdefaulttimeout() == data.TIMEOUT
        Path(root, filename).write_bytes(b"the first part")
        raise error

    monkeypatch.setattr(data, "download_url", break_off)
    with pytest.raises(ending, match="No space left" if error is FULL else None):
        load(dataset, folder)
    assert folder.exists() == existing and contents(folder) == {}
    assert socket.getdefaulttimeout() is None


@DATASETS
@pytest.mark.parametrize("error, ending", [(KeyboardInterrupt(), KeyboardInterrupt), (FULL, Failure)])
@pytest.mark.parametrize("existing", [True, False])
def test_broken_off_extraction_keeps_the_archive(official, archive_only, serve, tmp_path, monkeypatch, dataset, error,
                                                 ending, existing):
    folder, archive = official if existing else tmp_path / "data", archive_only.read_bytes()
    serve(b"" if existing else http(archive))

    def break_off(path, root):
        Path(root, CIFAR10.base_folder).mkdir()
        Path(root, CIFAR10.base_folder, "data_batch_1").write_bytes(b"the first part")
        raise error

    with monkeypatch.context() as patch, pytest.raises(ending, match="No space left" if error is FULL else None):
        patch.setattr(data, "extract_archive", break_off)
        load(dataset, folder)
    assert contents(folder) == {CIFAR10.filename: archive}
    serve(b"")
    assert_official(load(dataset, folder))  # the next run needs no download
