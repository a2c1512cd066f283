"""Read the labels of a data set, and check them before any row is trained."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from seqmel.core.errors import InputError
from seqmel.data.tables.facts import check_no_target, read_facts
from seqmel.data.tables.labels import read_labels, read_observed
from seqmel.data.tables.targets import TargetTask
from seqmel.evaluation.curves import label_draws
from seqmel.evaluation.problem import Problem, build_problem
from seqmel.evaluation.splits import OutOfTime, Split
from seqmel.experiment.plan import Plan

__all__ = [
    "FOLD_SEED",
    "TargetLabels",
    "check_labels",
    "read_plan_facts",
    "read_plan_labels",
    "split_of",
    "with_fraction",
    "without_fraction",
]

_OBSERVED = ("the plan's schema", "observed in the plan")

FOLD_SEED = 0
"""The seed of the folds, which are the same in all cells."""


@dataclass(frozen=True)
class TargetLabels:
    """The labels of one target of a data set.

    Attributes:
        y: Labels, indexed by client, or by client and moment.
        task: Their task, see `score`.
        observed: With the task "survival", whether each event was observed.
        edges: With the task "survival", the bounds of the bins of time; None chooses them.
    """

    y: pd.Series[Any]
    task: TargetTask = "auto"
    observed: pd.Series[Any] | None = None
    edges: tuple[float, ...] | None = None

    @property
    def options(self) -> dict[str, Any]:
        """What `score` and `label_curve` have to know of the labels."""
        return {"task": self.task, "observed": self.observed, "time_edges": self.edges}

    def problem(
        self, features: Mapping[str, pd.DataFrame], folds: int, split: Split | None
    ) -> tuple[Problem, pd.Series[Any]]:
        """Return the problem of the rows that have all features, and their labels.

        Raises:
            SeqmelError: See `build_problem`.
        """
        return build_problem(
            self.y, features, self.task, folds, FOLD_SEED, split, self.observed, self.edges
        )[:2]


def read_plan_labels(plan: Plan, data: str, file: Path) -> list[TargetLabels]:
    """Read the labels of each target of a data set.

    Raises:
        SchemaError: See `read_labels`.
        InputError: See `read_labels`.
    """
    asked = plan.data[data]
    keys: dict[str, Any] = {
        "client": asked.columns.get("client"),
        "time_column": asked.time_column,
    }
    named = ("the plan's schema", "the plan's targets")
    task = asked.task or "auto"
    return [
        TargetLabels(
            read_labels(file, target, options=named, **keys),
            task,
            read_observed(file, target, task, asked.observed, options=_OBSERVED, **keys),
            asked.time_edges,
        )
        for target in asked.targets
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
    ends = [asked.observed or f"{target}_observed" for target in asked.targets]
    others = [*(ends if asked.task == "survival" else []), asked.time_column]
    check_no_target(found, [*asked.targets, *filter(None, others)])
    return found


def check_labels(
    plan: Plan, data: str, labels: Sequence[TargetLabels], clients: pd.Index[Any] | None = None
) -> None:
    """Raise the errors of scoring, for labels alone, or with the keys of rows with events.

    Raises:
        InputError: There are too few clients, or too few of a class, for the folds or for a
            fraction of the labels, or the target is a quantity and an objective needs classes.
    """
    for target in labels:
        y = target.y
        scored = pd.DataFrame(index=y.index if clients is None else clients)
        problem, _ = target.problem({"events": scored}, plan.folds, split_of(plan, data, y))
        if problem.task != "classification":
            kind = "a time" if problem.task == "survival" else "a quantity"
            _check_classes(plan, data, str(y.name), kind)
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


def _check_classes(plan: Plan, data: str, target: str, kind: str) -> None:
    for row in plan.rows:
        for name in plan.config(row, data, 0).labelled:
            raise InputError(
                f"row {row!r}: the objective {name} learns classes, and the target {target!r} of "
                f"{data} is {kind}. Leave out one of them, or put the row into a plan without "
                "that target."
            )


def with_fraction(name: str, fraction: float) -> str:
    """Return the name of a row with a fraction of the labels."""
    return name if fraction == 1 else f"{name}, {fraction:.3g} of the labels"


def without_fraction(plan: Plan, name: str) -> str:
    """Return the name of a row without the fraction of the labels that `with_fraction` added."""
    endings = (with_fraction("", fraction) for fraction in plan.label_fractions)
    return name.removesuffix(next((end for end in endings if end and name.endswith(end)), ""))
