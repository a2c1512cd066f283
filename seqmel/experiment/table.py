"""What an experiment found: long results for programs, a table with intervals for people."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from seqmel.core.atomic_files import atomic_write
from seqmel.evaluation.feature_sets import reference
from seqmel.experiment.cost import budgets, cost_table
from seqmel.experiment.intervals import grids, half_width
from seqmel.experiment.picture import picture
from seqmel.experiment.plan import Cell, Plan

__all__ = ["long_results", "markdown", "write_results"]


def long_results(cells: Mapping[Cell, list[dict[str, Any]]]) -> pd.DataFrame:
    """One line a data set, target, set of features, seed, fold and metric; `primary` marks the metric to look at first.

    `seconds` and `steps` of the optimiser are those of the training that the score rests on: null of aggregates, and where a
    cell was run by a version that did not count.
    """
    lines = [
        {"data": cell.data, "target": scores["target"], "metric": row["metric"], "features": row["features"],
         "seed": cell.seed, "fold": fold, "value": value, "primary": row["metric"] == scores["primary"],
         "seconds": row["seconds"][fold] if "seconds" in row else None,
         "steps": row["steps"][fold] if "steps" in row else None}
        for cell, found in cells.items() for scores in found for row in scores["scores"]
        for fold, value in enumerate(row["folds"])
    ]  # fmt: skip
    results: pd.DataFrame = pd.DataFrame(lines).astype({"seconds": "float64", "steps": "Int64"})
    return results


def write_results(plan: Plan, cells: Mapping[Cell, list[dict[str, Any]]], output: Path) -> Path:
    """Write results.parquet, table.md and table.png; gives the path of the table."""
    results = long_results(cells)
    with atomic_write(output / "results.parquet") as partial:
        results.to_parquet(partial, index=False)
    with atomic_write(output / "table.md") as partial:
        partial.write_text(markdown(plan, results), encoding="utf-8")
    with atomic_write(output / "table.png") as partial:
        partial.write_bytes(picture(plan, results))
    return output / "table.md"


def markdown(plan: Plan, results: pd.DataFrame) -> str:
    """A table a data set and target: rows as in the plan, mean and interval, the difference to the aggregates or else the first row, and figures
    that others published. Then what the rows cost, and which are not on the budget of the others."""
    parts = [
        f"LightGBM, {plan.trees} trees, {plan.folds} folds, {_seeds(plan)}; mean ± 95 % interval over folds and seeds."
    ]
    roles = ", ".join(f"{name} ({of.role}s)" for name, of in plan.data.items() if of.role)
    if roles:
        parts.append(f"Defaults are chosen on some sets and confirmed on others: {roles}.")
    if plan.published:
        parts.append(
            "Published figures are of other data, or other runs, than ours: what can be compared is the order of rows."
        )
    for (data, target, metric), sets in grids(results).items():
        first = reference(sets) or next(iter(sets))
        base = sets[first]
        published = [part for part in plan.published if part.beside(data, target)]
        heads = [f"{data}: {target}", metric, f"minus {first}", *(f"published: {part.figures}" for part in published)]
        lines = [f"| {' | '.join(heads)} |", "|---" * len(heads) + "|"]
        for name, grid in sets.items():
            apart = grid - base  # of one seed against several, each is compared with the one
            difference = "" if name == first else f"{apart.mean():+.3f} ± {half_width(apart):.3f}"
            theirs = [str(part.rows.get(name, "")) for part in published]
            cells = [name, f"{grid.mean():.3f} ± {half_width(grid):.3f}", difference, *theirs]
            lines.append(f"| {' | '.join(cells)} |")
        parts.append("\n".join(lines))
    costs = cost_table(plan, results)
    if costs:
        parts.append(
            "What one model of a row costs: seconds of training, and steps of the optimiser; of rows that learn labels,"
            " those before and those of the fold. Medians over seeds, targets and folds."
        )
        parts.append(costs)
    parts.append(budgets(plan))
    return "\n\n".join(parts) + "\n"


def _seeds(plan: Plan) -> str:
    """The seeds of the training in words, by data set where they differ."""
    words = {}
    for data in plan.data:
        seeds = plan.seeds_of(data)
        words[data] = f"seed{'s' if len(seeds) > 1 else ''} {', '.join(map(str, seeds))}"
    found = set(words.values())
    return found.pop() if len(found) == 1 else "; ".join(f"{data}: {seeds}" for data, seeds in words.items())
