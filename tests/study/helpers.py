"""The study's command, called in this process, and files of results that are written by hand."""
import contextlib
import csv
import io
import sys

import numpy as np
import pytest

from util.study import __main__ as command

HEADER = ("method,learning_rate,decay,depth,seed,dataset,images,epochs,activation,network,torch,test_loss,"
          "test_accuracy,losses,weight_growth,measured_gradient_growth,predicted_gradient_growth\n")
BRIEF = ["--dataset", "synthetic", "--images", "8", "--epochs", "1"]  # two steps


def study(path, *arguments):
    """Call the command on a file of results; return what it prints."""
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(io.StringIO()) as printed:
        patch.setattr(sys, "argv", ["study", str(path), *arguments])
        command.main()
    return printed.getvalue()


def trainings(method, rate, *losses, seeds=None, decay=False, depth=5, activation="relu", test_loss=2.0):
    """Return a row of a file for each loss, a number or 200 of them, with the seeds 0, 1, ... or others."""
    rows = ""
    for seed, loss in zip(seeds or range(len(losses)), losses):
        settings = f"{method},{rate!r},{decay},{depth},{seed},synthetic,400,2,{activation},,2.0.0,{test_loss},0.5"
        parts = np.broadcast_to(np.float64(loss), 200).tolist()
        rows += f"{settings},{' '.join(map(repr, parts))},,,\n"
    return rows


def holding(*rows):
    """Let a test's file hold these rows."""
    return pytest.mark.parametrize("held", ["".join(rows)], ids=["rows"])


def rows_of(path):
    """Return the rows of a file as dictionaries of strings."""
    return list(csv.DictReader(path.read_text().splitlines()))


def tables(printed):
    """Return the rows of each table of a page, as they are printed, by the table's heading."""
    found = {}
    for section in printed.split("\n## ")[1:]:
        heading, *lines = section.splitlines()
        found[heading] = [line for line in lines if line.startswith("|")][2:]
    return found
