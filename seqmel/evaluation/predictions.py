"""Scores of existing predictions, such as last month's: metrics with intervals."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from seqmel.core.checksums import digest_of_ids
from seqmel.core.errors import ConfigError, InputError, SchemaError, shown
from seqmel.core.survival import kaplan_meier
from seqmel.core.units import count_words
from seqmel.data.tables.labels import (
    column_names,
    has_column,
    locate_ids,
    own_time_column,
    read_column,
    recognise_task,
)
from seqmel.data.tables.survival import observed_times
from seqmel.data.tables.targets import TargetTask
from seqmel.data.tables.vector_files import trained_on
from seqmel.evaluation.metrics import Floats
from seqmel.evaluation.problem import Problem, signed_labels, summarised
from seqmel.evaluation.results import TITLES, Score

if TYPE_CHECKING:
    from rich.table import Table

__all__ = ["ScoredPredictions", "read_predictions", "score_predictions", "training_note"]


@dataclass(frozen=True)
class ScoredPredictions:
    """The scores of predictions of one target.

    Attributes:
        target: name of the target.
        classes: names of the classes; empty for a quantity.
        scores: one score per metric; its interval is from 500 bootstrap resamples of the clients.
        y: (clients,) class codes, quantities, or signed times: a censored one is negative.
        predicted: (clients, classes) probabilities, (clients,) quantities, or (clients, bounds)
            probabilities of a later event.
        clients: number of distinct clients, if y has a row per client and moment.
        edges: the bounds of a time to an event; empty for other targets.
        note: a sentence about whether the model was trained on these clients; empty if nothing is
            known of its training.
    """

    target: str
    classes: tuple[str, ...]
    scores: tuple[Score, ...]
    y: npt.NDArray[Any]
    predicted: Floats
    clients: int
    edges: tuple[float, ...] = ()
    note: str = ""

    @property
    def horizons(self) -> list[dict[str, float]]:
        """Per bound of a time to an event: the mean predicted probability of an event until then.

        `estimated` is the Kaplan-Meier estimate, NaN after the last time.
        """
        if not self.edges:
            return []
        times, observed = observed_times(self.y)
        estimated = 1 - kaplan_meier(times, observed, np.array(self.edges))
        estimated[np.array(self.edges) > times.max()] = np.nan
        predicted = 1 - self.predicted.mean(axis=0)
        columns = zip(self.edges, predicted.tolist(), estimated.tolist(), strict=True)
        return [{"bound": b, "predicted": p, "estimated": e} for b, p, e in columns]

    def to_json(self) -> dict[str, Any]:
        """Return values for JSON: target, classes, clients, and value and interval per metric.

        Times to an event have `horizons` as well, and there may be `remarks`.
        """
        found = {
            score.metric: {"value": score.mean, "interval": list(score.interval)}
            for score in self.scores
        }
        return {
            "target": self.target,
            "classes": list(self.classes),
            "clients": self.clients,
            "rows": len(self.y),
            "metrics": found,
            **({"horizons": self.horizons} if self.edges else {}),
            **({"remarks": self.remarks} if self.remarks else {}),
        }

    def table(self) -> Table:
        """Return a table for a terminal, with one row per metric."""
        from rich.table import Table

        of = (
            f"; the metrics of ranking are of {self.classes[1]!r}" if len(self.classes) == 2 else ""
        )
        rows = f"{count_words(len(self.y), 'row')} of " if len(self.y) != self.clients else ""
        if self.edges:
            happened = int((~np.signbit(self.y)).sum())
            of = f", {count_words(happened, 'event')}, the others censored"
        who = f"{rows}{count_words(self.clients, 'client')}"
        caption = f"{who}{of}; 95 % interval by bootstrap over the clients"
        table = Table("metric", "value", "95 % interval", title=self.target, caption=caption)
        for score in self.scores:
            low, high = score.interval
            table.add_row(TITLES[score.metric], f"{score.mean:.4g}", f"{low:.4g} to {high:.4g}")
        return table

    def horizon_table(self) -> Table:
        """Return a table of `horizons` for a terminal."""
        from rich.table import Table

        table = Table("until", "predicted", "Kaplan-Meier", title=f"{self.target}: P(event)")
        for row in self.horizons:
            cells = (f"{row[name]:.4g}" for name in ("bound", "predicted", "estimated"))
            table.add_row(*cells)
        return table

    @property
    def remarks(self) -> list[str]:
        """Warnings about the scores."""
        r2 = next((score.mean for score in self.scores if score.metric == "r2"), 0.0)
        worse = (
            f"The predictions are worse than the mean of the target for every client (R2 {r2:.3f})."
        )
        return [*([worse] if r2 < 0 else []), *([self.note] if self.note else [])]


def training_note(predictions: str | Path, clients: pd.Index[Any]) -> str:
    """Return a sentence about whether the model that predicted was trained on these clients.

    Args:
        predictions: a table of predictions; only those that `seqmel predict` wrote as Parquet say
            what their model learnt from.
        clients: ids of the clients that are scored.

    Returns:
        The sentence; empty if nothing is known.
    """
    learnt = trained_on(predictions)
    if not learnt.get("clients"):
        return ""
    if learnt.get("labelled") == digest_of_ids(clients):
        return (
            "TRAINING CLIENTS: the model learnt from the labels of these very clients, so the "
            "scores are too good. Score clients that it has not seen."
        )
    return (
        f"The model learnt from the labels of {count_words(learnt['clients'], 'client')}. If some "
        "of the clients scored are among them, the scores are too good."
    )


def read_predictions(
    predictions: str | Path,
    y: pd.Series[Any],
    *,
    task: TargetTask = "auto",
    client: str | None = None,
    time_column: str | None = None,
    column: str | None = None,
) -> pd.DataFrame:
    """Read the predictions of one target.

    Args:
        predictions: a table with one row per client, as `seqmel predict` writes it (columns
            `gender=F` and `gender=M` for classes, `age` for a quantity, `churn>30` and `churn>60`
            for the time to an event), or with one column of scores.
        y: the labels, with the name of the target. They define the classes.
        task: "classification", "regression", "survival" or "auto", which treats a number with more
            than 20 distinct values as a quantity and all else as classes.
        client: the client column; None recognises it by name.
        time_column: the time column, if there is one row per client and moment.
        column: the column of predictions, if it is not named as by `seqmel predict`. It holds the
            quantity, or the probability of the second of two classes.

    Returns:
        A table indexed by client id (and moment), with one column per class or bound, or one column
        for a quantity.

    Raises:
        ConfigError: a column is named for the time to an event.
        SchemaError, InputError: a column is missing, or holds values that are missing or no
            numbers.
    """
    target = str(y.name)
    if task == "survival":
        names = _later_columns(predictions, target, column)
        return _table_of(predictions, names, client, time_column, names)
    quantity = (recognise_task(y) if task == "auto" else task) == "regression"
    names = [] if quantity else [f"{target}={value}" for value in np.unique(y.to_numpy()).tolist()]
    by_class = column is None and names and all(has_column(predictions, name) for name in names)
    wanted = names if by_class else [column or target]
    return _table_of(predictions, wanted, client, time_column, names)


def _later_columns(predictions: str | Path, target: str, column: str | None) -> list[str]:
    """Return the columns `churn>30`, `churn>60`, in the order of their bounds."""
    if column is not None:
        raise ConfigError(
            f"--column is for classes and quantities. Times to an event are read from {target}>30 "
            "and the like, a column of probabilities for each bound."
        )
    bounds = {}
    for name in column_names(predictions):
        if name.startswith(f"{target}>"):
            try:
                bounds[float(name.removeprefix(f"{target}>"))] = name
            except ValueError:
                continue
    if not bounds or min(bounds) <= 0:
        raise SchemaError(
            f"{predictions} has no probabilities of a later event of {target!r}. Expected columns "
            f"such as {target}>30 and {target}>60, with bounds above 0; `seqmel predict` writes "
            "them."
        )
    return [bounds[bound] for bound in sorted(bounds)]


def _table_of(
    predictions: str | Path,
    wanted: Sequence[str],
    client: str | None,
    time_column: str | None,
    names: Sequence[str],
) -> pd.DataFrame:
    time_column = own_time_column(predictions, time_column)
    read = {
        name: read_column(
            predictions, name, option="--column", client=client, time_column=time_column
        )
        for name in wanted
    }
    table: pd.DataFrame = pd.DataFrame(read)
    wrong = [name for name, kind in table.dtypes.items() if not pd.api.types.is_numeric_dtype(kind)]
    if wrong or table.isna().any(axis=None):
        raise InputError(
            f"The predictions in {predictions} have no numbers in column {wrong[0]!r}. Name the "
            "column of the probabilities or quantities with "
            f"--column{f', or give {shown(map(repr, names))}' if names else ''}."
            if wrong
            else (
                f"Some clients of {predictions} lack one of the columns {shown(wanted)}. Fill "
                "them in."
            )
        )
    return table


def score_predictions(
    y: pd.Series[Any],
    predictions: pd.DataFrame,
    *,
    task: TargetTask = "auto",
    observed: pd.Series[Any] | None = None,
    seed: int = 0,
) -> ScoredPredictions:
    """Compare predictions with labels, matched by client id.

    Args:
        y: one label per client, with the name of the target, indexed by client id.
        predictions: a table as `read_predictions` returns it.
        task: "classification", "regression", "survival" or "auto", which treats a number with more
            than 20 distinct values as a quantity and all else as classes. "survival" takes y as
            times to an event, which may be censored.
        observed: with the task "survival", whether each event was observed, indexed like y.
        seed: seed of the bootstrap.

    Returns:
        One score per metric, and the matched labels and predictions.

    Raises:
        InputError: no common client, fewer than two classes, or probabilities outside 0 to 1 or
            that do not sum to 1, or that increase with the bounds.
        ConfigError: `observed` is missing, or belongs to another task.
    """
    y = signed_labels(y.dropna(), task, observed)
    place = locate_ids(y.index, predictions.index, of="predictions")
    y = y[place >= 0]
    values = predictions.to_numpy(np.float64)[place[place >= 0]]
    edges = (
        [float(str(name).rpartition(">")[2]) for name in predictions] if task == "survival" else ()
    )
    problem = Problem.of_predictions(y, task, seed, edges)
    predicted = values[:, 0]
    if problem.classes:
        predicted = _probabilities(values, problem.classes, str(y.name))
    elif edges:
        predicted = _survival(values, str(y.name))
    (scores,) = [summarised("predictions", [problem.measure(predicted, 0)])]
    by_metric = {score.metric: score for score in scores}
    found = tuple(by_metric[name] for name in problem.metrics)
    clients = len(np.unique(problem.owners))
    return ScoredPredictions(
        str(y.name), problem.classes, found, problem.target, predicted, clients, problem.edges
    )


def _survival(values: Floats, target: str) -> Floats:
    """Check (clients, bounds) probabilities of a later event."""
    _check_probabilities(values, target)
    if (np.diff(values, axis=1) > 1e-6).any():
        raise InputError(
            f"The probabilities that {target!r} comes later increase from one bound to a later one."
            " Expected probabilities of no event until the bound, such as seqmel predict writes."
        )
    return values


def _probabilities(values: Floats, classes: tuple[str, ...], target: str) -> Floats:
    """Check (clients, classes) probabilities, and make each row sum to 1.

    A single column is taken as the probability of the second of two classes.
    """
    if values.shape[1] == 1:
        if len(classes) != 2:
            raise InputError(
                f"The target {target!r} has {count_words(len(classes), 'class', 'classes')} and "
                "the predictions one column. Give a column of probabilities for each class: "
                f"{shown(f'{target}={name}' for name in classes)}."
            )
        values = np.concatenate([1 - values, values], axis=1)
    _check_probabilities(values, target)
    total = values.sum(axis=1, keepdims=True)
    if (np.abs(total - 1) > 0.01).any():
        raise InputError(
            f"The probabilities of {target!r} do not add up to 1: one client's give "
            f"{total.min():.4g}, another's {total.max():.4g}."
        )
    return np.asarray(values / total)


def _check_probabilities(values: Floats, target: str) -> None:
    if not np.isfinite(values).all() or values.min() < 0 or values.max() > 1:
        raise InputError(
            f"The predictions of {target!r} are not probabilities: they reach from "
            f"{values.min():.4g} to {values.max():.4g}. Expected numbers from 0 to 1."
        )
