"""Results of an experiment: a long table for programs, and a table with intervals for people."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from seqmel.core.atomic_files import atomic_write
from seqmel.core.units import count_words
from seqmel.evaluation.feature_sets import reference
from seqmel.experiment.cost import budgets, cost_table
from seqmel.experiment.intervals import grids, half_width
from seqmel.experiment.labels import without_fraction
from seqmel.experiment.picture import picture
from seqmel.experiment.plan import Cell, Plan

__all__ = ["long_results", "markdown", "write_results"]


def long_results(cells: Mapping[Cell, list[dict[str, Any]]]) -> pd.DataFrame:
    """Return one row per data set, target, set of features, seed, fold and metric.

    `primary` marks the primary metric. `seconds` and `steps` are the cost of the training behind a
    score. They are null for aggregates, and for cells of versions that did not record them.
    """
    lines = [
        {
            "data": cell.data,
            "target": scores["target"],
            "metric": row["metric"],
            "features": row["features"],
            "seed": cell.seed,
            "fold": fold,
            "value": value,
            "primary": row["metric"] == scores["primary"],
            "seconds": row["seconds"][fold] if "seconds" in row else None,
            "steps": row["steps"][fold] if "steps" in row else None,
        }
        for cell, found in cells.items()
        for scores in found
        for row in scores["scores"]
        for fold, value in enumerate(row["folds"])
    ]
    results: pd.DataFrame = pd.DataFrame(lines).astype({"seconds": "float64", "steps": "Int64"})
    return results


def write_results(plan: Plan, cells: Mapping[Cell, list[dict[str, Any]]], output: Path) -> Path:
    """Write results.parquet, table.md and table.png. Return the path of table.md."""
    results = long_results(cells)
    with atomic_write(output / "results.parquet") as partial:
        results.to_parquet(partial, index=False)
    with atomic_write(output / "table.md") as partial:
        partial.write_text(markdown(plan, results), encoding="utf-8")
    with atomic_write(output / "table.png") as partial:
        partial.write_bytes(picture(plan, results))
    return output / "table.md"


def markdown(plan: Plan, results: pd.DataFrame) -> str:
    """Return the tables of an experiment as Markdown.

    There is one table per data set and target, with the rows of the plan: mean and interval, the
    difference to the aggregates or the first row, and published results. Then follow the costs of
    the rows, and rows with another budget.
    """
    parts = [
        (
            f"LightGBM, {count_words(plan.trees, 'tree')}, {count_words(plan.folds, 'fold')}, "
            f"{_seeds(plan)}; mean ± 95 % interval over folds and seeds."
        )
    ]
    roles = ", ".join(f"{name} ({of.role}s)" for name, of in plan.data.items() if of.role)
    if roles:
        parts.append(f"Defaults are chosen on some sets and confirmed on others: {roles}.")
    if plan.published:
        parts.append(
            "Published results are of other data or other runs than ours: only the order of rows "
            "can be compared."
        )
    for (data, target, metric), sets in grids(results).items():
        first = _references(plan, list(sets))
        base = without_fraction(plan, next(iter(first.values())))
        if len(set(first.values())) > 1:
            base += ", as many labels"
        published = [part for part in plan.published if part.applies_to(data, target)]
        heads = [
            f"{data}: {target}",
            metric,
            f"minus {base}",
            *(f"published: {part.figures}" for part in published),
        ]
        lines = [f"| {' | '.join(heads)} |", "|---" * len(heads) + "|"]
        for name, grid in sets.items():
            apart = grid - sets[first[name]]  # broadcasts if only one of them has several seeds
            difference = (
                "" if name == first[name] else f"{apart.mean():+.3f} ± {half_width(apart):.3f}"
            )
            theirs = [str(part.rows.get(name, "")) for part in published]
            cells = [name, f"{grid.mean():.3f} ± {half_width(grid):.3f}", difference, *theirs]
            lines.append(f"| {' | '.join(cells)} |")
        parts.append("\n".join(lines))
    costs = cost_table(plan, results)
    if costs:
        parts.append(
            "Cost of one model of a row: seconds of training, and steps of the optimiser. Rows "
            "that use labels include pretraining and the training on the fold. Medians over seeds, "
            "targets and folds."
        )
        parts.append(costs)
    parts.append(budgets(plan))
    return "\n\n".join(parts) + "\n"


def _references(plan: Plan, names: list[str]) -> dict[str, str]:
    """Map each set of features to the one it is compared with, which has as many labels."""
    by_fraction: dict[str, list[str]] = {}
    for name in names:
        by_fraction.setdefault(name.removeprefix(without_fraction(plan, name)), []).append(name)
    found: dict[str, str] = {}
    for suffix, group in by_fraction.items():
        base = reference([name.removesuffix(suffix) for name in group])
        found |= dict.fromkeys(group, group[0] if base is None else base + suffix)
    return found


def _seeds(plan: Plan) -> str:
    """Format the seeds of training, by data set if they differ."""
    words = {}
    for data in plan.data:
        seeds = plan.seeds_of(data)
        words[data] = f"seed{'s' if len(seeds) > 1 else ''} {', '.join(map(str, seeds))}"
    found = set(words.values())
    return (
        found.pop()
        if len(found) == 1
        else "; ".join(f"{data}: {seeds}" for data, seeds in words.items())
    )
