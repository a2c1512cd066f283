"""Errors and calibration of predictions by group: does a score serve all kinds of clients alike?

Of two classes, clients are selected as a score is used: in each test part as many of those with the
highest predictions as are of the second class. Groups can then differ in who is selected
(demographic parity), in how many of the second class are found (equal opportunity), in false alarms
(both together: equalised odds; Hardt, Price, Srebro, NeurIPS 2016, arXiv 1610.02413), and in
calibration.

Of the time to an event, `concordance` is how many pairs are in the right order, of the pairs of a
group's events with all clients of the test part; and `expected` is the predicted number of events
until the end of each observation, or the last bound, over the observed number: 1.2 is a fifth too
much.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from seqmel.core.errors import InputError
from seqmel.core.survival import concordant_pairs, expected_events
from seqmel.data.tables.survival import observed_times
from seqmel.evaluation.feature_sets import reference
from seqmel.evaluation.group_results import GroupGap, GroupRow, Groups
from seqmel.evaluation.metrics import Floats
from seqmel.evaluation.problem import Problem

__all__ = ["by_group", "group_names"]

_MOST_VALUES = 12  # numbers with more distinct values are cut into quarters
_NUMBER = re.compile(r"^(?:from )?(-?\d[\d.e+-]*)")
_FEWEST = 20  # clients of a group; smaller ones are joined
_RESAMPLES = 200

Measures = dict[str, tuple[Floats, Floats]]
"""Measure -> (rows,) parts of its numerator and of its denominator."""


def group_names(values: pd.Series[Any]) -> pd.Series[Any]:
    """Return the group of each row as text.

    Numbers with more than twelve distinct values are cut into quarters, groups of fewer than twenty
    rows are joined as "others", and nulls are "missing".

    Raises:
        InputError: There is one group only.
    """
    found = values.astype(object)
    number = pd.api.types.is_numeric_dtype(values) and not pd.api.types.is_bool_dtype(values)
    if number and values.nunique() > _MOST_VALUES:
        edges = np.unique(np.quantile(values.dropna(), [0.25, 0.5, 0.75]))
        places = np.digitize(values.to_numpy(np.float64, na_value=np.nan), edges)
        words = [f"below {edges[0]:g}"]
        words += [f"{low:g} to {high:g}" for low, high in itertools.pairwise(edges)]
        words.append(f"from {edges[-1]:g}")
        found = pd.Series(np.array(words, object)[places], values.index).where(values.notna())
    names: pd.Series[Any] = found.map(lambda value: "missing" if pd.isna(value) else _plain(value))
    few = names.map(names.value_counts()) < _FEWEST
    names = names.where(~few, "others")
    if names.nunique() < 2:
        raise InputError(
            f"Column {values.name!r} has one group of at least {_FEWEST} rows only among the "
            f"{len(values):,} that are scored. Name another column with --by."
        )
    return names


def _in_order(name: str) -> tuple[bool, float, str]:
    """Sort numbers and ranges by number, all else by name, and the rest to the end."""
    number = _NUMBER.search(name)
    low = float(number[1]) if number else 0.0
    return name in ("others", "missing"), -np.inf if name.startswith("below ") else low, name


def _plain(value: Any) -> str:
    whole = isinstance(value, float) and value.is_integer()
    return str(int(value)) if whole else str(value)


def by_group(
    problem: Problem, predicted: Mapping[str, Sequence[Floats]], groups: pd.Series[Any]
) -> Groups:
    """Measure predictions by group.

    Args:
        problem: The target and its test parts.
        predicted: Feature set -> the predictions of the test part of each fold.
        groups: A column of any type, with one value per row of the problem; see `group_names`.

    Returns:
        The measures of each group, and their gaps with intervals.

    Raises:
        InputError: There is one group only.
    """
    tested = np.concatenate([test for _, test in problem.splits])
    of_rows = group_names(groups.iloc[tested])
    names = sorted(of_rows.unique(), key=_in_order)
    codes = pd.Index(names).get_indexer(pd.Index(of_rows))
    target = problem.target[tested].astype(np.float64)
    if problem.edges:
        target = observed_times(target)[1].astype(np.float64)
    means = _ratios(target, np.ones_like(target), codes, len(names))
    if len(problem.classes) > 2:
        means = np.full(len(names), np.nan)
    counts = np.bincount(codes, minlength=len(names))
    baseline = reference(predicted)
    rows: list[GroupRow] = []
    gaps: list[GroupGap] = []
    of_baseline: dict[str, _Resampled] = {}
    for features in sorted(predicted, key=lambda name: name != baseline):
        measures = _measures(problem, predicted[features])
        found = {
            measure: _Resampled.of(parts, codes, len(names), problem.seed)
            for measure, parts in measures.items()
        }
        if features == baseline:
            of_baseline = found
        for place, name in enumerate(names):
            values = {measure: float(one.values[place]) for measure, one in found.items()}
            intervals = {m: _interval(one.drawn[:, place]) for m, one in found.items()}
            count, mean = int(counts[place]), float(means[place])
            rows.append(GroupRow(features, str(name), count, mean, values, intervals))
        for measure, one in found.items():
            gap, drawn = float(_gaps(one.values)), _gaps(one.drawn)
            difference = None
            if of_baseline and features != baseline:
                other = of_baseline[measure]
                change = float(gap - _gaps(other.values))
                difference = change, _interval(drawn - _gaps(other.drawn))
            gaps.append(GroupGap(features, measure, gap, _interval(drawn), one.chance, difference))
    order = list(predicted)
    rows.sort(key=lambda row: order.index(row.features))
    gaps.sort(key=lambda gap: order.index(gap.features))
    return Groups(str(groups.name), tuple(rows), tuple(gaps), baseline)


def _measures(problem: Problem, of_folds: Sequence[Floats]) -> Measures:
    """Return the parts of each measure over the rows of all test parts."""
    targets = [problem.target[test] for _, test in problem.splits]
    y = np.concatenate(targets)
    every = np.ones(len(y))
    if problem.edges:
        return _survival_measures(targets, of_folds, problem.edges)
    if not problem.classes:
        error = np.concatenate(of_folds).astype(np.float64) - y
        return {"mae": (np.abs(error), every), "bias": (error, every)}
    if len(problem.classes) > 2:
        p = np.concatenate(of_folds).astype(np.float64)
        loss = -np.log(np.maximum(p[np.arange(len(y)), y], 1e-15))
        return {"accuracy": ((p.argmax(1) == y).astype(float), every), "log_loss": (loss, every)}
    p = np.concatenate([found[:, 1] for found in of_folds]).astype(np.float64)
    selected = np.concatenate(
        [_selected(found[:, 1], int(t.sum())) for found, t in zip(of_folds, targets, strict=True)]
    )
    second = y.astype(np.float64)
    return {
        "selected": (selected, every),
        "found": (selected * second, second),
        "false_alarms": (selected * (1 - second), 1 - second),
        "calibration": (p - second, every),
    }


def _survival_measures(
    targets: Sequence[npt.NDArray[Any]], of_folds: Sequence[Floats], edges: Sequence[float]
) -> Measures:
    """Return the parts of the measures of times to an event."""
    parts = []
    for target, found in zip(targets, of_folds, strict=True):
        times, observed = observed_times(target)
        survival = found.astype(np.float64)
        pairs = concordant_pairs(times, observed, -survival.sum(axis=1))
        happened = (observed & (times <= edges[-1])).astype(np.float64)
        parts.append((*pairs, expected_events(times, survival, edges), happened))
    concordant, comparable, expected, happened = map(np.concatenate, zip(*parts, strict=True))
    return {"concordance": (concordant, comparable), "expected": (expected, happened)}


def _selected(p: Floats, count: int) -> Floats:
    """Mark the rows with the highest predictions, earlier rows first where they are equal."""
    chosen = np.zeros(len(p))
    chosen[np.argsort(-p, kind="stable")[:count]] = 1
    return chosen


def _ratios(
    numerator: Floats, denominator: Floats, codes: npt.NDArray[np.intp], count: int
) -> Floats:
    """Return (groups,) ratios of sums; NaN without a denominator."""
    sums = np.bincount(codes, numerator, count), np.bincount(codes, denominator, count)
    found: Floats = np.divide(*sums, out=np.full(count, np.nan), where=sums[1] > 0)
    return found


def _gaps(values: Floats) -> Floats:
    """Return the largest minus the smallest over the last axis; NaN if fewer than two are known."""
    known = np.isfinite(values).sum(axis=-1) > 1
    highest = np.where(np.isfinite(values), values, -np.inf).max(axis=-1)
    lowest = np.where(np.isfinite(values), values, np.inf).min(axis=-1)
    return np.asarray(np.where(known, highest - np.where(known, lowest, 0), np.nan))


@dataclass(frozen=True)
class _Resampled:
    """A measure by group.

    Attributes:
        values: (groups,) values.
        drawn: (resamples, groups) values of bootstrap resamples of the rows. The resamples are the
            same for all feature sets, so that their gaps can be compared.
        chance: mean gap of shuffled groups.
    """

    values: Floats
    drawn: Floats
    chance: float

    @classmethod
    def of(
        cls, parts: tuple[Floats, Floats], codes: npt.NDArray[np.intp], count: int, seed: int
    ) -> _Resampled:
        """Measure the groups, resamples and shuffled groups."""
        random = np.random.default_rng(seed)
        numerator, denominator = parts
        drawn = []
        shuffled = []
        for _ in range(_RESAMPLES):
            weights = random.poisson(1.0, len(codes))
            drawn.append(_ratios(numerator * weights, denominator * weights, codes, count))
            mixed = random.permutation(codes)
            shuffled.append(_gaps(_ratios(numerator, denominator, mixed, count)))
        chance = float(np.nanmean(shuffled)) if np.isfinite(shuffled).any() else np.nan
        return cls(_ratios(*parts, codes, count), np.stack(drawn), chance)


def _interval(drawn: Floats) -> tuple[float, float]:
    """Return the 95 % interval of resampled values; NaN if none is known."""
    if not np.isfinite(drawn).any():
        return np.nan, np.nan
    low, high = np.nanpercentile(drawn, [2.5, 97.5])
    return float(low), float(high)
