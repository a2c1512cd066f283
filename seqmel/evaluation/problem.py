"""A prediction problem: a target, its training and test parts, and its metrics.

`scoring` and `curves` both use it, so that all comparisons share clients, folds and metrics.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias, get_args

import numpy as np
import numpy.typing as npt
import pandas as pd

from seqmel.core.errors import ConfigError, InputError, did_you_mean, shown
from seqmel.data.tables.labels import Task, align, check_classes, recognise_task, to_quantities
from seqmel.evaluation.downstream import Downstream
from seqmel.evaluation.metrics import (
    Floats,
    classification_metrics,
    metric_names,
    regression_metrics,
)
from seqmel.evaluation.results import Score
from seqmel.evaluation.splits import GroupFolds, OutOfTime, Places, Split, client_ids, random_folds

__all__ = [
    "Measured",
    "Problem",
    "Task",
    "build_problem",
    "check_counts",
    "feature_matrix",
    "summarised",
]

Measured: TypeAlias = dict[str, npt.NDArray[np.float64]]
"""Metric -> (1 + R,) values: on the test part, then on R bootstrap resamples of its clients.

R is 0 if there are several folds.
"""

_RESAMPLES = 500


@dataclass(frozen=True)
class Problem:
    """A target with its training and test parts.

    Attributes:
        target: (rows,) class codes or quantities.
        classes: names of the classes by code; empty for a quantity.
        splits: training and test positions of each fold; a single one is an out-of-time split.
        owners: (rows,) codes of the clients, the units of the bootstrap.
        about: description of the split, for reports.
        seed: seed of the folds and the bootstrap.
    """

    target: npt.NDArray[Any]
    classes: tuple[str, ...]
    splits: tuple[tuple[Places, Places], ...]
    owners: Places
    about: dict[str, Any]
    seed: int

    @classmethod
    def of(
        cls, y: pd.Series[Any], task: Task, folds: int, seed: int, split: Split | None = None
    ) -> Problem:
        """Build the problem of one target.

        Args:
            y: one label per row.
            task: "classification", "regression" or "auto", which treats a number with more than 20
                distinct values as a quantity and all else as classes.
            folds: number of folds, unless the split is out of time.
            seed: seed of the folds and the bootstrap.
            split: None draws random folds. If rows are clients and moments, all rows of a client
                stay in one fold.

        Returns:
            The problem.

        Raises:
            ConfigError: the split has an option out of range.
            InputError: a class is too rare, a part lacks a class, or the split does not fit the
                rows.
        """
        target, classes = _target(y, task)
        owners = np.asarray(pd.factorize(client_ids(y.index))[0], np.intp)
        if split is None and y.index.nlevels > 1:
            split = GroupFolds(pd.Series(client_ids(y.index), y.index, name=y.index.names[0]))
        if isinstance(split, OutOfTime):
            places, about = split.folds(y.index, folds, seed)
        else:
            if classes:
                _check_rare(y, folds)
            if split is None:
                places = random_folds(target if classes else None, len(y), folds, seed)
                about = {"kind": "folds"}
            else:
                places, about = split.folds(
                    y.index, target if classes else _fifths(target), folds, seed
                )
            about |= {"folds": folds}
        problem = cls(target, classes, places, owners, about, seed)
        if split is not None:
            problem._check_parts(str(y.name))
        return problem

    @classmethod
    def of_predictions(cls, y: pd.Series[Any], task: Task, seed: int) -> Problem:
        """Build the problem with all of `y` as its test part, to score existing predictions.

        Args:
            y: one label per client.
            task: "classification", "regression" or "auto", which treats a number with more than 20
                distinct values as a quantity and all else as classes.
            seed: seed of the bootstrap.

        Returns:
            The problem.

        Raises:
            InputError: fewer than two classes.
        """
        target, classes = _target(y, task)
        everyone = np.arange(len(y))
        owners = np.asarray(pd.factorize(client_ids(y.index))[0], np.intp)
        return cls(target, classes, ((everyone, everyone),), owners, {}, seed)

    @property
    def task(self) -> Task:
        """The task: "classification" or "regression"."""
        return "classification" if self.classes else "regression"

    @property
    def primary(self) -> str:
        """The default metric: auroc for two classes, accuracy for more, r2 for a quantity."""
        return ("auroc" if len(self.classes) == 2 else "accuracy") if self.classes else "r2"

    def chosen(self, metric: str | None) -> str:
        """Return the primary metric: the given one, or the default of the target.

        Args:
            metric: name of a metric; None takes the default.

        Returns:
            The name of the metric.

        Raises:
            ConfigError: the target has no such metric.
        """
        known = metric_names(len(self.classes))
        if metric is not None and metric not in known:
            kind = f"{len(self.classes)} classes" if self.classes else "a quantity"
            raise ConfigError(
                f"metric is {metric!r}, which is none of {kind}.{did_you_mean(metric, known)} "
                f"Expected one of: {', '.join(known)}."
            )
        return metric or self.primary

    @property
    def class_counts(self) -> dict[str, int]:
        """Class -> number of rows; empty for a quantity."""
        return {name: int((self.target == code).sum()) for code, name in enumerate(self.classes)}

    def predict(
        self, x: Floats, fold: int, model: Downstream, train: Places | None = None
    ) -> Floats:
        """Train on the training part of a fold, and predict its test part.

        Args:
            x: (rows, features) float32.
            fold: index of the fold.
            model: the model to train.
            train: positions to train on; None takes the whole training part.

        Returns:
            (tested, classes) probabilities, or (tested,) quantities.
        """
        whole, test = self.splits[fold]
        train = whole if train is None else train
        return model.predict(x[train], self.target[train], x[test], len(self.classes))

    def average(self, predictions: Sequence[Floats]) -> Floats:
        """Average the predictions of several models for the same rows.

        Args:
            predictions: per model (tested, classes) probabilities, or (tested,) quantities.

        Returns:
            The normalised geometric mean of the probabilities, or the mean of the quantities.
        """
        if not self.classes:
            return np.asarray(np.mean(predictions, axis=0))
        shares = np.exp(np.mean([np.log(np.clip(p, 1e-7, 1)) for p in predictions], axis=0))
        return np.asarray(shares / shares.sum(axis=1, keepdims=True))

    def measure(self, predicted: Floats, fold: int) -> Measured:
        """Measure the predictions of the test part of a fold.

        Args:
            predicted: (tested, classes) probabilities, or (tested,) quantities.
            fold: index of the fold.

        Returns:
            The metrics on the test part, and on its resamples if there is a single fold.
        """
        test = self.splits[fold][1]
        found = {name: [value] for name, value in self._metrics(test, predicted).items()}
        for places in self._resamples(test):
            drawn = (
                self._metrics(test[places], predicted[places])
                if self._measurable(test[places])
                else {}
            )
            for name, values in found.items():
                values.append(drawn.get(name, np.nan))
        return {name: np.array(values) for name, values in found.items()}

    def _metrics(self, places: Places, predicted: Floats) -> dict[str, float]:
        if not self.classes:
            return regression_metrics(self.target[places], predicted)
        return classification_metrics(self.target[places], predicted)

    def _measurable(self, places: Places) -> bool:
        """Whether all metrics are defined: AUROC needs every class, R2 at least two values."""
        return len(np.unique(self.target[places])) >= max(2, len(self.classes))

    def _resamples(self, test: Places) -> list[Places]:
        """Bootstrap resamples, as positions within the test part; none if there are several folds.

        Clients are drawn with replacement, each with all its rows.
        """
        if len(self.splits) > 1:
            return []
        random = np.random.default_rng(self.seed)
        owners = np.unique(self.owners[test], return_inverse=True)[1]
        order = np.argsort(owners, kind="stable")
        count = np.bincount(owners)
        first = np.cumsum(count) - count
        drawn = (random.integers(0, len(count), len(count)) for _ in range(_RESAMPLES))
        return [order[_runs(first[clients], count[clients])] for clients in drawn]

    def _check_parts(self, name: str) -> None:
        """Raise if a part lacks a class or has a constant target, as groups and times may cause."""
        for fold, parts in enumerate(self.splits):
            for part, places in zip(("training", "test"), parts, strict=True):
                y = self.target[places]
                if self.classes:
                    lacking = [c for code, c in enumerate(self.classes) if not (y == code).any()]
                    problem = f"no client of class {shown(map(repr, lacking))}" if lacking else ""
                else:
                    problem = "" if len(y) > 1 and np.ptp(y) > 0 else "one value only"
                if problem:
                    where = "" if len(self.splits) == 1 else f" of fold {fold + 1}"
                    raise InputError(
                        f"The {part} part{where} ({len(places):,} rows, split by "
                        f"{self.about.get('column', 'folds')!r}) has {problem} of the target "
                        f"{name!r}. Give other folds or fractions, or another column."
                    )


def build_problem(
    y: pd.Series[Any],
    features: Mapping[str, pd.DataFrame],
    task: Task,
    folds: int,
    seed: int,
    split: Split | None,
) -> tuple[Problem, pd.Series[Any], dict[str, pd.DataFrame]]:
    """Check the inputs of a comparison, and build its problem.

    Args:
        y: one label per row, indexed by client id (or client id and moment).
        features: name -> one row of numbers per client, indexed like y.
        task: "classification", "regression" or "auto".
        folds: number of folds.
        seed: seed of the folds and the bootstrap.
        split: `GroupFolds` or `OutOfTime`; None draws random folds.

    Returns:
        The problem; the labels of the scored rows; and the rows of each feature set that have a
        label, which may be more than are scored.

    Raises:
        ConfigError: no features, an unknown task, or an option out of range.
        InputError: too few clients have a label and all features, or the split does not fit.
    """
    if not features:
        raise ConfigError(
            "No features to score. Give embeddings, or events for the hand-crafted aggregates."
        )
    if task not in get_args(Task):
        raise ConfigError(f"task is {task!r}. Expected one of: {', '.join(get_args(Task))}.")
    check_counts(folds=(folds, 2), seed=(seed, 0))
    y = y.dropna()
    matched = {name: align(y, table)[1] for name, table in features.items()}
    scored = y.loc[_common(y, matched, folds)]
    return Problem.of(scored, task, folds, seed, split), scored, matched


def check_counts(**given: tuple[int | None, int]) -> None:
    """Raise a `ConfigError` if an option is below its minimum.

    Args:
        **given: name -> (value or None, minimum).
    """
    for name, (value, least) in given.items():
        if value is not None and not least <= value < 2**31:
            raise ConfigError(f"{name} is {value}. Expected {least} or more, below 2**31.")


def feature_matrix(table: pd.DataFrame, name: str) -> Floats:
    """Convert a feature table to a matrix.

    Args:
        table: (rows, features) numeric columns.
        name: name of the feature set, for messages.

    Returns:
        (rows, features) float32.

    Raises:
        InputError: there are no columns, or a column is not numeric.
    """
    wrong = [str(c) for c, kind in table.dtypes.items() if not pd.api.types.is_numeric_dtype(kind)]
    if wrong or table.columns.empty:
        found = f"columns that hold no numbers: {shown(wrong)}" if wrong else "no columns"
        raise InputError(
            f"The features {name!r} have {found}. Expected numbers only, and the client id as the "
            "index."
        )
    return table.to_numpy(np.float32)


def summarised(name: str, measured: list[Measured]) -> list[Score]:
    """Collect the measurements of all folds into one score per metric.

    Args:
        name: name of the feature set.
        measured: the measurements of each fold.

    Returns:
        One score per metric.
    """
    return [
        Score(
            name,
            metric,
            tuple(float(fold[metric][0]) for fold in measured),
            tuple(measured[0][metric][1:].tolist()),
        )
        for metric in measured[0]
    ]


def _common(y: pd.Series[Any], matched: Mapping[str, pd.DataFrame], folds: int) -> pd.Index[Any]:
    """The clients of all feature sets, sorted by their text so that the row order has no effect."""
    in_all = np.logical_and.reduce([y.index.isin(table.index) for table in matched.values()])
    clients = y.index[in_all]
    if len(clients) < 2 * folds:
        each = ", ".join(f"{name} {len(table):,}" for name, table in matched.items())
        raise InputError(
            f"{folds} folds need at least {2 * folds} clients with a label and all features; there "
            f"are {len(clients)} (labels: {len(y):,}; with features: {each}). Give more labels, or "
            "fewer folds (--folds)."
        )
    text = np.array([str(client) for client in clients])
    ordered: pd.Index[Any] = clients[np.argsort(text, kind="stable")]
    return ordered


def _target(y: pd.Series[Any], task: Task) -> tuple[npt.NDArray[Any], tuple[str, ...]]:
    if (recognise_task(y) if task == "auto" else task) == "regression":
        return to_quantities(y), ()
    check_classes(y)
    classes, codes = np.unique(y.to_numpy(), return_inverse=True)
    return codes, tuple(str(c) for c in classes)


def _check_rare(y: pd.Series[Any], folds: int) -> None:
    counts = y.value_counts()
    rare = [
        f"{name!r} has {n}"
        for name, n in zip(counts.index.tolist(), counts.tolist(), strict=True)
        if n < folds
    ]
    if rare:
        raise InputError(
            f"{folds} folds need {folds} clients of every class of the target {y.name!r}; class "
            f"{shown(rare)}. Join or leave out rare classes, or give fewer folds (--folds)."
        )


def _fifths(quantities: Floats) -> Places:
    """Bin quantities by rank into five classes of about equal size, for stratification."""
    return np.asarray(
        np.argsort(np.argsort(quantities, kind="stable"), kind="stable") * 5 // len(quantities),
        np.intp,
    )


def _runs(first: Places, count: Places) -> Places:
    """Concatenate the ranges first[i], first[i] + 1, ..., each of length count[i]."""
    ends = np.cumsum(count)
    return np.asarray(np.arange(ends[-1]) + np.repeat(first - (ends - count), count), np.intp)
