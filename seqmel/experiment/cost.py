"""What the rows of an experiment cost, and which of them are not on the budget of the others."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, TypeAlias

import pandas as pd

from seqmel.experiment.labels import with_share
from seqmel.experiment.plan import Plan, option_names

__all__ = ["Cost", "budgets", "cost", "cost_table", "with_cost"]

Cost: TypeAlias = tuple[float, int]
"""Seconds and optimiser steps of a training."""

_BUDGET = ("training.epochs", "training.batch_size", "views")


def cost(metrics: Mapping[str, Any]) -> Cost:
    """Seconds and optimiser steps of a training, with those of the one that it began from.

    Args:
        metrics: of a model: its seconds and its history, and in `pretraining` the metrics of the model before, if any.
    """
    before = cost(metrics["pretraining"]) if metrics.get("pretraining") else (0.0, 0)
    steps = metrics["history"][-1]["steps"] if metrics["history"] else 0
    return before[0] + metrics["seconds"], before[1] + int(steps)


def with_cost(scores: Iterable[dict[str, Any]], costs: Sequence[Cost]) -> list[dict[str, Any]]:
    """Scores as `Score.to_json` has them, each with what the training behind every fold cost."""
    seconds, steps = map(list, zip(*costs, strict=True))
    return [score | {"seconds": seconds, "steps": steps} for score in scores]


def cost_table(plan: Plan, results: pd.DataFrame) -> str:
    """Seconds and steps of one model of each row, medians over seeds, targets and folds; empty where nothing is known.

    Args:
        plan: the rows; one that learns labels costs what it does with the largest share of them.
        results: as from `long_results`.
    """
    known = results.dropna(subset=["seconds", "steps"])
    if known.empty:
        return ""
    medians = {
        (data, features): (lines["seconds"].median(), lines["steps"].astype(float).median())
        for (data, features), lines in known.groupby(["data", "features"])
    }
    heads = ["one model", *(f"{data}: {what}" for data in plan.data for what in ("seconds", "steps"))]
    lines = [f"| {' | '.join(heads)} |", "|---" * len(heads) + "|"]
    for row in plan.rows:
        name = with_share(row, max(plan.label_fractions))
        cells = [cell for data in plan.data for cell in _cells(medians.get((data, name)))]
        lines.append(f"| {' | '.join([row, *cells])} |")
    return "\n".join(lines)


def _cells(medians: tuple[float, float] | None) -> tuple[str, str]:
    if medians is None:
        return "", ""
    seconds, steps = medians
    return f"{seconds:,.1f}" if seconds < 10 else f"{seconds:,.0f}", f"{steps:,.0f}"


def budgets(plan: Plan) -> str:
    """A sentence that names the rows whose epochs, batch size or views are their own, and not those of the other rows."""
    apart: dict[str, dict[str, list[str]]] = {}
    for data in plan.data:
        for row, words in _apart(plan, data):
            apart.setdefault(row, {}).setdefault(words, []).append(data)
    if not apart:
        return "All rows have the same training.epochs, training.batch_size and views."
    rows = []
    for row, found in apart.items():
        said = [text if len(on) == len(plan.data) else f"{text} on {', '.join(on)}" for text, on in found.items()]
        rows.append(f"{row} ({', '.join(said)})")
    return f"Not on the budget of the others: {'; '.join(rows)}."


def _apart(plan: Plan, data: str) -> Iterator[tuple[str, str]]:
    """Rows, and what their budget has that those have not which leave it to the base; the first row, where none does."""
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
    """Dotted name -> value."""
    found: dict[str, Any] = {}
    for name, value in options.items():
        found |= _flat(value, f"{prefix}{name}.") if isinstance(value, Mapping) else {f"{prefix}{name}": value}
    return found
