"""Results of scoring: values per fold, means with intervals and differences, as tables and JSON."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from html import escape
from typing import TYPE_CHECKING, Any

import numpy as np

from seqmel.core.errors import ConfigError, did_you_mean, shown
from seqmel.core.survival import SURVIVAL_METRICS
from seqmel.core.units import count_words
from seqmel.evaluation.feature_sets import reference

if TYPE_CHECKING:
    from rich.table import Table

    from seqmel.evaluation.group_results import Groups

__all__ = ["TITLES", "Score", "Scores"]

TITLES = {  # metric -> title in tables; the arrow marks metrics where lower is better
    "accuracy": "accuracy",
    "auroc": "AUROC",
    "log_loss": "log-loss ↓",
    "r2": "R2",
    "rmse": "RMSE ↓",
    "mae": "MAE ↓",
    "spearman": "Spearman",
    "average_precision": "average precision",
    "gini": "Gini",
    "ks": "KS",
    "balanced_accuracy": "balanced accuracy",
    "brier": "Brier ↓",
    "calibration_error": "calibration error ↓",
    "concordance": "concordance",
    "calibration": "calibration",
    "lift_at_1": "lift at 1 %",
    "lift_at_5": "lift at 5 %",
    "lift_at_10": "lift at 10 %",
    "recall_at_1": "recall at 1 %",
    "recall_at_5": "recall at 5 %",
    "recall_at_10": "recall at 10 %",
}
_FRACTIONS = (
    "accuracy", "auroc", "average_precision", "ks", "balanced_accuracy", "brier",
    "calibration_error", "concordance", "recall_at_1", "recall_at_5", "recall_at_10",
)  # fmt: skip
"""Metrics that lie between 0 and 1."""
_SHOWN = ("accuracy", "auroc", "log_loss", "r2", "mae", "spearman")
_MOST_SHOWN = 3  # columns with intervals that fit into a terminal of 80 characters
_IN_UNITS_OF_TARGET = ("rmse", "mae")


@dataclass(frozen=True)
class Score:
    """One metric of one feature set, or its difference between two feature sets.

    Attributes:
        features: name of the feature set.
        metric: a key of `TITLES`.
        folds: value on the test part of each fold.
        resamples: values on bootstrap resamples of the test clients, if there is one test part. NaN
            where the metric is undefined; empty if there are several folds.
        is_difference: whether the values are differences.
    """

    features: str
    metric: str
    folds: tuple[float, ...]
    resamples: tuple[float, ...] = ()
    is_difference: bool = False

    @property
    def mean(self) -> float:
        """The mean over the folds."""
        return float(np.mean(self.folds))

    @property
    def interval(self) -> tuple[float, float]:
        """The 95 % interval.

        With several folds it is Student's t interval of the mean over the folds. It is somewhat too
        narrow, because the training parts overlap (Bengio and Grandvalet, 2004). With one test part
        it is the percentile bootstrap over the test clients (Efron and Tibshirani, 1993). Neither
        covers the variance over seeds of the encoder. It ends at 0 and 1 if the metric does.
        """
        low, high = self._ends()
        if self.metric in _FRACTIONS and not self.is_difference:
            return max(low, 0.0), min(high, 1.0)
        return low, high

    def _ends(self) -> tuple[float, float]:
        """Ends of the 95 % interval, which may lie where the metric cannot."""
        if self.resamples:
            low, high = np.nanpercentile(self.resamples, [2.5, 97.5])
            return float(low), float(high)
        from scipy.stats import t

        count = len(self.folds)
        half = t.ppf(0.975, count - 1) * np.std(self.folds, ddof=1) / np.sqrt(count)
        return float(self.mean - half), float(self.mean + half)

    @property
    def half_width(self) -> float:
        """Half the width of the 95 % interval, before it is cut off where the metric ends."""
        low, high = self._ends()
        return (high - low) / 2

    def to_json(self) -> dict[str, Any]:
        """Return values for JSON: features, metric, mean, half_width, interval and folds."""
        return {
            "features": self.features,
            "metric": self.metric,
            "mean": self.mean,
            "half_width": self.half_width,
            "interval": list(self.interval),
            "folds": list(self.folds),
        }

    def __str__(self) -> str:
        if self.metric in _IN_UNITS_OF_TARGET:
            return _in_units(self.mean, self.half_width)
        return f"{self.mean:.3f} ± {self.half_width:.3f}"


def _in_units(mean: float, half: float) -> str:
    """Format a value in units of the target, rounded to two digits of the half-width.

    Examples are 3,435 ± 2,000 and 0.0120 ± 0.0034.
    """
    if not math.isfinite(half) or half <= 0 or not 1e-6 < half < 1e12:
        return f"{mean:.4g} ± {half:.2g}"
    places = max(0, 1 - math.floor(math.log10(half)))
    return f"{mean:,.{places}f} ± {half:,.{places}f}"


@dataclass(frozen=True, repr=False)
class Scores:
    """The scores of all feature sets on one target, on the same clients and folds.

    Attributes:
        target: name of the target.
        task: "classification", "regression" or "survival".
        primary: the primary metric, which the differences use: the given one, else auroc for two
            classes, accuracy for more, r2 for a quantity, concordance for the time to an event.
        rows: one score per feature set and metric.
        clients: number of scored clients, or rows of a client and a moment, which have a label and
            all features.
        labelled: number of clients, or rows, with a label.
        matched: name of a feature set -> number of labelled clients that it has.
        classes: class, or "event" and "censored" -> number of scored rows; empty for a quantity.
        seed: seed of the folds and of LightGBM.
        trees: number of LightGBM trees.
        split: kind of the split (folds, groups, out_of_time or out_of_time_and_clients) and its
            details.
        groups: errors and calibration by group, if they were asked for.
        edges: the bounds at which the probabilities of a later event are compared; empty for other
            targets than the time to an event.
        distinct_clients: number of clients of the scored rows, if rows are clients and moments.

    Examples:
        >>> import numpy as np, pandas as pd
        >>> import seqmel
        >>> signal = pd.DataFrame({"x": np.arange(40.0)}, index=pd.Index(range(40), name="client"))
        >>> y = pd.Series(np.arange(40) % 2, index=signal.index, name="odd")
        >>> scores = seqmel.score(y, {"signal": signal}, folds=2, trees=5)
        >>> scores.primary, scores.clients, scores.score("signal").mean <= 1
        ('auroc', 40, True)
    """

    target: str
    task: str
    primary: str
    rows: tuple[Score, ...]
    clients: int
    labelled: int
    matched: dict[str, int]
    classes: dict[str, int]
    seed: int
    trees: int
    split: dict[str, Any] = field(default_factory=dict)
    groups: Groups | None = None
    edges: tuple[float, ...] = ()
    distinct_clients: int | None = None

    def score(self, features: str, metric: str | None = None) -> Score:
        """Return one score.

        Args:
            features: name of the feature set.
            metric: name of the metric; None takes the primary one.

        Returns:
            The score.

        Raises:
            ConfigError: no such feature set or metric was scored.
        """
        metric = metric or self.primary
        metrics = list(dict.fromkeys(row.metric for row in self.rows))
        for name, known, what in (
            (features, list(self.matched), "features"),
            (metric, metrics, "metric"),
        ):
            if name not in known:
                raise ConfigError(
                    f"No {what} {name!r} was scored.{did_you_mean(name, known)} There is: "
                    f"{shown(known)}."
                )
        return next(row for row in self.rows if (row.features, row.metric) == (features, metric))

    def difference(self, a: str, b: str, metric: str | None = None) -> Score:
        """Compute the paired difference between two feature sets.

        Folds and resamples are shared, so its interval is tighter than two separate ones suggest.

        Args:
            a: name of the first feature set.
            b: name of the feature set that is subtracted.
            metric: name of the metric; None takes the primary one.

        Returns:
            The difference, per fold and resample.

        Raises:
            ConfigError: no such feature set or metric was scored.
        """
        left = self.score(a, metric)
        right = self.score(b, metric)
        folds = tuple(x - y for x, y in zip(left.folds, right.folds, strict=True))
        resamples = tuple(x - y for x, y in zip(left.resamples, right.resamples, strict=True))
        return Score(f"{a} - {b}", left.metric, folds, resamples, is_difference=True)

    @property
    def reference(self) -> str:
        """The feature set to compare with: the best aggregates, else the first set."""
        return reference(self.matched) or next(iter(self.matched))

    def differences(self, metric: str | None = None) -> list[Score]:
        """Compute the difference of each other feature set from `reference`.

        Args:
            metric: name of the metric; None takes the primary one.

        Returns:
            One difference per feature set.

        Raises:
            ConfigError: no such metric was scored.
        """
        others = [name for name in self.matched if name != self.reference]
        return [self.difference(name, self.reference, metric) for name in others]

    @property
    def shown(self) -> list[str]:
        """The metrics in tables: `primary` and two standard ones. `to_json` has all metrics."""
        if self.task == "survival":
            return list(SURVIVAL_METRICS)
        there = {row.metric for row in self.rows}
        usual = [metric for metric in _SHOWN if metric in there]
        if self.primary in usual:
            return usual
        return [self.primary, *(metric for metric in usual if metric != "accuracy")][:_MOST_SHOWN]

    @property
    def remarks(self) -> list[str]:
        """Warnings about the scores, one sentence each."""
        below = [
            name
            for name in self.matched
            if self.task == "regression" and self.score(name, "r2").mean < 0
        ]
        return [
            f"{name} is worse than the mean of the target for every client (R2 "
            f"{self.score(name, 'r2').mean:.3f}). A target with a long tail, such as money, is "
            "often predicted better as its logarithm."
            for name in below
        ]

    def to_json(self) -> dict[str, Any]:
        """Return all results as values for JSON.

        `differences` are those of the primary metric from `reference`.
        """
        by: dict[str, Any] = {} if self.groups is None else {"by": self.groups.to_json()}
        by |= {"edges": list(self.edges)} if self.edges else {}
        if self.distinct_clients is not None:
            by["distinct_clients"] = self.distinct_clients
        return {
            "target": self.target,
            "task": self.task,
            "primary": self.primary,
            "clients": self.clients,
            "labelled": self.labelled,
            "matched": self.matched,
            "classes": self.classes,
            "seed": self.seed,
            "trees": self.trees,
            "split": self.split,
            "scores": [row.to_json() for row in self.rows],
            "reference": self.reference,
            "differences": [row.to_json() for row in self.differences()],
        } | by

    def table(self) -> Table:
        """Return a table for a terminal, with one row per feature set and one column per metric.

        Cells are the mean ± half the width of the 95 % interval; `shown` lists the metrics.
        """
        from rich.table import Column, Table

        header, *rows = self._cells()
        columns = [
            Column(header[0], overflow="fold"),
            *(Column(name, no_wrap=True) for name in header[1:]),
        ]
        table = Table(*columns, title=self.target, caption=self.caption)
        for row in rows:
            table.add_row(*row)
        return table

    def markdown(self) -> str:
        """Return the table in Markdown, followed by the caption."""
        header, *rows = self._cells()
        lines = [header, ["---"] * len(header), *rows]
        return "\n".join("| " + " | ".join(line) + " |" for line in lines) + f"\n\n{self.caption}\n"

    def __repr__(self) -> str:
        scores = ", ".join(f"{name} {self.score(name)}" for name in self.matched)
        return f"Scores({self.target}, {TITLES[self.primary]}: {scores})"

    def _repr_html_(self) -> str:
        header, *rows = self._cells()
        lines = ["".join(f"<th>{escape(cell)}</th>" for cell in header)]
        lines += ["".join(f"<td>{escape(cell)}</td>" for cell in row) for row in rows]
        table = "".join(f"<tr>{line}</tr>" for line in lines)
        return f"<b>{escape(self.target)}</b><table>{table}</table>{escape(self.caption)}"

    @property
    def caption(self) -> str:
        """Caption of the tables: clients, classes, split and interval."""
        classes = (
            f" ({shown(f'{name}: {n:,}' for name, n in self.classes.items())})"
            if self.classes
            else ""
        )
        bounds = f" at {shown(f'{edge:g}' for edge in self.edges)}" if self.edges else ""
        without = self.labelled - self.clients
        left_out = (
            f" {without:,} more have a label, but no features in one of the sets."
            if without
            else ""
        )
        rows = count_words(self.clients, "client" if self.distinct_clients is None else "row")
        if self.distinct_clients is not None:
            rows += f" of {count_words(self.distinct_clients, 'client')}"
        return (
            f"{self.target}: {rows}{classes}{bounds}, {self._split}; LightGBM, "
            f"{count_words(self.trees, 'tree')}.{left_out}"
        )

    @property
    def _split(self) -> str:
        folds = len(self.rows[0].folds)
        of = self.split
        if folds == 1:
            return (
                f"trained on {of['train']:,} before {of['column']} {of['cut']}, tested on "
                f"{of['test']:,} from then on, ± half of the 95 % interval by bootstrap over the "
                f"{of['test_clients']:,} test clients"
            )
        groups = (
            f" of whole groups ({of['groups']} of {of['column']})"
            if of.get("kind") == "groups"
            else ""
        )
        if of.get("kind") == "out_of_time_and_clients":
            groups = (
                f" of clients, each trained on rows of the others before {of['column']} {of['cut']}"
                " and tested from then on"
            )
        return f"{count_words(folds, 'fold')}{groups}, mean ± 95 % interval over the folds"

    def _cells(self) -> list[list[str]]:
        header = ["features", *(TITLES[metric] for metric in self.shown)]
        return [
            header,
            *([name, *(str(self.score(name, m)) for m in self.shown)] for name in self.matched),
        ]
