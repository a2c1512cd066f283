"""A prediction problem: a target, its training and test parts, and its metrics.

`scoring` and `curves` both use it, so that all comparisons share clients, folds and metrics.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import pandas as pd

from seqmel.core.errors import ConfigError, InputError, did_you_mean, shown
from seqmel.core.survival import survival_metrics
from seqmel.core.units import count_words
from seqmel.data.tables.labels import align, check_classes, recognise_task, to_quantities
from seqmel.data.tables.survival import observed_times, signed_times, time_edges
from seqmel.data.tables.targets import TargetTask
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
    "build_problem",
    "check_counts",
    "feature_matrix",
    "signed_labels",
    "summarised",
]

Measured: TypeAlias = dict[str, npt.NDArray[np.float64]]
"""Metric -> (1 + R,) values: on the test part, then on R bootstrap resamples of its clients.

R is 0 if there are several folds.
"""

_RESAMPLES = 500
_TASKS = ("auto", "classification", "regression", "survival")


@dataclass(frozen=True)
class Problem:
    """A target with its training and test parts.

    Attributes:
        target: (rows,) class codes, quantities, or signed times to an event: a censored one is
            negative.
        classes: names of the classes by code; empty for a quantity or time.
        splits: training and test positions of each fold; a single one is an out-of-time split.
        owners: (rows,) codes of the clients, the units of the bootstrap.
        about: description of the split, for reports.
        seed: seed of the folds and the bootstrap.
        edges: upper bounds of the bins of the time to an event; empty for other targets.
    """

    target: npt.NDArray[Any]
    classes: tuple[str, ...]
    splits: tuple[tuple[Places, Places], ...]
    owners: Places
    about: dict[str, Any]
    seed: int
    edges: tuple[float, ...] = ()

    @classmethod
    def of(
        cls,
        y: pd.Series[Any],
        task: TargetTask,
        folds: int,
        seed: int,
        split: Split | None = None,
        edges: Sequence[float] | None = None,
    ) -> Problem:
        """Build the problem of one target.

        Args:
            y: one label per row.
            task: "classification", "regression", "survival" for signed times to an event, or
                "auto", which treats a number with more than 20 distinct values as a quantity and
                all else as classes.
            folds: number of folds, unless the split is out of time.
            seed: seed of the folds and the bootstrap.
            split: None draws random folds. If rows are clients and moments, all rows of a client
                stay in one fold.
            edges: upper bounds of the bins of the time to an event; None chooses them.

        Returns:
            The problem.

        Raises:
            ConfigError: the split has an option out of range.
            InputError: a class is too rare, a part lacks a class, or the split does not fit the
                rows.
        """
        target, classes = _target(y, task)
        bins = _edges(target, edges) if task == "survival" else ()
        strata = _strata(target, classes, bins)
        owners = np.asarray(pd.factorize(client_ids(y.index))[0], np.intp)
        if split is None and y.index.nlevels > 1:
            split = GroupFolds(pd.Series(client_ids(y.index), y.index, name=y.index.names[0]))
        if isinstance(split, OutOfTime):
            places, about = split.folds(y.index, folds, seed)
        else:
            if classes:
                _check_rare(y, folds)
            if bins:
                _check_events(strata, folds, str(y.name))
            if split is None:
                each = None if bins and 0 < np.sum(strata == 0) < folds else strata
                places = random_folds(each, len(y), folds, seed)
                about = {"kind": "folds"}
            else:
                places, about = split.folds(
                    y.index, _fifths(target) if strata is None else strata, folds, seed
                )
            about |= {"folds": folds}
        problem = cls(target, classes, places, owners, about, seed, bins)
        if split is not None:
            problem._check_parts(str(y.name))
        return problem

    @classmethod
    def of_predictions(
        cls,
        y: pd.Series[Any],
        task: TargetTask,
        seed: int,
        edges: Sequence[float] = (),
    ) -> Problem:
        """Build the problem with all of `y` as its test part, to score existing predictions.

        Args:
            y: one label per client.
            task: "classification", "regression", "survival" for signed times to an event, or
                "auto", which treats a number with more than 20 distinct values as a quantity and
                all else as classes.
            seed: seed of the bootstrap.
            edges: the bounds of the predictions of a time to an event.

        Returns:
            The problem.

        Raises:
            InputError: fewer than two classes.
        """
        target, classes = _target(y, task)
        everyone = np.arange(len(y))
        owners = np.asarray(pd.factorize(client_ids(y.index))[0], np.intp)
        return cls(target, classes, ((everyone, everyone),), owners, {}, seed, tuple(edges))

    @property
    def task(self) -> TargetTask:
        """The task: "classification", "regression" or "survival"."""
        if self.edges:
            return "survival"
        return "classification" if self.classes else "regression"

    @property
    def strata(self) -> Places | None:
        """(rows,) codes to stratify by: classes, or whether an event was observed; else None."""
        return _strata(self.target, self.classes, self.edges)

    @property
    def metrics(self) -> tuple[str, ...]:
        """Names of the metrics."""
        return metric_names(len(self.classes), survival=bool(self.edges))

    @property
    def primary(self) -> str:
        """The default metric.

        It is auroc for two classes, accuracy for more, r2 for a quantity, and concordance for the
        time to an event.
        """
        if self.edges:
            return "concordance"
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
        known = self.metrics
        if metric is not None and metric not in known:
            kind = (
                count_words(len(self.classes), "class", "classes") if self.classes else "a quantity"
            )
            kind = "the time to an event" if self.edges else kind
            raise ConfigError(
                f"metric is {metric!r}, which is none of {kind}.{did_you_mean(metric, known)} "
                f"Expected one of: {', '.join(known)}."
            )
        return metric or self.primary

    @property
    def class_counts(self) -> dict[str, int]:
        """Class, or "event" and "censored" -> number of rows; empty for a quantity."""
        if self.edges:
            happened = int(self.strata.sum()) if self.strata is not None else 0
            return {"event": happened, "censored": len(self.target) - happened}
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
            (tested, classes) probabilities, (tested,) quantities, or (tested, bounds) probabilities
            of a later event.
        """
        whole, test = self.splits[fold]
        train = whole if train is None else train
        if self.edges:
            return model.survival(x[train], self.target[train], x[test], self.edges)
        return model.predict(x[train], self.target[train], x[test], len(self.classes))

    def average(self, predictions: Sequence[Floats]) -> Floats:
        """Average the predictions of several models for the same rows.

        Args:
            predictions: per model (tested, classes) probabilities, or (tested,) quantities.

        Returns:
            The geometric mean of the probabilities, normalised for classes, or the mean of the
            quantities.
        """
        if not self.classes and not self.edges:
            return np.asarray(np.mean(predictions, axis=0))
        shares = np.exp(np.mean([np.log(np.clip(p, 1e-7, 1)) for p in predictions], axis=0))
        if self.edges:
            return np.asarray(shares)
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
        if self.edges:
            times, observed = observed_times(self.target[places])
            survival = np.asarray(predicted, np.float64)
            return survival_metrics(times, observed, survival, self.edges)
        if not self.classes:
            return regression_metrics(self.target[places], predicted)
        return classification_metrics(self.target[places], predicted)

    def _measurable(self, places: Places) -> bool:
        """Whether all metrics are defined.

        AUROC needs every class, R2 at least two values, and concordance an event.
        """
        if self.strata is not None and self.edges:
            return bool(self.strata[places].any())
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
                if self.edges:
                    problem = "" if (~np.signbit(y)).any() else "no observed event"
                elif self.classes:
                    lacking = [c for code, c in enumerate(self.classes) if not (y == code).any()]
                    problem = f"no client of class {shown(map(repr, lacking))}" if lacking else ""
                else:
                    problem = "" if len(y) > 1 and np.ptp(y) > 0 else "one value only"
                if problem:
                    where = "" if len(self.splits) == 1 else f" of fold {fold + 1}"
                    raise InputError(
                        f"The {part} part{where} ({count_words(len(places), 'row')}, split by "
                        f"{self.about.get('column', 'folds')!r}) has {problem} of the target "
                        f"{name!r}. Give other folds or fractions, or another column."
                    )


def build_problem(
    y: pd.Series[Any],
    features: Mapping[str, pd.DataFrame],
    task: TargetTask,
    folds: int,
    seed: int,
    split: Split | None,
    observed: pd.Series[Any] | None = None,
    edges: Sequence[float] | None = None,
) -> tuple[Problem, pd.Series[Any], dict[str, pd.DataFrame]]:
    """Check the inputs of a comparison, and build its problem.

    Args:
        y: one label per row, indexed by client id (or client id and moment).
        features: name -> one row of numbers per client, indexed like y.
        task: "classification", "regression", "survival" or "auto".
        folds: number of folds.
        seed: seed of the folds and the bootstrap.
        split: `GroupFolds` or `OutOfTime`; None draws random folds.
        observed: with the task "survival", whether each event was observed, indexed like y.
        edges: with the task "survival", upper bounds of the bins of time; None chooses them.

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
    if task not in _TASKS:
        raise ConfigError(f"task is {task!r}. Expected one of: {', '.join(_TASKS)}.")
    check_counts(folds=(folds, 2), seed=(seed, 0))
    y = signed_labels(y.dropna(), task, observed, edges)
    matched = {name: align(y, table)[1] for name, table in features.items()}
    scored = y.loc[_common(y, matched, folds)]
    return Problem.of(scored, task, folds, seed, split, edges), scored, matched


def signed_labels(
    y: pd.Series[Any],
    task: TargetTask,
    observed: pd.Series[Any] | None,
    edges: Sequence[float] | None = None,
) -> pd.Series[Any]:
    """Return the labels; times to an event as signed numbers, see `signed_times`.

    Args:
        y: one label per row, without nulls.
        task: the task.
        observed: whether each event was observed, indexed like y.
        edges: upper bounds of the bins of time.

    Raises:
        ConfigError: `observed` or `edges` are given for another task, `observed` is not given for
            this one, or `edges` do not increase.
        SchemaError, InputError: the labels are no times; see `signed_times`.
    """
    if task == "survival":
        if observed is None:
            raise ConfigError(
                "The task survival needs to know which events were observed. Give observed= (true "
                "and false, indexed like y)."
            )
        if edges is not None and not _increasing(edges):
            raise ConfigError(f"time_edges are {list(edges)}. Expected increasing numbers above 0.")
        return signed_times(y, observed) if len(y) else y
    for name, given in (("observed", observed), ("time_edges", edges)):
        if given is not None:
            raise ConfigError(
                f"{name} belongs to the task survival; found {task}. Leave it out, or set the task"
                " (--task survival)."
            )
    return y


def _increasing(edges: Sequence[float]) -> bool:
    bounds = np.array((0.0, *edges))
    return len(bounds) > 1 and bool(np.isfinite(bounds).all() and (np.diff(bounds) > 0).all())


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
            f"{count_words(folds, 'fold')} need at least {count_words(2 * folds, 'client')} with a "
            f"label and all features; there are {len(clients)} (labels: {len(y):,}; with features: "
            f"{each}). Give more labels, or fewer folds (--folds)."
        )
    text = np.array([str(client) for client in clients])
    ordered: pd.Index[Any] = clients[np.argsort(text, kind="stable")]
    return ordered


def _target(y: pd.Series[Any], task: TargetTask) -> tuple[npt.NDArray[Any], tuple[str, ...]]:
    if task == "survival":
        return y.to_numpy(np.float64), ()
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
            f"{count_words(folds, 'fold')} need {count_words(folds, 'client')} of every class of "
            f"the target {y.name!r}; class {shown(rare)}. Join or leave out rare classes, or give "
            "fewer folds (--folds)."
        )


def _edges(target: npt.NDArray[np.float64], edges: Sequence[float] | None) -> tuple[float, ...]:
    return time_edges(target) if edges is None else tuple(float(edge) for edge in edges)


def _strata(
    target: npt.NDArray[Any], classes: tuple[str, ...], edges: tuple[float, ...]
) -> Places | None:
    if edges:
        return np.asarray(~np.signbit(target), np.intp)
    return target if classes else None


def _check_events(strata: Places | None, folds: int, name: str) -> None:
    events = 0 if strata is None else int(strata.sum())
    if events < folds:
        raise InputError(
            f"{count_words(folds, 'fold')} need {folds} observed events of {name!r}; there are "
            f"{events}. Give more labels, or fewer folds (--folds)."
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
