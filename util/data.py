"""The images: CIFAR-10 or a synthetic stand-in, held as uint8 and scaled a few at a time."""
from __future__ import annotations

import contextlib
import io
import os
import socket
import ssl
import sys
import tempfile
from http.client import HTTPException
from pathlib import Path
from typing import Iterator, NamedTuple
from urllib.error import URLError

import numpy as np
import torch
from scipy.ndimage import gaussian_filter
from torchvision.datasets import CIFAR10
from torchvision.datasets.utils import check_integrity, download_url, extract_archive

from util.program import Failure, UsageError

CLASSES = 10
TRAINING_IMAGES = 50_000  # of CIFAR-10, and of its stand-in
TEST_IMAGES = 10_000
CHUNK = 100  # minibatches that are scaled at a time, which is quicker than one by one
TIMEOUT = 5.0  # seconds that the CIFAR-10 server may stay silent before it counts as unreachable


class Images(NamedTuple):
    """Labelled images: `pixels` (N, 3, 32, 32) uint8, `labels` (N,) int64 from 0 to 9."""

    pixels: torch.Tensor
    labels: torch.Tensor


class DataSet(NamedTuple):
    """The images of one source, "cifar10" or "synthetic"; `warning` says why it is not the preferred one, if so."""

    name: str
    training: Images
    test: Images
    warning: str = ""


def load(dataset: str, folder: str, count: int, quiet: bool) -> DataSet:
    """Read the images, and download CIFAR-10 before if it is wanted and not there yet.

    Args:
        dataset: "cifar10", "synthetic", or "auto" for CIFAR-10 if it can be had and else synthetic images.
        folder: where CIFAR-10 lies or will lie, as its archive or extracted; not used for "synthetic".
        count: how many training images, from the first one on. The test images are always all.
        quiet: show no progress of the download.

    Raises:
        UsageError: if the folder is something else.
        Failure: if CIFAR-10 is there but unusable, if what arrives cannot be stored, or if "cifar10" is neither there
            nor can be downloaded.
    """
    if dataset == "synthetic":
        return DataSet("synthetic", synthetic_images(True, count), synthetic_images(False, TEST_IMAGES))
    folder = os.path.expanduser(folder)  # as torchvision does
    try:
        if Path(folder).exists() and not Path(folder).is_dir():
            raise UsageError(f"argument --data-dir: '{folder}' is not a folder")
        try:
            return _read_cifar10(folder, count)
        except RuntimeError:  # torchvision's word for missing or wrong files
            _provide_cifar10(Path(folder), quiet)
            return _read_cifar10(folder, count)
    except _CannotDownload as obstacle:
        problem = f"CIFAR-10 is not in '{folder}' and cannot be downloaded ({obstacle})"
    except OSError as error:
        raise Failure(f"cannot read or store CIFAR-10 in '{folder}': {error}") from error
    advice = ("try again later, or put cifar-10-python.tar.gz from https://www.cs.toronto.edu/~kriz/cifar.html "
              f"into '{folder}' by hand")
    if dataset == "cifar10":
        raise Failure(f"{problem}; {advice}")
    return load("synthetic", folder, count, quiet)._replace(warning=(
        f"{problem}, so this run uses synthetic data, which are not CIFAR-10; for the real images, {advice}"))


def synthetic_images(train: bool, count: int) -> Images:
    """Make ten classes of images, always the same ones, that are somewhat harder for a small network than CIFAR-10.

    Each class has 100 smooth periodic colour patterns with a part in common. An image is one pattern, shifted and with
    a random contrast, under pixel noise. Fewer images are a part of more.
    """
    kinds, common, shift, contrast, noise, chunk = 100, 0.4, 8, 0.15, 0.25, 1_000
    rng = np.random.default_rng(0)
    fields = rng.standard_normal((kinds + 1, CLASSES, 3, 32, 32), dtype=np.float32)
    fields = gaussian_filter(fields, (0, 0, 0.5, 2.5, 2.5), mode="wrap")
    patterns = (fields[1:] + common * fields[0]).reshape(-1, 3, 32, 32)  # pattern i belongs to class i modulo 10
    patterns /= patterns.std()

    starts = range(0, count, chunk)
    pixels = np.empty((len(starts) * chunk, 3, 32, 32), dtype=np.uint8)
    labels = np.empty(len(starts) * chunk, dtype=np.int64)
    for start in starts:
        rng = np.random.default_rng([int(train), start])
        pattern = rng.integers(len(patterns), size=chunk)
        rows, columns = (np.arange(32) + rng.integers(-shift, shift + 1, size=(2, chunk, 1))) % 32
        image = patterns[pattern[:, None, None, None], np.arange(3)[:, None, None],
                         rows[:, None, :, None], columns[:, None, None, :]]
        image *= contrast * rng.uniform(0.5, 1.5, (chunk, 1, 1, 1)).astype(np.float32)
        image += 0.5 + noise * rng.standard_normal(image.shape, dtype=np.float32)
        pixels[start:start + chunk] = 255 * image.clip(0, 1)
        labels[start:start + chunk] = pattern % CLASSES
    return Images(torch.from_numpy(pixels[:count]), torch.from_numpy(labels[:count]))


def scale(pixels: torch.Tensor) -> torch.Tensor:
    """Scale uint8 pixels to float32 from -1 to 1, with the very operations of ToTensor and Normalize(0.5, 0.5)."""
    return pixels.to(torch.float32).div_(255).sub_(0.5).div_(0.5)


def minibatches(images: Images, size: int, generator: torch.Generator) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Yield one epoch of minibatches, (size, 3, 32, 32) scaled images and (size,) labels, in an order drawn anew.

    The last few images of the order are left out if they do not fill a minibatch.
    """
    order = torch.randperm(len(images.labels), generator=generator)
    for chosen in order[:len(order) // size * size].split(CHUNK * size):
        yield from zip(scale(images.pixels[chosen]).split(size), images.labels[chosen].split(size))


def input_moments(images: Images) -> tuple[float, float]:
    """Measure the moments of scaled images that `util.signal_propagation` starts from.

    Returns:
        The second moment of a pixel, and the mean product of two pixels of one channel that are next to each other,
        horizontally or vertically.
    """
    second = cross = 0.0
    for pixels in images.pixels.split(100):  # few at a time, to save memory
        scaled = scale(pixels).double()
        beside = scaled[..., 1:] * scaled[..., :-1]
        below = scaled[..., 1:, :] * scaled[..., :-1, :]
        second += len(pixels) * scaled.square().mean().item()
        cross += len(pixels) * (beside.mean() + below.mean()).item() / 2
    return second / len(images.labels), cross / len(images.labels)


class _CannotDownload(Exception):
    """The server cannot be reached, or what it sends is not the archive."""


def _read_cifar10(folder: str, count: int) -> DataSet:
    """Let torchvision verify and read the extracted images; a RuntimeError if it does not find them.

    It reads one file at a time, because torchvision needs several times the memory of what it reads.
    """
    training = Images(torch.empty((count, 3, 32, 32), dtype=torch.uint8), torch.empty(count, dtype=torch.int64))
    start = 0
    for file in CIFAR10.train_list:
        batch = type("Batch", (CIFAR10,), {"train_list": [file]})(folder)
        stop = min(start + len(batch.targets), count)
        training.pixels[start:stop] = _channels_first(batch.data[:stop - start])
        training.labels[start:stop] = torch.tensor(batch.targets[:stop - start])
        start = stop
        del batch
    test = CIFAR10(folder, train=False)
    return DataSet("cifar10", training, Images(_channels_first(test.data), torch.tensor(test.targets)))


def _channels_first(pixels: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(pixels).permute(0, 3, 1, 2).contiguous()


def _provide_cifar10(folder: Path, quiet: bool) -> None:
    """Extract the archive, which is downloaded before if it is not there.

    All that is new comes into being in a scratch folder, and is moved into place when it has been verified: what fails
    leaves nothing behind, and nobody meets a part of a file.

    Raises:
        Failure: if what is there is corrupt.
        _CannotDownload: if nothing is there, and the archive cannot be downloaded.
        OSError: if the folder or a file in it cannot be read or written.
    """
    archive, batches = folder / CIFAR10.filename, folder / CIFAR10.base_folder
    if archive.exists() and not check_integrity(archive, CIFAR10.tgz_md5):
        raise Failure(f"'{archive}' is corrupt; delete it, then try again")
    if batches.exists() and not archive.exists():
        raise Failure(f"'{batches}' is corrupt; delete it, then try again")
    missing = [path for path in (folder, *folder.parents) if not path.exists()]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder, prefix=".download-") as scratch:
            if not archive.exists():
                _download_archive(scratch, quiet)
                os.replace(Path(scratch, CIFAR10.filename), archive)
            extract_archive(str(archive), scratch)
            if batches.exists():
                os.replace(batches, Path(scratch, "corrupt"))
            os.replace(Path(scratch, CIFAR10.base_folder), batches)
    finally:
        for path in missing:
            with contextlib.suppress(OSError):  # it is not empty
                path.rmdir()


def _download_archive(folder: str, quiet: bool) -> None:
    """Let torchvision download and verify the archive; a silent server soon counts as one that cannot be reached."""
    default = socket.getdefaulttimeout()
    socket.setdefaulttimeout(TIMEOUT)  # torchvision sets none of its own
    try:
        with contextlib.redirect_stdout(io.StringIO() if quiet else sys.stdout), \
                contextlib.redirect_stderr(io.StringIO() if quiet else sys.stderr):
            download_url(CIFAR10.url, folder, CIFAR10.filename, CIFAR10.tgz_md5)
    except (URLError, HTTPException, ConnectionError, socket.timeout, ssl.SSLError, RuntimeError, ValueError) as error:
        raise _CannotDownload(str(error)) from error
    finally:
        socket.setdefaulttimeout(default)
