"""Score sets of features against one target: LightGBM, the same clients and the same folds for every set.

The protocol is that of CoLES (Babaev et al., arXiv 2002.08232): stratified folds, gradient boosting on the vector as it
is, mean over the folds with a 95 % interval. Since the folds are shared, two sets are compared by their difference.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

import pandas as pd

from seqmel.evaluation.metrics import Floats
from seqmel.evaluation.problem import Booster, Task, check_counts, feature_matrix, posed, summarised
from seqmel.evaluation.results import Score, Scores
from seqmel.evaluation.splits import Split

__all__ = ["Progress", "Task", "score"]

Progress: TypeAlias = Callable[[str, int, int], None]
"""Called after each fold: name of the features, how many folds of all sets are done, and how many there are."""


def score(
    y: pd.Series[Any],
    features: Mapping[str, pd.DataFrame],
    *,
    averages: Mapping[str, Sequence[str]] | None = None,
    task: Task = "auto",
    folds: int = 5,
    seed: int = 0,
    trees: int = 500,
    threads: int | None = None,
    split: Split | None = None,
    progress: Progress | None = None,
) -> Scores:
    """Cross-validate LightGBM on every set of features.

    Args:
        y: one label a client, indexed by client id, as from `read_labels`; clients whose label is null are left out.
            The index may have clients and moments, where the features have them too; folds then keep a client together.
        features: name -> one row a client, numbers only, indexed by client id; NaN is missing. A client that one set
            lacks is left out of all.
        averages: name -> sets of features whose own models are averaged, with no further training: the geometric mean
            of their probabilities, or the mean of their quantities.
        task: "auto" takes a number with more than 20 different values as a quantity and all else as classes.
        folds: how many; stratified by class.
        seed: of the folds and of LightGBM: the same seed and clients give the same scores, in any order of the rows.
        trees: how many trees LightGBM grows.
        threads: how many threads it may use; all cores where None.
        split: `GroupFolds` or `OutOfTime` where random folds are not wanted; out of time there is one test part, and
            the 95 % interval is that of 500 resamples of its clients.
        progress: called after each fold.

    Raises:
        ConfigError: no features, an unknown task, folds below 2, trees or threads below 1, a negative seed.
        InputError: no client in common, fewer than two clients a fold, one class, a class with fewer clients than
            folds, a part of the split with one class, a client on both sides, or a target or feature that is not
            numeric where it has to be.
    """
    check_counts(trees=(trees, 1), threads=(threads, 1))
    problem, scored, matched = posed(y, features, task, folds, seed, split)
    booster = Booster(trees, seed, threads)
    count = len(problem.splits)
    predicted: dict[str, list[Floats]] = {name: [] for name in matched}
    for name, table in matched.items():
        x = feature_matrix(table.loc[scored.index], name)
        for fold in range(count):
            predicted[name].append(problem.predict(x, fold, booster))
            if progress:
                progress(name, sum(map(len, predicted.values())), count * len(matched))
    for name, parts in (averages or {}).items():
        predicted[name] = [problem.average([predicted[part][fold] for part in parts]) for fold in range(count)]
    rows: list[Score] = []
    for name, of_folds in predicted.items():
        rows += summarised(name, [problem.measure(values, fold) for fold, values in enumerate(of_folds)])
    return Scores(
        target=str(y.name),
        task=problem.task,
        primary=problem.primary,
        rows=tuple(rows),
        clients=len(scored),
        labelled=len(y.dropna()),
        matched={name: len(matched[name]) if name in matched else len(scored) for name in predicted},
        classes=problem.class_counts,
        seed=seed,
        trees=trees,
        split=problem.about,
    )
