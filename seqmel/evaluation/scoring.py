"""Scores of feature sets on one target, with the same clients and folds for all sets and models.

The protocol is that of CoLES (Babaev et al., arXiv 2002.08232): stratified folds, gradient boosting
on the vectors, and the mean over the folds with a 95 % interval. The folds are shared, so two sets
are compared by their paired difference.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from seqmel.core.progress import Reporting, as_progress
from seqmel.data.tables.targets import TargetTask
from seqmel.evaluation.by_group import by_group
from seqmel.evaluation.downstream import (
    CachedPredictor,
    Downstream,
    LinearProbe,
    side_by_side,
    spread_boosters,
)
from seqmel.evaluation.feature_sets import BASELINES
from seqmel.evaluation.metrics import Floats
from seqmel.evaluation.problem import build_problem, check_counts, feature_matrix, summarised
from seqmel.evaluation.results import Score, Scores
from seqmel.evaluation.splits import Split

__all__ = ["score"]


def score(
    y: pd.Series[Any],
    features: Mapping[str, pd.DataFrame],
    *,
    probes: Mapping[str, str] | None = None,
    averages: Mapping[str, Sequence[str]] | None = None,
    task: TargetTask = "auto",
    observed: pd.Series[Any] | None = None,
    time_edges: Sequence[float] | None = None,
    folds: int = 5,
    seed: int = 0,
    trees: int = 500,
    threads: int | None = None,
    split: Split | None = None,
    metric: str | None = None,
    by: pd.Series[Any] | None = None,
    kept: Path | None = None,
    progress: Reporting = None,
) -> Scores:
    """Cross-validate LightGBM on every feature set, and linear probes on some.

    Args:
        y: one label per client, indexed by client id, as from `read_labels`. Null labels are left
            out. The index may hold clients and moments, if the features do too; all rows of a
            client are then in one fold.
        features: name -> one row of numbers per client, indexed like y; NaN is missing. A client
            that is missing in one feature set is left out of all.
        probes: name -> feature set for a linear probe (logistic or ridge regression).
        averages: name -> feature sets or probes to average, without further training: the geometric
            mean of their predicted probabilities, or the mean of their predicted quantities.
        task: "classification", "regression", "survival" or "auto", which treats a number with more
            than 20 distinct values as a quantity and all else as classes. "survival" takes y as
            times to an event, which may be censored.
        observed: with the task "survival", whether each event was observed, indexed like y; a time
            without is censored.
        time_edges: with the task "survival", the bounds at which probabilities of a later event are
            compared, such as [30, 60, 90]; None takes quantiles of the observed times.
        folds: number of folds, stratified by class.
        seed: seed of the folds and the models. Scores are deterministic, and do not depend on the
            order of the rows.
        trees: number of LightGBM trees.
        threads: maximum number of threads of all models together; None uses all cores.
        split: `GroupFolds` or `OutOfTime`; None draws random folds. `OutOfTime` has one test part,
            with a 95 % interval from 500 bootstrap resamples of its clients.
        metric: the primary metric, such as "average_precision", "ks" or "lift_at_5". None takes
            AUROC for two classes, accuracy for more, R2 for a quantity.
        by: a column of groups, indexed like y, to compare errors and calibration between; see
            `Groups`.
        kept: cache folder for the predictions of LightGBM on the aggregates, for scoring them again
            with other vectors.
        progress: None shows progress on a terminal and in a notebook, True everywhere, False
            nowhere; or a `Progress`.

    Returns:
        One score per feature set and metric: a value per fold, the mean and a 95 % interval.

    Raises:
        ConfigError: no features, an unknown task or metric, `folds` below 2, `trees` or `threads`
            below 1, or a negative seed.
        InputError: no common client, fewer than two clients per fold, fewer than two classes, a
            class with fewer clients than folds, a part that lacks a class, a client in both parts,
            or a target or feature that should be numeric and is not.

    Examples:
        >>> import numpy as np, pandas as pd
        >>> import seqmel
        >>> signal = pd.DataFrame({"x": np.arange(40.0)}, index=pd.Index(range(40), name="client"))
        >>> y = pd.Series(np.arange(40) % 2, index=signal.index, name="odd")
        >>> seqmel.score(y, {"signal": signal}, folds=2, trees=5).classes
        {'0': 20, '1': 20}
    """
    check_counts(trees=(trees, 1), threads=(threads, 1))
    problem, scored, matched = build_problem(
        y, features, task, folds, seed, split, observed, time_edges
    )
    primary = problem.chosen(metric)
    matrices = {
        name: feature_matrix(table.loc[scored.index], name) for name, table in matched.items()
    }
    count = len(problem.splits)
    probe = LinearProbe(seed)
    booster, workers = spread_boosters(threads, matrices.values(), count, trees=trees, seed=seed)
    asked: list[tuple[str, str, Downstream]] = [
        (name, name, CachedPredictor(booster, kept) if kept and name in BASELINES else booster)
        for name in matched
    ]
    asked += [(name, of, probe) for name, of in (probes or {}).items()]
    predicted: dict[str, list[Floats]] = {name: [] for name, _, _ in asked}
    jobs = [(matrices[of], fold, model) for _, of, model in asked for fold in range(count)]
    names = [name for name in predicted for _ in range(count)]
    with as_progress(progress).task(f"score {y.name}", len(jobs), "folds") as bar:
        for name, values in zip(names, side_by_side(problem.predict, jobs, workers), strict=True):
            predicted[name].append(values)
            bar.advance(1, name)
    for name, parts in (averages or {}).items():
        predicted[name] = [
            problem.average([predicted[part][fold] for part in parts]) for fold in range(count)
        ]
    rows: list[Score] = []
    for name, of_folds in predicted.items():
        rows += summarised(
            name, [problem.measure(values, fold) for fold, values in enumerate(of_folds)]
        )
    return Scores(
        target=str(y.name),
        task=problem.task,
        primary=primary,
        rows=tuple(rows),
        clients=len(scored),
        labelled=len(y.dropna()),
        matched={
            name: len(matched.get((probes or {}).get(name, name), scored)) for name in predicted
        },
        classes=problem.class_counts,
        seed=seed,
        trees=trees,
        split=problem.about,
        groups=None if by is None else by_group(problem, predicted, by.reindex(scored.index)),
        edges=problem.edges,
        distinct_clients=len(set(problem.owners.tolist())) if scored.index.nlevels > 1 else None,
    )
