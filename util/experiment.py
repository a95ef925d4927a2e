"""One training of one method with one seed, from the images to the test accuracy, as a worker process runs it."""
from __future__ import annotations

from dataclasses import dataclass

import torch

from util.data import load
from util.default_train import default_train
from util.errors import DivergenceError
from util.layer_statistics import LayerStatistics
from util.static_preconditioned_train import static_preconditioned_train
from util.training import Run, evaluate

DEFAULT, PRECONDITIONED, INITIALIZED = "default", "preconditioned", "initialization only"


@dataclass(frozen=True)
class Experiment:
    """What to do. `name` begins each line of progress; `images` is how many to train on."""

    method: str
    seed: int
    learning_rate: float
    epochs: int
    source: str
    folder: str
    images: int
    statistics: list[LayerStatistics]
    name: str
    quiet: bool


@dataclass(frozen=True)
class Result:
    """What came out: test loss in nats, test accuracy from 0 to 1."""

    method: str
    seed: int
    run: Run
    test_loss: float
    test_accuracy: float


def perform(experiment: Experiment) -> Result:
    """Load the images, train, and evaluate on the test images.

    Limits this process to one thread, since minibatches this small do not gain from more, and turns oneDNN off, which
    saves a sixth of the time of such small steps.

    Raises:
        DivergenceError: if a loss is not finite; the message names the method and the learning rate.
    """
    torch.set_num_threads(1)
    torch.backends.mkldnn.enabled = False

    def report(line: str) -> None:
        if not experiment.quiet:
            print(f"{experiment.name}  {line}\n", end="", flush=True)  # one write, which others' lines cannot split

    images = load(experiment.source, experiment.folder, train=True, count=experiment.images)
    try:
        if experiment.method == DEFAULT:
            net, run = default_train(images, experiment.epochs, experiment.seed, report)
        else:
            net, run = static_preconditioned_train(
                images, experiment.statistics, experiment.learning_rate, experiment.epochs, experiment.seed, report,
                preconditioned=experiment.method == PRECONDITIONED)
        test_loss, test_accuracy = evaluate(net, load(experiment.source, experiment.folder, train=False))
    except DivergenceError as error:
        raise DivergenceError(f"{experiment.method}: {error}, with learning rate {experiment.learning_rate:g} and seed "
                              f"{experiment.seed}; a lower learning rate may help") from error
    return Result(experiment.method, experiment.seed, run, test_loss, test_accuracy)
