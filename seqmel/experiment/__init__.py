"""Tables of a comparison: rows of options, data sets, targets, folds and seeds, run once and never again."""

from seqmel.experiment.plan import Plan, read_plan
from seqmel.experiment.run import run_experiment

__all__ = ["Plan", "read_plan", "run_experiment"]
