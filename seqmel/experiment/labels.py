"""Read the labels of a data set, and check them before any row is trained."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from seqmel.core.errors import InputError
from seqmel.data.tables.facts import check_no_target, read_facts
from seqmel.data.tables.labels import read_labels
from seqmel.evaluation.curves import label_draws
from seqmel.evaluation.problem import build_problem
from seqmel.evaluation.splits import OutOfTime
from seqmel.experiment.plan import Plan

__all__ = [
    "FOLD_SEED",
    "check_labels",
    "read_plan_facts",
    "read_plan_labels",
    "split_of",
    "with_fraction",
    "without_fraction",
]

FOLD_SEED = 0
"""The seed of the folds, which are the same in all cells."""


def read_plan_labels(plan: Plan, data: str, file: Path) -> list[pd.Series[Any]]:
    """Read the labels of each target of a data set.

    Raises:
        SchemaError: See `read_labels`.
        InputError: See `read_labels`.
    """
    client = plan.data[data].columns.get("client")
    time_column = plan.data[data].time_column
    named = ("the plan's schema", "the plan's targets")
    return [
        read_labels(file, target, client=client, time_column=time_column, options=named)
        for target in plan.data[data].targets
    ]


def read_plan_facts(plan: Plan, data: str, root: Path) -> pd.DataFrame | None:
    """Read the facts about the clients of a data set, if it has any.

    Raises:
        SchemaError: See `read_facts`.
        InputError: See `read_facts`.
        ConfigError: A column that is learnt from the labels is among the facts.
    """
    asked = plan.data[data]
    if asked.facts is None:
        return None
    found = read_facts(
        str(root / asked.facts), asked.fact_columns, likely=asked.columns.get("client")
    )
    check_no_target(found, [*asked.targets, *filter(None, (asked.time_column,))])
    return found


def check_labels(
    plan: Plan, data: str, labels: Sequence[pd.Series[Any]], clients: pd.Index[Any] | None = None
) -> None:
    """Raise the errors of scoring, for labels alone, or with the keys of rows with events.

    Raises:
        InputError: There are too few clients, or too few of a class, for the folds or for a
            fraction of the labels, or the target is a quantity and an objective needs classes.
    """
    for y in labels:
        scored = pd.DataFrame(index=y.index if clients is None else clients)
        split = split_of(plan, data, y)
        problem, _, _ = build_problem(y, {"events": scored}, "auto", plan.folds, FOLD_SEED, split)
        if problem.task == "regression":
            _check_classes(plan, data, str(y.name))
        if plan.data[data].time_column is not None:
            _check_no_labelled(plan, data)
        for fraction in plan.label_fractions:
            for fold in range(plan.folds):
                label_draws(problem, fold, fraction, FOLD_SEED)


def split_of(plan: Plan, data: str, y: pd.Series[Any]) -> OutOfTime | None:
    """Return the split of a data set by time and client at once; None for folds of clients."""
    asked = plan.data[data]
    if asked.split is None:
        return None
    times = pd.Series(y.index.get_level_values(1), y.index, name=asked.time_column)
    return OutOfTime(times, asked.test_fraction or 0.3, split_clients=True)


def _check_no_labelled(plan: Plan, data: str) -> None:
    for row in plan.rows:
        for name in plan.config(row, data, 0).labelled:
            raise InputError(
                f"row {row!r}: the objective {name} learns one label per client, and {data} has a "
                "time_column. Leave out one of them."
            )


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


def without_fraction(plan: Plan, name: str) -> str:
    """Return the name of a row without the fraction of the labels that `with_fraction` added."""
    endings = (with_fraction("", fraction) for fraction in plan.label_fractions)
    return name.removesuffix(next((end for end in endings if end and name.endswith(end)), ""))
