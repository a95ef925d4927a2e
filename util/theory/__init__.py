"""Predicts the scales of signals and gradients in a random network; README.md in this folder has the formulas."""
from util.theory.initializations import initialize
from util.theory.moments import input_moments
from util.theory.propagation import predict, predict_current, predict_for
from util.theory.statistics import LayerStatistics, gradient_stds, weight_gradient_spread

__all__ = ["LayerStatistics", "gradient_stds", "initialize", "input_moments", "predict", "predict_current",
           "predict_for", "weight_gradient_spread"]
