"""One prediction problem: a target, the parts that are trained on and tested, and the measures.

Everything that compares features (`scoring`, `curves`) asks here, so that all use the same clients, folds and measures.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias, get_args

import numpy as np
import numpy.typing as npt
import pandas as pd

from seqmel.core.errors import ConfigError, InputError, did_you_mean, shown
from seqmel.data.tables.labels import Task, check_classes, match, recognise_task, to_quantities
from seqmel.evaluation.downstream import Downstream
from seqmel.evaluation.metrics import Floats, classification_metrics, metric_names, regression_metrics
from seqmel.evaluation.results import Score
from seqmel.evaluation.splits import GroupFolds, OutOfTime, Places, Split, client_ids, random_folds

__all__ = ["Measured", "Problem", "Task", "check_counts", "feature_matrix", "posed", "summarised"]

Measured: TypeAlias = dict[str, npt.NDArray[np.float64]]
"""Metric -> (1 + R,): its value on the test part, then on R resamples of the test clients (R = 0 with folds)."""

_RESAMPLES = 500


@dataclass(frozen=True)
class Problem:
    """What is predicted, and on which parts.

    Attributes:
        target: (rows,) codes of the classes, or quantities.
        classes: their names by code; empty for a quantity.
        splits: for each fold the places to train on and to test on; a single one is out of time.
        owners: (rows,) codes of the clients, which are what the bootstrap draws.
        about: what to say of the split.
        seed: of the folds and the bootstrap.
    """

    target: npt.NDArray[Any]
    classes: tuple[str, ...]
    splits: tuple[tuple[Places, Places], ...]
    owners: Places
    about: dict[str, Any]
    seed: int

    @classmethod
    def of(cls, y: pd.Series[Any], task: Task, folds: int, seed: int, split: Split | None = None) -> Problem:
        """Pose the problem of one target.

        Args:
            y: one value a row that is scored.
            task: see `score`.
            folds: how many, where the split is not out of time.
            seed: of the folds.
            split: None for random folds; rows that are clients and moments are then kept together by client.
        """
        target, classes = _target(y, task)
        owners = np.asarray(pd.factorize(client_ids(y.index))[0], np.intp)
        if split is None and y.index.nlevels > 1:
            split = GroupFolds(pd.Series(client_ids(y.index), y.index, name=y.index.names[0]))
        if isinstance(split, OutOfTime):
            places, about = split.folds(y.index)
        else:
            if classes:
                _check_rare(y, folds)
            if split is None:
                places, about = random_folds(target if classes else None, len(y), folds, seed), {"kind": "folds"}
            else:
                places, about = split.folds(y.index, target if classes else _fifths(target), folds, seed)
            about |= {"folds": folds}
        problem = cls(target, classes, places, owners, about, seed)
        if split is not None:
            problem._check_parts(str(y.name))
        return problem

    @classmethod
    def of_predictions(cls, y: pd.Series[Any], task: Task, seed: int) -> Problem:
        """The problem whose one test part is all of `y`: for predictions that are there already.

        Args:
            y: one value a client.
            task: see `score`.
            seed: of the resamples.
        """
        target, classes = _target(y, task)
        everyone = np.arange(len(y))
        return cls(target, classes, ((everyone, everyone),), everyone, {}, seed)

    @property
    def task(self) -> Task:
        return "classification" if self.classes else "regression"

    @property
    def primary(self) -> str:
        return ("auroc" if len(self.classes) == 2 else "accuracy") if self.classes else "r2"

    def chosen(self, metric: str | None) -> str:
        """The metric to look at first: the one that was asked for, or `primary`.

        Raises:
            ConfigError: not a metric of such a target.
        """
        known = metric_names(len(self.classes))
        if metric is not None and metric not in known:
            kind = f"{len(self.classes)} classes" if self.classes else "a quantity"
            raise ConfigError(
                f"metric is {metric!r}, which is none of {kind}.{did_you_mean(metric, known)} Expected one of:"
                f" {', '.join(known)}."
            )
        return metric or self.primary

    @property
    def class_counts(self) -> dict[str, int]:
        return {name: int((self.target == code).sum()) for code, name in enumerate(self.classes)}

    def predict(self, x: Floats, fold: int, model: Downstream, train: Places | None = None) -> Floats:
        """Train on a fold's training part, or on the places of it that are named, and predict its test part.

        Returns:
            (tested, classes) probabilities, or (tested,) quantities.
        """
        whole, test = self.splits[fold]
        train = whole if train is None else train
        return model.predict(x[train], self.target[train], x[test], len(self.classes))

    def average(self, predictions: Sequence[Floats]) -> Floats:
        """Of several models' predictions of the same rows one: the geometric mean of probabilities, or the mean."""
        if not self.classes:
            return np.asarray(np.mean(predictions, axis=0))
        shares = np.exp(np.mean([np.log(np.clip(p, 1e-7, 1)) for p in predictions], axis=0))
        return np.asarray(shares / shares.sum(axis=1, keepdims=True))

    def measure(self, predicted: Floats, fold: int) -> Measured:
        """How good predictions of a fold's test part are, on it and on resamples of it."""
        test = self.splits[fold][1]
        found = {name: [value] for name, value in self._metrics(test, predicted).items()}
        for places in self._resamples(test):
            drawn = self._metrics(test[places], predicted[places]) if self._measurable(test[places]) else {}
            for name, values in found.items():
                values.append(drawn.get(name, np.nan))
        return {name: np.array(values) for name, values in found.items()}

    def _metrics(self, places: Places, predicted: Floats) -> dict[str, float]:
        if not self.classes:
            return regression_metrics(self.target[places], predicted)
        return classification_metrics(self.target[places], predicted)

    def _measurable(self, places: Places) -> bool:
        """A resample without a class has no AUROC, one without differences no R2."""
        return len(np.unique(self.target[places])) >= max(2, len(self.classes))

    def _resamples(self, test: Places) -> list[Places]:
        """Places within the test part: its clients drawn with replacement, each with all its rows; none with folds."""
        if len(self.splits) > 1:
            return []
        random = np.random.default_rng(self.seed)
        owners = np.unique(self.owners[test], return_inverse=True)[1]
        order, count = np.argsort(owners, kind="stable"), np.bincount(owners)
        first = np.cumsum(count) - count
        drawn = (random.integers(0, len(count), len(count)) for _ in range(_RESAMPLES))
        return [order[_runs(first[clients], count[clients])] for clients in drawn]

    def _check_parts(self, name: str) -> None:
        """Groups and times can leave a part with one class, or with none of another."""
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
                        f"The {part} part{where} ({len(places):,} rows, split by {self.about.get('column', 'folds')!r})"
                        f" has {problem} of the target {name!r}. Give other folds or shares, or another column."
                    )


def posed(
    y: pd.Series[Any], features: Mapping[str, pd.DataFrame], task: Task, folds: int, seed: int, split: Split | None
) -> tuple[Problem, pd.Series[Any], dict[str, pd.DataFrame]]:
    """The problem, its labels, and for every set the labelled rows it has, which may be more than are scored.

    Raises:
        ConfigError, InputError: see `score`.
    """
    if not features:
        raise ConfigError("No features to score. Give embeddings, or events for the hand-crafted aggregates.")
    if task not in get_args(Task):
        raise ConfigError(f"task is {task!r}. Expected one of: {', '.join(get_args(Task))}.")
    check_counts(folds=(folds, 2), seed=(seed, 0))
    y = y.dropna()
    matched = {name: match(y, table)[1] for name, table in features.items()}
    scored = y.loc[_common(y, matched, folds)]
    return Problem.of(scored, task, folds, seed, split), scored, matched


def check_counts(**given: tuple[int | None, int]) -> None:
    """Each option is None or a whole number from its least value on."""
    for name, (value, least) in given.items():
        if value is not None and not least <= value < 2**31:
            raise ConfigError(f"{name} is {value}. Expected {least} or more, below 2**31.")


def feature_matrix(table: pd.DataFrame, name: str) -> Floats:
    """(rows, features) float32; an `InputError` where a column holds no numbers."""
    wrong = [str(c) for c, kind in table.dtypes.items() if not pd.api.types.is_numeric_dtype(kind)]
    if wrong or table.columns.empty:
        found = f"columns that hold no numbers: {shown(wrong)}" if wrong else "no columns"
        raise InputError(f"The features {name!r} have {found}. Expected numbers only, and the client id as the index.")
    return table.to_numpy(np.float32)


def summarised(name: str, measured: list[Measured]) -> list[Score]:
    """One score a metric, from what was measured on each fold."""
    return [
        Score(name, metric, tuple(float(fold[metric][0]) for fold in measured), tuple(measured[0][metric][1:].tolist()))
        for metric in measured[0]
    ]


def _common(y: pd.Series[Any], matched: Mapping[str, pd.DataFrame], folds: int) -> pd.Index[Any]:
    """The clients that every set has, ordered by their text, so that the order of the rows changes nothing."""
    in_all = np.logical_and.reduce([y.index.isin(table.index) for table in matched.values()])
    clients = y.index[in_all]
    if len(clients) < 2 * folds:
        each = ", ".join(f"{name} {len(table):,}" for name, table in matched.items())
        raise InputError(
            f"{folds} folds need at least {2 * folds} clients with a label and all features; there are {len(clients)}"
            f" (labels: {len(y):,}; with features: {each}). Give more labels, or fewer folds (--folds)."
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
    rare = [f"{name!r} has {n}" for name, n in zip(counts.index.tolist(), counts.tolist(), strict=True) if n < folds]
    if rare:
        raise InputError(
            f"{folds} folds need {folds} clients of every class of the target {y.name!r}; class {shown(rare)}."
            " Join or leave out rare classes, or give fewer folds (--folds)."
        )


def _fifths(quantities: Floats) -> Places:
    """Quantities as five classes of about equal size, by rank, to stratify by."""
    return np.asarray(np.argsort(np.argsort(quantities, kind="stable"), kind="stable") * 5 // len(quantities), np.intp)


def _runs(first: Places, count: Places) -> Places:
    """first[0], first[0] + 1, ... (count[0] of them), then those of first[1], and so on."""
    ends = np.cumsum(count)
    return np.asarray(np.arange(ends[-1]) + np.repeat(first - (ends - count), count), np.intp)
