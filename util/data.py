"""The images: CIFAR-10 or a synthetic stand-in, held as uint8 and scaled a few at a time."""
from __future__ import annotations

import signal
import socket
import sys
from http.client import HTTPException
from os.path import exists, expanduser
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
TIMEOUT = 5.0  # seconds that the CIFAR-10 server may stay silent before it counts as unreachable
UNREACHABLE = (URLError, HTTPException, ConnectionError, socket.timeout, SSLError, RuntimeError)


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
    """Read the images, and download CIFAR-10 before if it is wanted and not there yet.

    Args:
        dataset: "cifar10", "synthetic", or "auto" for CIFAR-10 if it can be had and else, with a warning, synthetic.
        folder: where CIFAR-10 lies or will lie, as its archive or extracted.
        count: how many training images, from the first one on. The test images are always all.

    Raises:
        Failure: if the folder cannot be read or written, or if "cifar10" is neither there nor can be downloaded.
    """
    if dataset == "synthetic":
        return DataSet("synthetic", synthetic_images(True, count), synthetic_images(False, TEST_IMAGES))
    timeout, handler = socket.getdefaulttimeout(), signal.signal(signal.SIGPIPE, signal.SIG_IGN)
    socket.setdefaulttimeout(TIMEOUT)  # torchvision sets none; and a server that hangs up must not end the program
    try:
        damaged = any(exists(expanduser(f"{folder}/{name}")) for name in (CIFAR10.filename, CIFAR10.base_folder))
        return DataSet("cifar10", _cifar10(folder, True, count), _cifar10(folder, False, TEST_IMAGES))
    except UNREACHABLE as error:
        problem = (f"CIFAR-10 in '{folder}' is {'damaged' if damaged else 'missing'} and cannot be loaded ({error}); "
                   f"put {CIFAR10.filename} from https://www.cs.toronto.edu/~kriz/cifar.html there, or try again")
    except OSError as error:
        raise Failure(f"--data-dir: cannot read or write CIFAR-10 in '{folder}': {error}") from error
    finally:
        socket.setdefaulttimeout(timeout)
        signal.signal(signal.SIGPIPE, handler)
    if dataset == "cifar10":
        raise Failure(problem)
    print(f"warning: {problem}. This run uses synthetic data, which are not CIFAR-10.", file=sys.stderr, flush=True)
    return load("synthetic", folder, count)


def _cifar10(folder: str, train: bool, count: int) -> Images:
    """Let torchvision verify and read the images; with the training images, it brings what is missing or damaged."""
    raw = CIFAR10(folder, train, download=train)
    return Images(torch.from_numpy(raw.data[:count].transpose(0, 3, 1, 2).copy()), torch.tensor(raw.targets[:count]))


def synthetic_images(train: bool, count: int) -> Images:
    """Make ten classes of images, always the same ones, that are somewhat harder for a small network than CIFAR-10.

    Each class has 100 smooth periodic colour patterns with a part in common. An image is one pattern, shifted and with
    a random contrast, under pixel noise. A smaller set is a prefix of a larger one.
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
    """Yield an epoch of full minibatches, (size, 3, 32, 32) scaled images and (size,) labels, in a random order."""
    order = torch.randperm(len(images.labels), generator=generator)
    for chosen in order[:len(order) // size * size].split(100 * size):  # scaling many at a time is quicker
        yield from zip(scale(images.pixels[chosen]).split(size), images.labels[chosen].split(size))
