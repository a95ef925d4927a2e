"""The best learning rate of each method is the one that the runs' ends say."""
import math

import numpy as np
import pytest

from tests.runs import diverged_run, made_up_run
from util.comparison import Contender, best_of_each_method, final_loss, several_rates

SLOW, FAST, OTHER = Contender("default", 0.001), Contender("default", 0.01), Contender("other", 0.001)


def run(final):
    """A run whose last tenth is its last two steps."""
    return made_up_run([9.0] * 18 + [final - 0.5, final + 0.5])


def test_contenders_are_called_as_on_the_command_line():
    assert str(SLOW) == "default=0.001"
    assert str(Contender("other", 1e-5)) == "other=1e-05"


def test_several_rates_are_those_of_one_method():
    assert not several_rates([SLOW])
    assert not several_rates([SLOW, Contender("other", 0.01)])
    assert several_rates([OTHER, SLOW, FAST])
    assert several_rates({OTHER: [], SLOW: [], FAST: []})


@pytest.mark.parametrize("steps, last", [(1, 1), (9, 1), (10, 1), (11, 2), (20, 2), (25, 3)])
def test_final_loss_is_the_mean_of_the_last_tenth_rounded_up(steps, last):
    losses = np.arange(steps) ** 2
    assert final_loss(made_up_run(losses)) == losses[-last:].mean()


def test_final_loss_of_a_diverged_training_is_infinite():
    assert final_loss(diverged_run(20)) == math.inf
    assert final_loss(made_up_run([1.0] * 20, test_loss=math.inf)) == math.inf
    assert final_loss(made_up_run([1.0] * 20, test_loss=math.nan)) == math.inf


def test_final_loss_of_enormous_losses_is_finite():
    """Their sum exceeds what single precision holds."""
    assert final_loss(made_up_run([3e38] * 20)) == pytest.approx(3e38)


def test_best_is_the_lowest_mean_over_the_seeds():
    """The fast rate has the lowest loss of one seed, and of the first."""
    runs = {OTHER: [run(5), run(5)], FAST: [run(0.5), run(2.7)], SLOW: [run(1.5), run(1.5)]}
    assert best_of_each_method(runs) == {"other": OTHER, "default": SLOW}
    runs[SLOW] = [run(1.5), run(1.8)]
    assert best_of_each_method(runs) == {"other": OTHER, "default": FAST}


def test_best_is_chosen_by_training_not_by_test():
    runs = {SLOW: [made_up_run([2.0] * 20, test_loss=1.0, test_accuracy=0.9)],
            FAST: [made_up_run([1.0] * 20, test_loss=2.0, test_accuracy=0.1)]}
    assert best_of_each_method(runs) == {"default": FAST}


def test_a_rate_at_which_one_seed_diverged_is_never_the_best():
    assert best_of_each_method({FAST: [run(1), diverged_run(5)], SLOW: [run(2), run(2)]}) == {"default": SLOW}
    assert best_of_each_method({SLOW: [run(2), run(2)], FAST: [diverged_run(5), run(1)]}) == {"default": SLOW}


def test_a_method_that_always_diverged_is_left_out():
    runs = {SLOW: [diverged_run(9)], OTHER: [run(2)], FAST: [diverged_run(5)]}
    assert best_of_each_method(runs) == {"other": OTHER}
    assert best_of_each_method({SLOW: [diverged_run(9)]}) == {}


def test_methods_stay_in_their_order():
    runs = {Contender(name, 0.001): [run(loss)] for name, loss in zip("cab", [3, 1, 2])}
    assert list(best_of_each_method(runs)) == ["c", "a", "b"]
