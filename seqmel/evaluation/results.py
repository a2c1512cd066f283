"""What scoring found: a value a fold, means with intervals, differences; as a table for people and JSON for programs."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from html import escape
from typing import TYPE_CHECKING, Any

import numpy as np

from seqmel.core.errors import ConfigError, did_you_mean, shown
from seqmel.evaluation.feature_sets import reference

if TYPE_CHECKING:
    from rich.table import Table

__all__ = ["TITLES", "Score", "Scores"]

TITLES = {  # metric -> what people call it; an arrow where less is better
    "accuracy": "accuracy", "auroc": "AUROC", "log_loss": "log-loss ↓",
    "r2": "R2", "rmse": "RMSE ↓", "mae": "MAE ↓", "spearman": "Spearman",
    "average_precision": "average precision", "gini": "Gini", "ks": "KS", "balanced_accuracy": "balanced accuracy",
    "brier": "Brier ↓", "calibration_error": "calibration error ↓",
    "lift_at_1": "lift at 1 %", "lift_at_5": "lift at 5 %", "lift_at_10": "lift at 10 %",
    "recall_at_1": "recall at 1 %", "recall_at_5": "recall at 5 %", "recall_at_10": "recall at 10 %",
}  # fmt: skip
_SHOWN = ("accuracy", "auroc", "log_loss", "r2", "mae", "spearman")
_MOST_SHOWN = 3  # with their intervals, so many columns beside the names fit into a terminal of 80
_IN_UNITS_OF_TARGET = ("rmse", "mae")


@dataclass(frozen=True)
class Score:
    """One metric of one set of features, or its difference between two sets.

    Attributes:
        features: the name of the set.
        metric: one of `TITLES`.
        folds: its value on the test part of each fold.
        resamples: where there is one test part, its value on resamples of the clients there, NaN where it has none;
            empty with several folds.
    """

    features: str
    metric: str
    folds: tuple[float, ...]
    resamples: tuple[float, ...] = ()

    @property
    def mean(self) -> float:
        return float(np.mean(self.folds))

    @property
    def interval(self) -> tuple[float, float]:
        """The 95 % interval: of the mean by Student's t over the folds, or the middle 95 % of the resamples.

        The training parts of the folds overlap, so the former is somewhat too narrow (Bengio and Grandvalet, 2004). The
        latter is the percentile bootstrap over the test clients (Efron and Tibshirani, 1993). Neither says anything of
        what another seed of the encoder would give.
        """
        if self.resamples:
            low, high = np.nanpercentile(self.resamples, [2.5, 97.5])
            return float(low), float(high)
        from scipy.stats import t

        count = len(self.folds)
        half = t.ppf(0.975, count - 1) * np.std(self.folds, ddof=1) / np.sqrt(count)
        return float(self.mean - half), float(self.mean + half)

    @property
    def half_width(self) -> float:
        """Half of the width of `interval`."""
        low, high = self.interval
        return (high - low) / 2

    def to_json(self) -> dict[str, Any]:
        """Plain values: features, metric, mean, half_width, interval, folds."""
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
    """A figure in units of the target, to as many places as two digits of its interval have: 3,435 ± 2,000, 0.0120 ± 0.0034."""
    if not math.isfinite(half) or half <= 0 or not 1e-6 < half < 1e12:
        return f"{mean:.4g} ± {half:.2g}"
    places = max(0, 1 - math.floor(math.log10(half)))
    return f"{mean:,.{places}f} ± {half:,.{places}f}"


@dataclass(frozen=True, repr=False)
class Scores:
    """The scores of all sets of features on one target, all on the same clients and folds.

    Attributes:
        target: the name of the target.
        task: "classification" or "regression".
        primary: the metric to look at first, of which the differences are made: the one that was asked for, or auroc for two
            classes, accuracy for more, r2 for a quantity.
        rows: one score a set and metric.
        clients: how many clients were scored: those with a label and with every set of features.
        labelled: how many clients have a label.
        matched: name of a set -> how many of the labelled clients it has.
        classes: class -> how many of the scored clients are of it; empty for a quantity.
        seed: of folds and LightGBM.
        trees: how many LightGBM grew.
        split: its kind (folds, groups or out_of_time) and what else there is to say of it.

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

    def score(self, features: str, metric: str | None = None) -> Score:
        """One score; the primary metric where none is named. A `ConfigError` for a set or metric that is not there."""
        metric = metric or self.primary
        metrics = list(dict.fromkeys(row.metric for row in self.rows))
        for name, known, what in ((features, list(self.matched), "features"), (metric, metrics, "metric")):
            if name not in known:
                raise ConfigError(
                    f"No {what} {name!r} was scored.{did_you_mean(name, known)} There is: {shown(known)}."
                )
        return next(row for row in self.rows if (row.features, row.metric) == (features, metric))

    def difference(self, a: str, b: str, metric: str | None = None) -> Score:
        """How much more `a` has than `b`, fold by fold: sharper than two intervals side by side, as folds are shared."""
        left, right = self.score(a, metric), self.score(b, metric)
        folds = tuple(x - y for x, y in zip(left.folds, right.folds, strict=True))
        resamples = tuple(x - y for x, y in zip(left.resamples, right.resamples, strict=True))
        return Score(f"{a} - {b}", left.metric, folds, resamples)

    @property
    def reference(self) -> str:
        """The set of features that the others are compared with: aggregates, with order where they are; else the first."""
        return reference(self.matched) or next(iter(self.matched))

    def differences(self, metric: str | None = None) -> list[Score]:
        """How much more each other set has than `reference`."""
        others = [name for name in self.matched if name != self.reference]
        return [self.difference(name, self.reference, metric) for name in others]

    @property
    def shown(self) -> list[str]:
        """The metrics that tables show: `primary` and two of the usual ones; `to_json` has all."""
        there = {row.metric for row in self.rows}
        usual = [metric for metric in _SHOWN if metric in there]
        if self.primary in usual:
            return usual
        return [self.primary, *(metric for metric in usual if metric != "accuracy")][:_MOST_SHOWN]

    @property
    def remarks(self) -> list[str]:
        """What is odd about the scores, a sentence each."""
        below = [name for name in self.matched if self.task == "regression" and self.score(name, "r2").mean < 0]
        return [
            f"{name} is worse than the mean of the target for every client (R2 {self.score(name, 'r2').mean:.3f}). A target"
            " with a long tail, such as money, is often predicted better as its logarithm."
            for name in below
        ]

    def to_json(self) -> dict[str, Any]:
        """Everything as plain values; `differences` are those of the primary metric to `reference`."""
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
        }

    def table(self) -> Table:
        """For a terminal: a row for each set, a column for each of `shown`, mean ± half of the 95 % interval."""
        from rich.table import Column, Table

        header, *rows = self._cells()
        columns = [Column(header[0], overflow="fold"), *(Column(name, no_wrap=True) for name in header[1:])]
        table = Table(*columns, title=self.target, caption=self.caption)
        for row in rows:
            table.add_row(*row)
        return table

    def markdown(self) -> str:
        """The same table in Markdown, with the caption below."""
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
        """What the table rests on: clients, classes, split, interval."""
        classes = f" ({shown(f'{name}: {n:,}' for name, n in self.classes.items())})" if self.classes else ""
        without = self.labelled - self.clients
        left_out = f" {without:,} more have a label, but no features in one of the sets." if without else ""
        return (
            f"{self.target}: {self.clients:,} clients{classes}, {self._split}; LightGBM, {self.trees} trees.{left_out}"
        )

    @property
    def _split(self) -> str:
        folds, of = len(self.rows[0].folds), self.split
        if folds == 1:
            return (
                f"trained on {of['train']:,} before {of['column']} {of['cut']}, tested on {of['test']:,} from then on,"
                f" ± half of the 95 % interval by bootstrap over the {of['test_clients']:,} test clients"
            )
        groups = f" of whole groups ({of['groups']} of {of['column']})" if of.get("kind") == "groups" else ""
        return f"{folds} folds{groups}, mean ± 95 % interval over the folds"

    def _cells(self) -> list[list[str]]:
        header = ["features", *(TITLES[metric] for metric in self.shown)]
        return [header, *([name, *(str(self.score(name, m)) for m in self.shown)] for name in self.matched)]
