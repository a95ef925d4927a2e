"""The images: CIFAR-10 or a synthetic stand-in, held as uint8 and scaled a few at a time."""
from __future__ import annotations

import contextlib
import os
import signal
import socket
import sys
from http.client import HTTPException
from ssl import SSLError
from typing import Iterator, NamedTuple
from urllib.error import URLError

import numpy as np
import torch
from scipy.ndimage import gaussian_filter
from torchvision.datasets import CIFAR10

from util.failure import Failure

CLASSES = 10
TRAINING_IMAGES = 50_000  # of CIFAR-10, and of its stand-in
TEST_IMAGES = 10_000
CHUNK = 1_000  # synthetic images that are made at a time
TIMEOUT = 5.0  # seconds that the CIFAR-10 server may stay silent before it counts as unreachable
# raised by urllib if there is no answer, and by torchvision (RuntimeError) if a file is missing or damaged
DOWNLOAD_ERRORS = (URLError, HTTPException, ConnectionError, socket.timeout, SSLError, RuntimeError)


class Images(NamedTuple):
    """Labelled images: `pixels` (N, 3, 32, 32) uint8, `labels` (N,) int64 from 0 to 9."""

    pixels: torch.Tensor
    labels: torch.Tensor


class DataSet(NamedTuple):
    """The images of one source, "cifar10" or "synthetic"."""

    name: str
    training: Images
    test: Images


def load(dataset: str, folder: str, count: int) -> DataSet:
    """Read the images, and download CIFAR-10 before if it is wanted and missing.

    Args:
        dataset: "cifar10", "synthetic", or "auto" for CIFAR-10 if it can be loaded and else, with a warning, synthetic.
        folder: the place of CIFAR-10, as its archive or extracted.
        count: how many training images, from the first one on. The test images are always all.

    Raises:
        Failure: if the folder cannot be read or written, or if "cifar10" is missing and cannot be downloaded.
    """
    if dataset == "synthetic":
        return _synthetic(count)
    state = "damaged" if _holds_cifar10(folder) else "missing"
    try:
        with _server_errors():
            return DataSet("cifar10", _cifar10(folder, True, count), _cifar10(folder, False, TEST_IMAGES))
    except DOWNLOAD_ERRORS as error:
        problem = (f"CIFAR-10 in '{folder}' is {state} and cannot be loaded ({error}); "
                   f"put {CIFAR10.filename} from https://www.cs.toronto.edu/~kriz/cifar.html there, or try again")
    except OSError as error:
        raise Failure(f"--data-dir: cannot read or write CIFAR-10 in '{folder}': {error}") from error
    if dataset == "cifar10":
        raise Failure(problem)
    print(f"warning: {problem}. This run uses synthetic data, which are not CIFAR-10.", file=sys.stderr, flush=True)
    return _synthetic(count)


def _synthetic(count: int) -> DataSet:
    return DataSet("synthetic", synthetic_images(True, count), synthetic_images(False, TEST_IMAGES))


def _holds_cifar10(folder: str) -> bool:
    """Say whether there is an archive or an extracted folder, in whatever state."""
    paths = [os.path.join(folder, name) for name in (CIFAR10.filename, CIFAR10.base_folder)]
    return any(map(os.path.exists, paths))


@contextlib.contextmanager
def _server_errors() -> Iterator[None]:
    """Raise an error if a server falls silent or hangs up.

    Else torchvision would wait for ever, and SIGPIPE end the program, if `plain_endings` lets it. Python itself ignores
    SIGPIPE; then there is nothing to change, which only the main thread could do.
    """
    timeout = socket.getdefaulttimeout()
    handler = signal.getsignal(signal.SIGPIPE)
    if handler is not signal.SIG_IGN:
        signal.signal(signal.SIGPIPE, signal.SIG_IGN)
    socket.setdefaulttimeout(TIMEOUT)
    try:
        yield
    finally:
        socket.setdefaulttimeout(timeout)
        if handler is not signal.SIG_IGN:
            signal.signal(signal.SIGPIPE, handler)


def _cifar10(folder: str, train: bool, count: int) -> Images:
    """Let torchvision verify and read the images; for the training images, it downloads what is missing or damaged."""
    raw = CIFAR10(folder, train, download=train)
    pixels = raw.data[:count].transpose(0, 3, 1, 2).copy()
    return Images(torch.from_numpy(pixels), torch.tensor(raw.targets[:count]))


def synthetic_images(train: bool, count: int) -> Images:
    """Make ten classes of images, always the same ones, that are somewhat harder for a small network than CIFAR-10.

    Each class has 100 smooth periodic colour patterns with a part in common. An image is one pattern, shifted and with
    a random contrast, under pixel noise. A smaller set is a prefix of a larger one.
    """
    patterns = _patterns()
    chunks = [_chunk(patterns, np.random.default_rng([int(train), start])) for start in range(0, count, CHUNK)]
    pixels, labels = map(np.concatenate, zip(*chunks))
    return Images(torch.from_numpy(pixels[:count]), torch.from_numpy(labels[:count]))


def _patterns() -> np.ndarray:
    """Return (100 * CLASSES, 3, 32, 32) patterns of unit variance; pattern i belongs to class i modulo CLASSES."""
    kinds, common, smoothness = 100, 0.4, 2.5
    rng = np.random.default_rng(0)
    fields = rng.standard_normal((kinds + 1, CLASSES, 3, 32, 32), dtype=np.float32)
    fields = gaussian_filter(fields, (0, 0, 0.5, smoothness, smoothness), mode="wrap")
    patterns = fields[1:] + common * fields[0]
    patterns /= patterns.std()
    return patterns.reshape(-1, 3, 32, 32)


def _chunk(patterns: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Draw the pixels and labels of CHUNK images."""
    shift, contrast, noise = 8, 0.15, 0.25
    chosen = rng.integers(len(patterns), size=CHUNK)
    shifts = rng.integers(-shift, shift + 1, size=(2, CHUNK, 1))
    contrasts = contrast * rng.uniform(0.5, 1.5, (CHUNK, 1, 1, 1)).astype(np.float32)

    rows, columns = (np.arange(32) + shifts) % 32
    images = patterns[chosen]
    images = np.take_along_axis(images, rows[:, None, :, None], axis=2)
    images = np.take_along_axis(images, columns[:, None, None, :], axis=3)
    images *= contrasts
    images += 0.5 + noise * rng.standard_normal(images.shape, dtype=np.float32)
    pixels = 255 * images.clip(0, 1)
    return pixels.astype(np.uint8), chosen % CLASSES


def scale(pixels: torch.Tensor) -> torch.Tensor:
    """Scale uint8 pixels to float32 from -1 to 1, with the very operations of ToTensor and Normalize(0.5, 0.5)."""
    return pixels.to(torch.float32).div_(255).sub_(0.5).div_(0.5)


def minibatches(images: Images, size: int, generator: torch.Generator) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Yield an epoch of full minibatches, (size, 3, 32, 32) scaled images and (size,) labels, in a random order."""
    order = torch.randperm(len(images.labels), generator=generator)
    in_full_minibatches = order[:len(order) // size * size]
    for chosen in in_full_minibatches.split(100 * size):  # scaling many at a time is quicker
        inputs = scale(images.pixels[chosen])
        labels = images.labels[chosen]
        yield from zip(inputs.split(size), labels.split(size))
