"""Training runs that never took place, to hold what is made of them against what is known."""
import numpy as np

from util.training import TrainingRun


def made_up_run(losses, test_loss=1.0, test_accuracy=0.5, **more):
    """Return the record of a training with one layer, whose scales do not change."""
    scales = {"weight_rms": np.ones((3, 1)), "gradient_rms": np.ones((3, 2)), "predicted_rms": np.ones((3, 2)),
              "steps_per_second": 800.0}
    return TrainingRun(losses=np.array(losses, dtype=np.float32), test_loss=test_loss, test_accuracy=test_accuracy,
                       **{**scales, **more})


def diverged_run(steps):
    return made_up_run([2.0] * (steps - 1) + [float("nan")], test_loss=float("nan"))
