"""The images: CIFAR-10 or a synthetic stand-in, held as uint8 and scaled a minibatch at a time."""
from __future__ import annotations

import contextlib
import http.client
import io
import socket
from pathlib import Path
from typing import Iterator, NamedTuple

import numpy as np
import torch

from util.errors import DataError

CLASSES = 10
TRAINING_IMAGES = 50_000  # of CIFAR-10, and of its stand-in
TEST_IMAGES = 10_000
TIMEOUT = 5.0  # seconds that the CIFAR-10 server may stay silent before it counts as unreachable


class Images(NamedTuple):
    """Labelled images: `pixels` (N, 3, 32, 32) uint8, `labels` (N,) int64 from 0 to 9."""

    pixels: torch.Tensor
    labels: torch.Tensor


def find(dataset: str, folder: str, quiet: bool) -> tuple[str, str]:
    """Decide where the images come from, and download CIFAR-10 if it is wanted and not there yet.

    Args:
        dataset: "cifar10", "synthetic", or "auto" for CIFAR-10 if it can be had and else synthetic images.
        folder: where CIFAR-10 lies or will lie, as its archive or extracted; not used for "synthetic".
        quiet: show no progress of the download.

    Returns:
        The source, "cifar10" or "synthetic", and a warning if it is not the one that "auto" would rather have.

    Raises:
        DataError: if CIFAR-10 is there but corrupt, or if "cifar10" is neither there nor can be downloaded.
    """
    if dataset == "synthetic":
        return "synthetic", ""
    obstacle = _obtain_cifar10(folder, quiet)
    if not obstacle:
        return "cifar10", ""
    problem = f"CIFAR-10 is not in '{folder}' and cannot be downloaded ({obstacle})"
    advice = ("try again later, or put cifar-10-python.tar.gz from https://www.cs.toronto.edu/~kriz/cifar.html "
              f"into '{folder}' by hand")
    if dataset == "cifar10":
        raise DataError(f"{problem}; {advice}")
    return "synthetic", (f"{problem}, so this run uses a synthetic stand-in, which is not CIFAR-10; "
                         f"for the real images, {advice}")


def load(source: str, folder: str, train: bool, count: int | None = None) -> Images:
    """Load the training or the test images.

    Args:
        source: "cifar10" or "synthetic".
        folder: where CIFAR-10 lies; not used for "synthetic".
        train: the training images, else the test images.
        count: how many images, from the first one on; None for all.

    Raises:
        DataError: if there are fewer than `count` images.
    """
    if source == "synthetic":
        images = synthetic_images(train, count)
    else:
        from torchvision.datasets import CIFAR10

        dataset = CIFAR10(folder, train=train)
        images = Images(torch.from_numpy(dataset.data[:count]).permute(0, 3, 1, 2).contiguous(),
                        torch.tensor(dataset.targets[:count]))
    if count is not None and count > len(images.labels):
        raise DataError(f"{count} images were asked for, but there are only {len(images.labels)}")
    return images


def synthetic_images(train: bool, count: int | None = None) -> Images:
    """Make ten classes of images, always the same ones, that are somewhat harder for a small network than CIFAR-10.

    Each class has 100 smooth periodic colour patterns with a part in common. An image is one pattern, shifted and with
    a random contrast, under pixel noise.
    """
    from scipy.ndimage import gaussian_filter

    kinds, common, shift, contrast, noise, chunk = 100, 0.4, 8, 0.15, 0.25, 1_000
    rng = np.random.default_rng(0)
    fields = rng.standard_normal((kinds + 1, CLASSES, 3, 32, 32), dtype=np.float32)
    fields = gaussian_filter(fields, (0, 0, 0.5, 2.5, 2.5), mode="wrap")
    patterns = (fields[1:] + common * fields[0]).reshape(-1, 3, 32, 32)  # pattern i belongs to class i modulo 10
    patterns /= patterns.std()

    available = TRAINING_IMAGES if train else TEST_IMAGES
    count = available if count is None else min(count, available)
    pixels = np.empty((count, 3, 32, 32), dtype=np.uint8)
    labels = np.empty(count, dtype=np.int64)
    for start in range(0, count, chunk):  # a seed for each chunk, so that fewer images are a part of more
        rng = np.random.default_rng([int(train), start])
        pattern = rng.integers(len(patterns), size=chunk)
        rows, columns = (np.arange(32) + rng.integers(-shift, shift + 1, size=(2, chunk, 1))) % 32
        image = patterns[pattern[:, None, None, None], np.arange(3)[:, None, None],
                         rows[:, None, :, None], columns[:, None, None, :]]
        image *= contrast * rng.uniform(0.5, 1.5, (chunk, 1, 1, 1)).astype(np.float32)
        image += 0.5 + noise * rng.standard_normal(image.shape, dtype=np.float32)
        part = slice(start, min(start + chunk, count))
        pixels[part] = (255 * image.clip(0, 1))[:part.stop - start]
        labels[part] = (pattern % CLASSES)[:part.stop - start]
    return Images(torch.from_numpy(pixels), torch.from_numpy(labels))


def scale(pixels: torch.Tensor) -> torch.Tensor:
    """Scale uint8 pixels to float32 from -1 to 1, with the very operations of ToTensor and Normalize(0.5, 0.5)."""
    return pixels.to(torch.float32).div_(255).sub_(0.5).div_(0.5)


def minibatches(images: Images, size: int, generator: torch.Generator) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Yield one epoch of minibatches, (size, 3, 32, 32) scaled images and (size,) labels, in an order drawn anew.

    The last few images of the order are left out if they do not fill a minibatch.
    """
    order = torch.randperm(len(images.labels), generator=generator)
    for chosen in order[:len(order) // size * size].split(size):
        yield scale(images.pixels[chosen]), images.labels[chosen]


def _obtain_cifar10(folder: str, quiet: bool) -> str:
    """Verify, extract or download CIFAR-10; return what stands in the way if it is not there and cannot be downloaded.

    Raises:
        DataError: if the archive or the extracted folder is there, but corrupt or unreadable.
    """
    from torchvision.datasets import CIFAR10  # not at the top: it is slow to import, and synthetic images need it not

    archive, batches = Path(folder, CIFAR10.filename), Path(folder, CIFAR10.base_folder)
    present = [path for path in (archive, batches) if path.exists()]
    try:
        try:
            CIFAR10(folder, train=False)  # verifies the checksums of the training images, too
        except RuntimeError:  # torchvision's word for missing or wrong files
            _download_cifar10(folder, quiet)
        return ""
    except RuntimeError as error:
        obstacle = error
        present = [path for path in (archive, batches) if path.exists()]  # by now, perhaps, a corrupt download
    except (OSError, http.client.HTTPException) as error:
        obstacle = error
    if present:
        raise DataError(f"CIFAR-10 in '{folder}' is corrupt or unreadable ({obstacle}); "
                        f"delete {' and '.join(map(str, present))}, then try again")
    return str(obstacle)


def _download_cifar10(folder: str, quiet: bool) -> None:
    """Let torchvision download and extract the archive, or only extract it; a silent server soon raises an OSError."""
    from torchvision.datasets import CIFAR10

    archive = Path(folder, CIFAR10.filename)
    new = not archive.exists()
    default = socket.getdefaulttimeout()
    socket.setdefaulttimeout(TIMEOUT)  # torchvision sets none of its own
    try:
        with contextlib.ExitStack() as stack:
            if quiet:
                stack.enter_context(contextlib.redirect_stdout(io.StringIO()))
                stack.enter_context(contextlib.redirect_stderr(io.StringIO()))
            CIFAR10(folder, train=False, download=True)
    except (OSError, http.client.HTTPException, KeyboardInterrupt):
        if new and archive.exists():
            archive.unlink()  # what had arrived before the connection broke
        raise
    finally:
        socket.setdefaulttimeout(default)
