"""Read the labels of a data set, and check them before any row is trained."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from seqmel.core.errors import InputError
from seqmel.data.tables.labels import read_labels
from seqmel.evaluation.curves import label_draws
from seqmel.evaluation.problem import build_problem
from seqmel.experiment.plan import Plan

__all__ = ["FOLD_SEED", "check_labels", "read_plan_labels", "with_fraction"]

FOLD_SEED = 0
"""The seed of the folds, which are the same in all cells."""


def read_plan_labels(plan: Plan, data: str, file: Path) -> list[pd.Series[Any]]:
    """Read the labels of each target of a data set.

    Raises:
        SchemaError: See `read_labels`.
        InputError: See `read_labels`.
    """
    client = plan.data[data].columns.get("client")
    named = ("the plan's schema", "the plan's targets")
    return [
        read_labels(file, target, client=client, options=named)
        for target in plan.data[data].targets
    ]


def check_labels(
    plan: Plan, data: str, labels: Sequence[pd.Series[Any]], clients: pd.Index[Any] | None = None
) -> None:
    """Raise the errors of scoring, for labels alone, or with the ids of clients with events.

    Raises:
        InputError: There are too few clients, or too few of a class, for the folds or for a
            fraction of the labels, or the target is a quantity and an objective needs classes.
    """
    for y in labels:
        scored = pd.DataFrame(index=y.index if clients is None else clients)
        problem, _, _ = build_problem(y, {"events": scored}, "auto", plan.folds, FOLD_SEED, None)
        if problem.task == "regression":
            _check_classes(plan, data, str(y.name))
        for fraction in plan.label_fractions:
            for fold in range(plan.folds):
                label_draws(problem, fold, fraction, FOLD_SEED)


def _check_classes(plan: Plan, data: str, target: str) -> None:
    for row in plan.rows:
        for name in plan.config(row, data, 0).labelled:
            raise InputError(
                f"row {row!r}: the objective {name} learns classes, and the target {target!r} of "
                f"{data} is a quantity. Leave out one of them, or put the row into a plan without "
                "that target."
            )


def with_fraction(name: str, fraction: float) -> str:
    """Return the name of a row with a fraction of the labels."""
    return name if fraction == 1 else f"{name}, {fraction:.3g} of the labels"
