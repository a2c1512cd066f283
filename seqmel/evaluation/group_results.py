"""Results by group, as tables and JSON; `by_group` computes them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from rich.table import Table

__all__ = ["GroupGap", "GroupRow", "Groups"]

_TITLES = {
    "selected": "selected",
    "found": "found",
    "false_alarms": "false alarms",
    "calibration": "calibration",
    "accuracy": "accuracy",
    "log_loss": "log-loss",
    "mae": "MAE",
    "bias": "bias",
    "concordance": "concordance",
    "expected": "expected / observed",
}


@dataclass(frozen=True)
class GroupRow:
    """One group under the predictions from one feature set.

    Attributes:
        features: Name of the feature set.
        group: The group.
        clients: Number of scored rows.
        mean: Mean of the target: the fraction of the second of two classes or of observed events,
            or of a quantity; NaN for more classes.
        values: Measure -> value; NaN where it is undefined.
        intervals: Measure -> its 95 % interval over bootstrap resamples of the rows.
    """

    features: str
    group: str
    clients: int
    mean: float
    values: dict[str, float]
    intervals: dict[str, tuple[float, float]]


@dataclass(frozen=True)
class GroupGap:
    """The largest minus the smallest value of a measure over the groups.

    Attributes:
        features: Name of the feature set.
        measure: The measure.
        value: The gap.
        interval: Its 95 % interval over bootstrap resamples of the rows.
        chance: The mean gap where the groups are shuffled: what groups of these sizes differ by
            anyway.
        difference: The gap minus that of the aggregates, and its 95 % interval over the same
            resamples; None of the aggregates themselves.
    """

    features: str
    measure: str
    value: float
    interval: tuple[float, float]
    chance: float
    difference: tuple[float, tuple[float, float]] | None = None


@dataclass(frozen=True)
class Groups:
    """Predictions by group, for all feature sets.

    Attributes:
        column: The column of the groups.
        rows: One per feature set and group.
        gaps: One per feature set and measure.
        baseline: The feature set that gaps are compared with, if it is among them.
    """

    column: str
    rows: tuple[GroupRow, ...]
    gaps: tuple[GroupGap, ...]
    baseline: str | None = None

    def to_json(self) -> dict[str, Any]:
        """Return values for JSON; undefined ones are None."""
        rows = [
            {**vars(row), "mean": _or_none(row.mean)}
            | {"values": {name: _or_none(value) for name, value in row.values.items()}}
            | {"intervals": {name: _ends(ends) for name, ends in row.intervals.items()}}
            for row in self.rows
        ]
        gaps = [
            {
                "features": gap.features,
                "measure": gap.measure,
                "gap": _or_none(gap.value),
                "interval": _ends(gap.interval),
                "chance": _or_none(gap.chance),
                "difference": None if gap.difference is None else _or_none(gap.difference[0]),
                "difference_interval": None if gap.difference is None else _ends(gap.difference[1]),
            }
            for gap in self.gaps
        ]
        return {
            "column": self.column,
            "groups": rows,
            "gaps": gaps,
            "baseline": self.baseline,
        }

    def tables(self, shown: Sequence[str]) -> Iterable[Table]:
        """Yield a table of the groups for each of these feature sets, then tables of the gaps.

        The last table compares the gaps of these feature sets with those of the baseline.
        """
        from rich.markup import escape
        from rich.table import Table

        measures = list(self.rows[0].values)
        titles = [_TITLES[name] for name in measures]
        style: dict[str, Any] = {"box": None, "pad_edge": False, "title_justify": "left"}
        for features in shown:
            table = Table(
                escape(self.column),
                "rows",
                "mean",
                *titles,
                title=f"{escape(features)} by {escape(self.column)}",
                **style,
            )
            for row in self.rows:
                if row.features == features:
                    values = (_three(value) for value in row.values.values())
                    table.add_row(escape(row.group), f"{row.clients:,}", _three(row.mean), *values)
            yield table
        table = Table(
            "measure",
            "features",
            "gap",
            "95 % interval",
            "by chance",
            title="largest minus smallest group",
            **style,
        )
        for gap in sorted(self.gaps, key=lambda gap: measures.index(gap.measure)):
            low, high = gap.interval
            interval = f"{_three(low)} to {_three(high)}"
            name = _TITLES[gap.measure]
            chance = _three(gap.chance)
            table.add_row(name, escape(gap.features), _three(gap.value), interval, chance)
        yield table
        table = Table(
            "measure",
            "features",
            "difference",
            "95 % interval",
            title=f"that gap minus the gap of {escape(str(self.baseline))}",
            **style,
        )
        for gap in sorted(self.gaps, key=lambda gap: measures.index(gap.measure)):
            if gap.difference is not None and gap.features in shown:
                value, (low, high) = gap.difference
                interval = f"{_three(low)} to {_three(high)}"
                name = _TITLES[gap.measure]
                table.add_row(name, escape(gap.features), _three(value), interval)
        if table.row_count:
            yield table


def _three(value: float) -> str:
    if not np.isfinite(value):
        return "-"
    return f"{value:.3f}" if abs(value) < 100 else f"{value:,.0f}"


def _or_none(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None


def _ends(interval: tuple[float, float]) -> list[float | None]:
    return [_or_none(end) for end in interval]
