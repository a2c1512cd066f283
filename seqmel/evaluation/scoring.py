"""Score sets of features against one target: the same clients and the same folds for every set and every model.

The protocol is that of CoLES (Babaev et al., arXiv 2002.08232): stratified folds, gradient boosting on the vector as it
is, mean over the folds with a 95 % interval. Since the folds are shared, two sets are compared by their difference.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from seqmel.core.progress import Reporting, as_progress
from seqmel.evaluation.downstream import Downstream, Kept, LinearProbe, side_by_side, spread_boosters
from seqmel.evaluation.feature_sets import BASELINES
from seqmel.evaluation.metrics import Floats
from seqmel.evaluation.problem import Task, check_counts, feature_matrix, posed, summarised
from seqmel.evaluation.results import Score, Scores
from seqmel.evaluation.splits import Split

__all__ = ["Task", "score"]


def score(
    y: pd.Series[Any],
    features: Mapping[str, pd.DataFrame],
    *,
    probes: Mapping[str, str] | None = None,
    averages: Mapping[str, Sequence[str]] | None = None,
    task: Task = "auto",
    folds: int = 5,
    seed: int = 0,
    trees: int = 500,
    threads: int | None = None,
    split: Split | None = None,
    metric: str | None = None,
    kept: Path | None = None,
    progress: Reporting = None,
) -> Scores:
    """Cross-validate LightGBM on every set of features, and a linear probe on those that are named.

    Args:
        y: one label a client, indexed by client id, as from `read_labels`; clients whose label is null are left out.
            The index may have clients and moments, where the features have them too; folds then keep a client together.
        features: name -> one row a client, numbers only, indexed by client id; NaN is missing. A client that one set
            lacks is left out of all.
        probes: name -> set of features that a linear probe learns from: logistic or ridge regression.
        averages: name -> sets of features, or probes, whose own models are averaged, with no further training: the
            geometric mean of their probabilities, or the mean of their quantities.
        task: "auto" takes a number with more than 20 different values as a quantity and all else as classes.
        folds: how many; stratified by class.
        seed: of the folds and of the models: the same seed and clients give the same scores, in any order of the rows.
        trees: how many trees LightGBM grows.
        threads: how many threads the models may use, together; all cores where None.
        split: `GroupFolds` or `OutOfTime` where random folds are not wanted; out of time there is one test part, and
            the 95 % interval is that of 500 resamples of its clients.
        metric: the metric that differences are made of, such as average_precision, ks or lift_at_5; AUROC, accuracy or R2
            where None.
        kept: a folder for what LightGBM predicts from the aggregates; scored again beside other vectors, they are read there.
        progress: None shows progress on a terminal and in a notebook, True everywhere, False nowhere; or a `Progress`.

    Returns:
        One score per set of features and metric: a value per fold, the mean and a 95 % interval.

    Raises:
        ConfigError: no features, an unknown task or metric, folds below 2, trees or threads below 1, a negative seed.
        InputError: no client in common, fewer than two clients a fold, one class, a class with fewer clients than
            folds, a part of the split with one class, a client on both sides, or a target or feature that is not
            numeric where it has to be.

    Examples:
        >>> import numpy as np, pandas as pd
        >>> import seqmel
        >>> signal = pd.DataFrame({"x": np.arange(40.0)}, index=pd.Index(range(40), name="client"))
        >>> y = pd.Series(np.arange(40) % 2, index=signal.index, name="odd")
        >>> seqmel.score(y, {"signal": signal}, folds=2, trees=5).classes
        {'0': 20, '1': 20}
    """
    check_counts(trees=(trees, 1), threads=(threads, 1))
    problem, scored, matched = posed(y, features, task, folds, seed, split)
    primary = problem.chosen(metric)
    matrices = {name: feature_matrix(table.loc[scored.index], name) for name, table in matched.items()}
    count, probe = len(problem.splits), LinearProbe(seed)
    booster, workers = spread_boosters(threads, matrices.values(), count, trees=trees, seed=seed)
    asked: list[tuple[str, str, Downstream]] = [
        (name, name, Kept(booster, kept) if kept and name in BASELINES else booster) for name in matched
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
        predicted[name] = [problem.average([predicted[part][fold] for part in parts]) for fold in range(count)]
    rows: list[Score] = []
    for name, of_folds in predicted.items():
        rows += summarised(name, [problem.measure(values, fold) for fold, values in enumerate(of_folds)])
    return Scores(
        target=str(y.name),
        task=problem.task,
        primary=primary,
        rows=tuple(rows),
        clients=len(scored),
        labelled=len(y.dropna()),
        matched={name: len(matched.get((probes or {}).get(name, name), scored)) for name in predicted},
        classes=problem.class_counts,
        seed=seed,
        trees=trees,
        split=problem.about,
    )
