"""The cost of the rows of an experiment, and rows with another training budget."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, TypeAlias

import pandas as pd

from seqmel.experiment.labels import with_fraction
from seqmel.experiment.plan import Plan, option_names

__all__ = ["Cost", "budgets", "cost", "cost_table", "with_cost"]

Cost: TypeAlias = tuple[float, int]
"""Seconds and optimiser steps of training."""

_BUDGET = ("training.epochs", "training.batch_size", "views")


def cost(metrics: Mapping[str, Any]) -> Cost:
    """Return seconds and optimiser steps of training, including pretraining.

    Args:
        metrics: The metrics of a model: its seconds and history, and the metrics of its pretrained
            model in `pretraining`, if any.
    """
    before = cost(metrics["pretraining"]) if metrics.get("pretraining") else (0.0, 0)
    steps = metrics["history"][-1]["steps"] if metrics["history"] else 0
    return before[0] + metrics["seconds"], before[1] + int(steps)


def with_cost(scores: Iterable[dict[str, Any]], costs: Sequence[Cost]) -> list[dict[str, Any]]:
    """Add the cost of training each fold to scores as from `Score.to_json`."""
    seconds = [spent[0] for spent in costs]
    steps = [spent[1] for spent in costs]
    return [score | {"seconds": seconds, "steps": steps} for score in scores]


def cost_table(plan: Plan, results: pd.DataFrame) -> str:
    """Return a table of seconds and steps per model, medians over seeds, targets and folds.

    It is empty if no cost is known.

    Args:
        plan: The plan. A row that uses labels counts with its largest fraction of them.
        results: As from `long_results`.
    """
    known = results.dropna(subset=["seconds", "steps"])
    if known.empty:
        return ""
    medians = {
        (data, features): (lines["seconds"].median(), lines["steps"].astype(float).median())
        for (data, features), lines in known.groupby(["data", "features"])
    }
    heads = [
        "one model",
        *(f"{data}: {what}" for data in plan.data for what in ("seconds", "steps")),
    ]
    lines = [f"| {' | '.join(heads)} |", "|---" * len(heads) + "|"]
    for row in plan.rows:
        name = with_fraction(row, max(plan.label_fractions))
        cells = [cell for data in plan.data for cell in _cells(medians.get((data, name)))]
        lines.append(f"| {' | '.join([row, *cells])} |")
    return "\n".join(lines)


def _cells(medians: tuple[float, float] | None) -> tuple[str, str]:
    if medians is None:
        return "", ""
    seconds, steps = medians
    return f"{seconds:,.1f}" if seconds < 10 else f"{seconds:,.0f}", f"{steps:,.0f}"


def budgets(plan: Plan) -> str:
    """Return a sentence that names the rows with their own epochs, batch size or views."""
    apart: dict[str, dict[str, list[str]]] = {}
    for data in plan.data:
        for row, words in _apart(plan, data):
            apart.setdefault(row, {}).setdefault(words, []).append(data)
    if not apart:
        return "All rows have the same training.epochs, training.batch_size and views."
    rows = []
    for row, found in apart.items():
        said = [
            text if len(on) == len(plan.data) else f"{text} on {', '.join(on)}"
            for text, on in found.items()
        ]
        rows.append(f"{row} ({', '.join(said)})")
    return f"Not on the budget of the others: {'; '.join(rows)}."


def _apart(plan: Plan, data: str) -> Iterator[tuple[str, str]]:
    """Yield rows, and how their budget differs from that of rows that use the base options."""
    flat = {row: _flat(plan.config(row, data, 0).to_dict()) for row in plan.rows}
    for option in _BUDGET:
        own = [row for row, options in plan.rows.items() if option in option_names(options)]
        usual = flat[next((row for row in plan.rows if row not in own), own[0] if own else "")]
        for row in own:
            for name, value in flat[row].items():
                ours = name == option or name.startswith(f"{option}.")
                if ours and name in usual and value != usual[name]:
                    yield row, f"{name} {value if isinstance(value, str) else json.dumps(value)}"


def _flat(options: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Flatten options: dotted name -> value."""
    found: dict[str, Any] = {}
    for name, value in options.items():
        found |= (
            _flat(value, f"{prefix}{name}.")
            if isinstance(value, Mapping)
            else {f"{prefix}{name}": value}
        )
    return found
