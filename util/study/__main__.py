"""Train every method that is named, at every learning rate, in every network and with every seed, and report.

    python3 -m util.study FILE [METHOD[=RATE[,RATE...]] ...] [options]      # --help lists them

FILE keeps a row for each finished training. A training that has a row is not repeated, so that the same command
continues an interrupted study, and two commands may work on one file. Without any method, the command only reports.
"""
from __future__ import annotations

import signal

if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # Ctrl-C ends the program without a word, even while it imports

import time
from argparse import Namespace
from functools import partial
from itertools import product

import numpy as np
import torch
from torch import nn

from util.data import DataSet, load
from util.failure import Failure, plain_endings
from util.files import make_folder
from util.network import TUTORIAL_DEPTH
from util.options import DEFAULTS
from util.parallel import run_parallel
from util.study.methods import METHODS, measure, predict_by_theory
from util.study.options import parse_options
from util.study.pictures import draw_all
from util.study.report import difference_tables, page, sections
from util.study.results import (SETTINGS, Trial, TrialResult, append, check_settings, read_results, reduce_losses,
                                rounded)
from util.study.statistics import Results
from util.training import evaluate, train


def main() -> None:
    """Train what the file lacks, then report."""
    options = parse_options()
    held = read_results(options.file)
    complete_settings(options, held)
    known = {result.trial for result in held}
    missing = [trial for trial in dict.fromkeys(wanted(options)) if trial not in known]
    if options.reference:
        check_reference(*options.reference, known.union(missing))
    if options.pictures:
        make_folder(options.pictures, "--pictures")
    if missing:
        train_all(missing, options)
        held = read_results(options.file)
    if not held:
        raise Failure(f"'{options.file}' holds no results, and no method is named")
    results = Results(held)
    tables = difference_tables(results, *options.reference) if options.reference else sections(results)
    print(page(options.file.name, held, tables), flush=True)
    if options.pictures:
        draw_all(results, options.pictures)
    if options.reference and not results.references(*options.reference):
        raise Failure(f"--reference: all trainings of it in '{options.file}' diverged")


def complete_settings(options: Namespace, held: list[TrialResult]) -> None:
    """Take settings that were not given from the file's first row, and refuse other ones."""
    settings = held[0].trial._asdict() if held else {**DEFAULTS, "dataset": "auto"}
    for name in SETTINGS:
        if getattr(options, name) in (None, "auto"):
            setattr(options, name, settings[name])
    if held:
        check_settings(f"{options.file}:2", held[0].trial, options)


def check_reference(method: str, rates: list[float], trials: set[Trial]) -> None:
    """Refuse a reference that is not among what was trained or will be."""
    trained = {trial.learning_rate for trial in trials if trial.method == method}
    if not trained:
        raise Failure(f"--reference: {method} was not trained")
    for rate in rates:
        if rate not in trained:
            raise Failure(f"--reference: {method} was not trained at {rate}")


def train_all(trials: list[Trial], options: Namespace) -> None:
    """Train several at a time; append each result to the file, and print it."""
    torch.set_num_threads(1)  # so that the processes that are forked for the trainings can compute
    data = load(options.dataset, options.data_dir, options.images)
    options.file.parent.mkdir(parents=True, exist_ok=True)
    options.file.open("ab").close()  # raises an OSError, before the work, where no row can be appended
    start = time.monotonic()
    named = [trial._replace(dataset=data.name) for trial in trials]  # what "auto" stands for
    for done, (trial, result) in enumerate(run_parallel(partial(perform, data), named, options.jobs), start=1):
        append(result, options.file)
        left = len(named) - done
        minutes = (time.monotonic() - start) / done * left / 60
        print(f"{trial}: {result}; {left} left, about {minutes:.0f} min", flush=True)


def wanted(options: Namespace) -> list[Trial]:
    """Return the trials that the command line names, some perhaps twice."""
    trials = []
    settings = options.dataset, options.images, options.epochs
    for network, seed, (method, rate) in product(options.networks, options.seeds, options.methods):
        trials.append(Trial(method, rate, options.decay, network, seed, *settings))
    return trials


def perform(data: DataSet, trial: Trial) -> TrialResult:
    """Train and test one network, in a process of its own; measure the growth of the tutorial's five layers."""
    method = METHODS[trial.method]
    torch.manual_seed(trial.seed)
    net = trial.network.build()
    optimizer = method.begin(net, data.training, trial.learning_rate, trial.seed)
    if trial.decay:
        let_decay(optimizer, trial.steps)

    measured = trial.network.member == TUTORIAL_DEPTH
    if measured:
        before = measure_and_predict(net, data, trial.seed)
    losses = train(net, data.training, optimizer, trial.epochs, trial.seed, report=lambda line: None)
    test_loss, test_accuracy = evaluate(net, data.test)
    result = TrialResult(trial, torch.__version__, test_loss, test_accuracy, reduce_losses(losses, trial.steps))
    if not measured or result.diverged:
        return result
    growths = measure_and_predict(net, data, trial.seed) / before
    return result._replace(growths=tuple(map(rounded, growths)))


def let_decay(optimizer: torch.optim.Optimizer, steps: int) -> None:
    """Let the learning rate fall linearly to zero over `steps` steps."""
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1 - step / steps)
    optimizer.register_step_post_hook(lambda *_: scheduler.step())


def measure_and_predict(net: nn.Module, data: DataSet, seed: int) -> np.ndarray:
    """Return (3, layers) root mean squares: of weights, and of their gradients, measured and by the theory."""
    layers = zip(measure(net, data.training, seed), predict_by_theory(net))
    scales = [(now.weight_std, now.weight_gradient_std, predicted.weight_gradient_std) for now, predicted in layers]
    return np.transpose(scales)


if __name__ == "__main__":
    with plain_endings("python3 -m util.study"):
        main()
