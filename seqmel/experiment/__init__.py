"""Experiments.

Compare rows of options on data sets, targets, folds and seeds. Each cell runs once.
"""

from seqmel.experiment.plan import Plan, read_plan
from seqmel.experiment.run import run_experiment
from seqmel.experiment.tuning import Tuned, tune

__all__ = ["Plan", "Tuned", "read_plan", "run_experiment", "tune"]
