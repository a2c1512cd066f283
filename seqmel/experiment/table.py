"""What an experiment found: long results for programs, a table with intervals for people, and a picture."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from seqmel.experiment.plan import Cell, Plan
from seqmel.files import written_beside

__all__ = ["half_width", "long_results", "markdown", "write_results"]

_KEYS = ["data", "target", "metric", "features"]


def long_results(cells: Mapping[Cell, list[dict[str, Any]]]) -> pd.DataFrame:
    """One line a data set, target, set of features, seed, fold and metric; `primary` marks the metric to look at first."""
    lines = [
        {"data": cell.data, "target": scores["target"], "metric": row["metric"], "features": row["features"],
         "seed": cell.seed, "fold": fold, "value": value, "primary": row["metric"] == scores["primary"]}
        for cell, found in cells.items() for scores in found for row in scores["scores"]
        for fold, value in enumerate(row["folds"])
    ]  # fmt: skip
    results: pd.DataFrame = pd.DataFrame(lines)
    return results


def half_width(values: npt.NDArray[np.float64]) -> float:
    """Half of a 95 % interval of the mean of (seeds, folds) values.

    Which clients are tested and which seed trains are two sources of chance: the squared standard errors of the means of
    the folds and of the means of the seeds are added, and Student's t has the degrees of freedom that such a sum has
    (Satterthwaite, 1946): between those of the lesser part and of both together. With one seed it says nothing of seeds. (It is
    somewhat too narrow where folds share training clients, Bengio, Grandvalet, 2004, and with two seeds that differ more than
    folds do.)
    """
    from scipy.stats import t

    squared = np.array([values.mean(axis).var(ddof=1) / n for axis, n in enumerate(values.shape[::-1]) if n > 1])
    freedom = np.array([n - 1 for n in values.shape[::-1] if n > 1])
    total = squared.sum()
    if not total:
        return 0.0
    shares = squared / total  # and not squares of what may be tiny
    return float(t.ppf(0.975, 1 / (shares**2 / freedom).sum()) * np.sqrt(total))


def write_results(plan: Plan, cells: Mapping[Cell, list[dict[str, Any]]], output: Path) -> Path:
    """Write results.parquet, table.md and table.png; gives the path of the table."""
    results = long_results(cells)
    with written_beside(output / "results.parquet") as partial:
        results.to_parquet(partial, index=False)
    with written_beside(output / "table.md") as partial:
        partial.write_text(markdown(plan, results), encoding="utf-8")
    with written_beside(output / "table.png") as partial:
        partial.write_bytes(_picture(results[results["primary"]]))
    return output / "table.md"


def _grid(lines: pd.DataFrame) -> npt.NDArray[np.float64]:
    """(seeds, folds)."""
    return np.asarray(lines.pivot(index="seed", columns="fold", values="value").to_numpy(np.float64))


def _grids(results: pd.DataFrame) -> dict[tuple[str, str, str], dict[str, npt.NDArray[np.float64]]]:
    """(data, target, primary metric) -> features -> (seeds, folds)."""
    grids: dict[tuple[str, str, str], dict[str, npt.NDArray[np.float64]]] = {}
    for (data, target, metric, features), lines in results[results["primary"]].groupby(_KEYS, sort=False):
        grids.setdefault((data, target, metric), {})[features] = _grid(lines)
    return grids


def markdown(plan: Plan, results: pd.DataFrame) -> str:
    """A table a data set and target: rows as in the plan, mean and interval, the difference to the first row, and figures
    that others published."""
    parts = [
        f"LightGBM, {plan.trees} trees, {plan.folds} folds, {_seeds(plan)}; mean ± 95 % interval over folds and seeds."
    ]
    if plan.published:
        parts.append(
            "Published figures are of other data, or other runs, than ours: what can be compared is the order of rows."
        )
    for (data, target, metric), sets in _grids(results).items():
        first, base = next(iter(sets.items()))
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
    return "\n\n".join(parts) + "\n"


def _seeds(plan: Plan) -> str:
    """The seeds of the training in words, by data set where they differ."""
    words = {}
    for data in plan.data:
        seeds = plan.seeds_of(data)
        words[data] = f"seed{'s' if len(seeds) > 1 else ''} {', '.join(map(str, seeds))}"
    found = set(words.values())
    return found.pop() if len(found) == 1 else "; ".join(f"{data}: {seeds}" for data, seeds in words.items())


def _picture(results: pd.DataFrame) -> bytes:
    """Means and intervals as points with bars, one panel a data set and target."""
    import io

    from matplotlib.figure import Figure

    grids = _grids(results)
    most = max(len(sets) for sets in grids.values())
    figure = Figure(figsize=(8, len(grids) * (0.8 + 0.28 * most)), layout="constrained")
    for axes, ((data, target, metric), sets) in zip(
        figure.subplots(len(grids), squeeze=False)[:, 0], grids.items(), strict=True
    ):
        places = np.arange(len(sets))[::-1]
        widths = [half_width(grid) for grid in sets.values()]
        axes.errorbar([g.mean() for g in sets.values()], places, xerr=widths, fmt="o", capsize=3, color="#2f6f9f")
        axes.set_yticks(places, list(sets))
        axes.set_title(f"{data}: {target}, {metric}", loc="left", fontsize=10)
        axes.grid(axis="x", alpha=0.3)
        axes.spines[["top", "right"]].set_visible(False)
    picture = io.BytesIO()
    figure.savefig(picture, format="png", dpi=120, metadata={"Software": None})
    return picture.getvalue()
