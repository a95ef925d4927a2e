"""What several test files use."""
import contextlib
import hashlib
import pickle
import re
import resource
import tarfile

import numpy as np
import torch
from torchvision.datasets import CIFAR10

from util.data import Images
from util.default_train import default_train
from util.initialization_only_train import initialization_only_train
from util.network import Net
from util.static_preconditioned_train import static_preconditioned_train

METHODS = {"default": default_train, "preconditioned": static_preconditioned_train,
           "initialization-only": initialization_only_train}
RNG = np.random.default_rng(0)


@contextlib.contextmanager
def full_disk(room):
    """Let no file grow beyond some bytes; not for longer than needed, since pytest writes files, too."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (room, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


def random_batch():
    pixels = RNG.integers(0, 256, (4, 3072), dtype=np.uint8)
    return {"data": pixels, "labels": RNG.integers(10, size=4).tolist()}


BATCHES = [random_batch() for _ in range(6)]  # of a tiny CIFAR-10; the last one is for testing


def random_images(count):
    generator = torch.Generator().manual_seed(1)
    pixels = torch.randint(256, (count, 3, 32, 32), dtype=torch.uint8, generator=generator)
    return Images(pixels, torch.randint(10, (count,), generator=generator))


IMAGES = random_images(122)  # 30 steps an epoch, and two images that are left over


def trained(method, images=IMAGES, epochs=2, seed=7, learning_rate=0.001, depth=5, activation="relu",
            report=lambda line: None):
    """Train a network as the demo does; return it and its losses."""
    torch.manual_seed(seed)
    net = Net(depth, activation)
    return net, METHODS[method](net, images, learning_rate, epochs, seed, report)


def write_cifar10(folder, patch):
    """Write BATCHES as torchvision's CIFAR-10, an archive and extracted, and let it expect their checksums.

    No server has them: the address leads to a closed port of this machine.
    """
    batches = folder / CIFAR10.base_folder
    batches.mkdir(parents=True)

    def write(name, content):
        pickled = pickle.dumps(content)
        (batches / name).write_bytes(pickled)
        return [name, hashlib.md5(pickled).hexdigest()]

    names = [name for name, _ in CIFAR10.train_list + CIFAR10.test_list]
    official = list(map(write, names, BATCHES))
    patch.setattr(CIFAR10, "train_list", official[:5])
    patch.setattr(CIFAR10, "test_list", official[5:])
    patch.setitem(CIFAR10.meta, "md5", write("batches.meta", {"label_names": list("0123456789")})[1])
    archive = folder / CIFAR10.filename
    with tarfile.open(archive, "w:gz") as tar:
        tar.add(batches, CIFAR10.base_folder)
    patch.setattr(CIFAR10, "tgz_md5", hashlib.md5(archive.read_bytes()).hexdigest())
    patch.setattr(CIFAR10, "url", "http://127.0.0.1:1/")


def cifar10_images(batches):
    """Return the images of some of BATCHES, value for value."""
    pixels = np.concatenate([batch["data"] for batch in batches])
    labels = np.concatenate([batch["labels"] for batch in batches])
    return Images(torch.from_numpy(pixels).reshape(-1, 3, 32, 32), torch.from_numpy(labels))


def sections(text):
    """Return the texts below the headings of a page, by the headings' anchors."""
    found = {}
    for part in re.split(r"^#+ ", text, flags=re.M)[1:]:
        title, _, rest = part.partition("\n")
        anchor = re.sub(r"[^\w -]", "", title).lower().replace(" ", "-")
        found[anchor] = rest
    return found
