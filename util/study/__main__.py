"""Train every method that is named, at every learning rate and with every seed, and report.

    python3 -m util.study FOLDER [METHOD[=RATE[,RATE...]] ...] [options]      # --help lists them

FOLDER keeps a file for each training. What it holds is not trained again, so that an interrupted study goes on when the
same command is given once more, and several machines can share it. Without any method, it only reports.
"""
from __future__ import annotations

import time
import zipfile
from argparse import Namespace
from functools import partial
from itertools import count, product
from pathlib import Path

import numpy as np
import torch

from util.curves import final_loss
from util.data import DataSet, load
from util.failure import Failure, plain_endings
from util.network import Net
from util.parallel import run_parallel
from util.runs import Run, Training, save_run
from util.study.methods import METHODS, measure_scales
from util.study.options import parse_options
from util.study.pictures import draw_all
from util.study.report import tables
from util.study.statistics import Results
from util.training import MINIBATCH, evaluate, train


def main() -> None:
    """Train what the folder lacks, then report."""
    options = parse_options()
    torch.set_num_threads(1)  # so that the processes that are forked for the trainings can compute
    folder = Path(options.folder)
    folder.mkdir(parents=True, exist_ok=True)
    held = {str(run.training) for run in load_runs(folder, options)}
    wanted = [Training(method, rate, seed, options.dataset, options.images, options.epochs, options.decay)
              for seed, (method, rate) in product(options.seeds, options.methods)]
    missing = [training for training in wanted if str(training) not in held]
    if missing:
        data = load(options.dataset, options.data_dir, options.images)
        options.dataset = data.name
        load_runs(folder, options)  # before the work, to refuse other data
        train_all(data, missing, folder, options.jobs)
    results = Results(load_runs(folder, options))
    print("", *tables(results, options.reference), sep="\n\n", flush=True)
    draw_all(results, options.reference, folder)


def load_runs(folder: Path, options: Namespace) -> list[Run]:
    """Read all trainings of a folder; a `Failure` names one that cannot be read or differs in settings."""
    runs = []
    for path in sorted(folder.glob("*.npz")):
        try:
            with path.open("rb") as stream, np.load(stream) as file:
                values = {name: array if array.ndim else array.item() for name, array in file.items()}
            runs.append(Run(Training(*map(values.pop, Training._fields)), **values))
        except (OSError, ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile) as error:
            raise Failure(f"'{path}' cannot be read as a training ({error}); move it away") from error
        training, first = runs[-1].training, runs[0].training
        expected = first._replace(images=options.images, epochs=options.epochs) if options.methods else first
        if (path.stem != str(training) or training[3:6] != expected[3:6]  # dataset, images, epochs
                or options.dataset not in ("auto", training.dataset)):
            raise Failure(f"'{path}' has other settings: {training!r}")
    return runs


def train_all(data: DataSet, trainings: list[Training], folder: Path, jobs: int) -> None:
    """Train side by side, save each training when it is finished, and say what came out."""
    start = time.monotonic()
    trainings = [training._replace(dataset=data.name) for training in trainings]
    for done, (training, run) in enumerate(run_parallel(partial(perform, data), trainings, jobs), start=1):
        save_run(run, str(folder))
        left = len(trainings) - done
        minutes = (time.monotonic() - start) / done * left / 60
        print(f"{training}: training loss {final_loss(run.losses):.3f}, test loss {run.test_loss:.3f}, "
              f"accuracy {run.test_accuracy:.1%}; {left} left, about {minutes:.0f} min", flush=True)


def perform(data: DataSet, training: Training) -> Run:
    """Train and test one network, in a process of its own; measure its scales before training and after each epoch."""
    method = METHODS[training.method]
    torch.manual_seed(training.seed)
    net = Net()
    statistics = method.initialize(net, data.training)
    optimizer = method.optimizer(net.parameters(), lr=training.learning_rate)
    method.precondition(optimizer, net, statistics, data.training, training.seed)
    steps_per_epoch = training.images // MINIBATCH
    if training.decay:
        let_decay(optimizer, training.epochs * steps_per_epoch)

    scales = [measure_scales(net, data.training, training.seed)]
    steps = count(start=1)

    def measure_after_each_epoch(*_: object) -> None:
        if next(steps) % steps_per_epoch == 0:
            scales.append(measure_scales(net, data.training, training.seed))

    optimizer.register_step_post_hook(measure_after_each_epoch)
    losses = train(net, data.training, optimizer, training.epochs, training.seed, report=lambda line: None)
    return Run(training, losses, *evaluate(net, data.test), np.array(scales))


def let_decay(optimizer: torch.optim.Optimizer, steps: int) -> None:
    """Let the learning rate fall linearly to zero over so many steps."""
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1 - step / steps)
    optimizer.register_step_post_hook(lambda *_: scheduler.step())


if __name__ == "__main__":
    with plain_endings("python3 -m util.study"):
        main()
