"""Curves of quality against the fraction of labelled clients, and against the bytes per vector.

Clients and test parts are those of `score`. Only the training parts shrink, and compression is
fitted on the training parts alone.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from seqmel.core.errors import ConfigError, InputError, plain
from seqmel.core.progress import Reporting, as_progress
from seqmel.core.renames import renamed_keywords
from seqmel.data.tables.number_types import NumberType, check_number_types, stored_bytes
from seqmel.data.tables.targets import TargetTask
from seqmel.evaluation.compression import Components, read_back
from seqmel.evaluation.downstream import Downstream, LinearProbe, side_by_side, spread_boosters
from seqmel.evaluation.metrics import Floats
from seqmel.evaluation.problem import (
    Measured,
    Problem,
    build_problem,
    check_counts,
    feature_matrix,
    summarised,
)
from seqmel.evaluation.results import Score
from seqmel.evaluation.splits import Places, Split

if TYPE_CHECKING:
    from rich.table import Table

__all__ = ["Curve", "Point", "compression_curve", "label_curve", "label_draws"]

_MOST_DRAWS = 5
_FEW_LABELS = 1_000


@dataclass(frozen=True)
class Point:
    """One point of a curve.

    Attributes:
        features: name of the feature set.
        at: the fraction of labelled training clients, or the bytes per vector.
        settings: share, clients and draws; or size, number_type and bytes.
        scores: one score per metric.
    """

    features: str
    at: float
    settings: dict[str, Any]
    scores: tuple[Score, ...]

    def score(self, metric: str) -> Score:
        """Return the score of one metric.

        Args:
            metric: name of the metric.

        Returns:
            The score.
        """
        return next(score for score in self.scores if score.metric == metric)


@dataclass(frozen=True)
class Curve:
    """Quality against a cost.

    Attributes:
        target: name of the target.
        over: the cost: "label_fraction" or "bytes".
        primary: the primary metric.
        points: the points, one feature set after the other.
        note: a sentence about the split and the intervals.
    """

    target: str
    over: str
    primary: str
    points: tuple[Point, ...]
    note: str

    def to_json(self) -> list[dict[str, Any]]:
        """Return one JSON object per point.

        Returns:
            Dicts with features, the settings, primary, mean, half_width, interval and scores.
        """
        rows = []
        for point in self.points:
            primary = point.score(self.primary).to_json()
            values = {name: primary[name] for name in ("mean", "half_width", "interval")}
            scores = [score.to_json() for score in point.scores]
            rows.append(
                {
                    "features": point.features,
                    **point.settings,
                    "primary": self.primary,
                    **values,
                    "scores": scores,
                }
            )
        return rows

    def table(self) -> Table:
        """Return a table for a terminal, with one row per point."""
        from rich.table import Table

        settings = self.points[0].settings
        names = [name.replace("_", " ") for name in settings]
        table = Table(
            "features",
            *names,
            self.primary,
            title=f"{self.target}: {self.primary}",
            caption=self.note,
        )
        for point in self.points:
            table.add_row(
                point.features,
                *(f"{v:,}" if isinstance(v, int) else str(v) for v in point.settings.values()),
                str(point.score(self.primary)),
            )
        return table


def label_curve(
    y: pd.Series[Any],
    features: Mapping[str, pd.DataFrame],
    fractions: Sequence[float],
    *,
    probes: Mapping[str, str] | None = None,
    task: TargetTask = "auto",
    observed: pd.Series[Any] | None = None,
    time_edges: Sequence[float] | None = None,
    folds: int = 5,
    seed: int = 0,
    trees: int = 500,
    threads: int | None = None,
    split: Split | None = None,
    metric: str | None = None,
    progress: Reporting = None,
) -> Curve:
    """Score feature sets with only a fraction of the training clients labelled.

    The test parts do not change. Labelled clients are drawn at random, with at least one client per
    class, and are the same for all feature sets. Each fraction is drawn `min(5, ceil(1 /
    fraction))` times, and the value of a fold is the mean over its draws. The interval is over the
    folds, or over the test clients if there is one test part. In that case it hardly covers the
    variance of the draws.

    Args:
        y: one label per client, indexed by client id (or client id and moment). Null labels are
            left out.
        features: name -> one row of numbers per client, indexed like y.
        fractions: label fractions, above 0 and at most 1.
        probes: name -> feature set for a linear probe, which is scored where at most 1,000 clients
            are labelled. With few labels logistic or ridge regression is often the better model.
        task: "classification", "regression", "survival" or "auto", which treats a number with more
            than 20 distinct values as a quantity and all else as classes. "survival" takes y as
            times to an event, which may be censored.
        observed: with the task "survival", whether each event was observed, indexed like y; a time
            without is censored.
        time_edges: with the task "survival", the bounds at which probabilities of a later event are
            compared, such as [30, 60, 90]; None takes quantiles of the observed times.
        folds: number of cross-validation folds.
        seed: seed of the folds, the draws and the models.
        trees: number of LightGBM trees.
        threads: maximum number of threads of all models together; None uses all cores.
        split: `GroupFolds` or `OutOfTime`; None draws random folds.
        metric: the primary metric; None takes AUROC for two classes, accuracy for more, R2 for a
            quantity, concordance for the time to an event.
        progress: None shows progress on a terminal and in a notebook, True everywhere, False
            nowhere; or a `Progress`.

    Returns:
        One point per feature set and fraction.

    Raises:
        ConfigError: a fraction or another option is out of range, or there are no features.
        InputError: a fraction leaves fewer clients than classes, or fewer than two; or labels,
            features and split do not fit together.

    Examples:
        >>> import numpy as np, pandas as pd
        >>> import seqmel
        >>> signal = pd.DataFrame({"x": np.arange(40.0)}, index=pd.Index(range(40), name="client"))
        >>> y = pd.Series(np.arange(40) % 2, index=signal.index, name="odd")
        >>> curve = seqmel.label_curve(y, {"signal": signal}, [0.5, 1], folds=2, trees=5)
        >>> [point.settings["clients"] for point in curve.points]
        [10, 20]
    """
    wrong = [f for f in fractions if not 0 < f <= 1]
    if wrong or not fractions:
        raise ConfigError(
            (
                f"The label fraction {wrong[0]:g} is out of range. Expected fractions above 0, up "
                "to 1, such as 0.01,0.1,1."
            )
            if wrong
            else "No label fractions. Expected fractions above 0, up to 1, such as 0.01,0.1,1."
        )
    check_counts(trees=(trees, 1), threads=(threads, 1))
    problem, scored, matched = build_problem(
        y, features, task, folds, seed, split, observed, time_edges
    )
    primary = problem.chosen(metric)
    matrices = {
        name: feature_matrix(table.loc[scored.index], name) for name, table in matched.items()
    }
    trainings = len(problem.splits) * len(fractions)
    booster, workers = spread_boosters(
        threads, matrices.values(), trainings, trees=trees, seed=seed
    )
    drawn = {
        f: [label_draws(problem, fold, f, seed) for fold in range(len(problem.splits))]
        for f in fractions
    }
    models: dict[str, tuple[str, Downstream]] = {name: (name, booster) for name in matrices}
    models |= {name: (of, LinearProbe(seed)) for name, of in (probes or {}).items()}
    jobs = [
        (name, f, fold, train) for name, (_, model) in models.items() for f in fractions
        if model is booster or len(drawn[f][0][0]) <= _FEW_LABELS
        for fold, parts in enumerate(drawn[f]) for train in parts
    ]  # fmt: skip
    measured: dict[tuple[str, float], dict[int, list[Measured]]] = {}
    each = [
        (matrices[models[name][0]], fold, models[name][1], train) for name, _, fold, train in jobs
    ]
    found = side_by_side(problem.predict, each, workers)
    with as_progress(progress).task(f"label curve of {y.name}", len(jobs), "trainings") as bar:
        for (name, fraction, fold, _), predicted in zip(jobs, found, strict=True):
            measured.setdefault((name, fraction), {}).setdefault(fold, []).append(
                problem.measure(predicted, fold)
            )
            bar.advance()
    points = []
    for (name, fraction), folds_of in measured.items():
        settings = {
            "share": fraction,
            "clients": len(drawn[fraction][0][0]),
            "draws": len(drawn[fraction][0]),
        }
        points.append(
            Point(
                name,
                fraction,
                settings,
                tuple(summarised(name, list(map(_mean, folds_of.values())))),
            )
        )
    note = (
        f"{_split_note(problem)}; the same test parts for all shares; mean over the draws of each"
    )
    return Curve(str(y.name), "label_fraction", primary, tuple(points), note)


@renamed_keywords(number_types="dtypes", sizes="dims")
def compression_curve(
    y: pd.Series[Any],
    features: Mapping[str, pd.DataFrame],
    dims: Sequence[int | None],
    dtypes: Sequence[NumberType] = ("float32", "float16", "int8", "binary"),
    *,
    task: TargetTask = "auto",
    observed: pd.Series[Any] | None = None,
    time_edges: Sequence[float] | None = None,
    folds: int = 5,
    seed: int = 0,
    trees: int = 500,
    threads: int | None = None,
    split: Split | None = None,
    metric: str | None = None,
    progress: Reporting = None,
) -> Curve:
    """Score compressed vectors: principal components, quantization, and both.

    Components, scales and means are fitted on the training part of each fold.

    Args:
        y: one label per client, indexed by client id (or client id and moment). Null labels are
            left out.
        features: name -> one finite vector per client, indexed like y.
        dims: numbers of principal components; None keeps the full vector.
        dtypes: "float32", "float16", "int8" (256 steps per dimension) or "binary" (one bit per
            dimension).
        task: "classification", "regression", "survival" or "auto", which treats a number with more
            than 20 distinct values as a quantity and all else as classes. "survival" takes y as
            times to an event, which may be censored.
        observed: with the task "survival", whether each event was observed, indexed like y; a time
            without is censored.
        time_edges: with the task "survival", the bounds at which probabilities of a later event are
            compared, such as [30, 60, 90]; None takes quantiles of the observed times.
        folds: number of cross-validation folds.
        seed: seed of the folds and the models.
        trees: number of LightGBM trees.
        threads: maximum number of threads of all models together; None uses all cores.
        split: `GroupFolds` or `OutOfTime`; None draws random folds.
        metric: the primary metric; None takes AUROC for two classes, accuracy for more, R2 for a
            quantity, concordance for the time to an event.
        progress: None shows progress on a terminal and in a notebook, True everywhere, False
            nowhere; or a `Progress`.

    Returns:
        One point per feature set, size and number type.

    Raises:
        ConfigError: a size is below 1, a number type is unknown, or another option is out of range.
        InputError: a size is not below that of the vectors or is above the number of training
            clients, a number is not finite, or labels, features and split do not fit together.

    Examples:
        >>> import numpy as np, pandas as pd
        >>> import seqmel
        >>> numbers = np.random.default_rng(0).normal(size=(40, 4))
        >>> vectors = pd.DataFrame(numbers, index=pd.Index(range(40), name="client"))
        >>> y = pd.Series(np.arange(40) % 2, index=vectors.index, name="odd")
        >>> curve = seqmel.compression_curve(
        ...     y, {"vectors": vectors}, [2, None], ["float32", "binary"], folds=2, trees=5
        ... )
        >>> [point.settings["bytes"] for point in curve.points]
        [8, 1, 16, 1]
    """
    check_number_types(tuple(dtypes))
    if not dims or not dtypes or any(size is not None and size < 1 for size in dims):
        raise ConfigError(
            f"Cannot reduce embeddings to {[plain(size) for size in dims]}. Expected "
            "dimensions of at least 1, or full: 16,64,full."
        )
    check_counts(trees=(trees, 1), threads=(threads, 1))
    problem, scored, matched = build_problem(
        y, features, task, folds, seed, split, observed, time_edges
    )
    primary = problem.chosen(metric)
    matrices = {
        name: feature_matrix(table.loc[scored.index], name) for name, table in matched.items()
    }
    trainings = len(problem.splits) * len(dims) * len(dtypes)
    booster, workers = spread_boosters(
        threads, matrices.values(), trainings, trees=trees, seed=seed
    )
    least = min(len(train) for train, _ in problem.splits)
    measured: dict[tuple[str, int, str], list[Measured]] = {}
    for name, x in matrices.items():
        _check_sizes(x, name, dims, least)
    asked = [(size, number_type) for size in dims for number_type in dtypes]
    count = len(matrices) * len(problem.splits) * len(asked)
    with as_progress(progress).task(f"size curve of {y.name}", count, "trainings") as bar:
        for (name, x), (fold, (train, _)) in itertools.product(
            matrices.items(), enumerate(problem.splits)
        ):
            components = Components.fit(x[train])
            smaller = (
                _smaller(x, components, size, number_type, train) for size, number_type in asked
            )
            found = side_by_side(
                problem.predict, ((matrix, fold, booster) for matrix in smaller), workers
            )
            for (size, number_type), values in zip(asked, found, strict=True):
                place = (name, x.shape[1] if size is None else size, number_type)
                measured.setdefault(place, []).append(problem.measure(values, fold))
                bar.advance()
    note = f"{_split_note(problem)}; components and scales fitted on the training parts"
    points = [_size_point(*place, of_folds) for place, of_folds in measured.items()]
    return Curve(str(y.name), "bytes", primary, tuple(points), note)


def _smaller(
    x: Floats, components: Components, size: int | None, number_type: NumberType, train: Places
) -> Floats:
    reduced = x if size is None else components.project(x, size)
    return read_back(reduced, reduced[train], number_type)


def _size_point(name: str, size: int, number_type: Any, measured: list[Measured]) -> Point:
    count = stored_bytes(size, number_type)
    settings = {"size": size, "number_type": number_type, "bytes": count}
    return Point(name, count, settings, tuple(summarised(name, measured)))


def _check_sizes(x: Floats, name: str, sizes: Sequence[int | None], training: int) -> None:
    if not np.isfinite(x).all():
        raise InputError(
            f"The features {name!r} have numbers that are missing or infinite. Only finite "
            "vectors can be reduced."
        )
    most = min(x.shape[1] - 1, training)
    large = [size for size in sizes if size is not None and size > most]
    if large:
        raise InputError(
            f"The features {name!r} have {x.shape[1]} numbers and {training:,} training clients; "
            f"they cannot be reduced to {large[0]}. Expected sizes up to {most}, or full."
        )


def label_draws(problem: Problem, fold: int, fraction: float, seed: int) -> list[Places]:
    """Draw the training parts of one label fraction.

    Args:
        problem: the problem with its splits.
        fold: index of the fold.
        fraction: the label fraction, above 0 and at most 1.
        seed: seed of the draws.

    Returns:
        `min(5, ceil(1 / fraction))` arrays of positions, the same for all feature sets.

    Raises:
        InputError: the fraction leaves fewer clients than classes, or fewer than two.
    """
    whole = problem.splits[fold][0]
    count = round(fraction * len(whole))
    if count < max(2, len(problem.classes)):
        raise InputError(
            f"The label fraction {fraction:g} of {len(whole):,} training clients leaves {count}; "
            f"LightGBM needs at least {max(2, len(problem.classes))}. Give a larger fraction."
        )
    if fraction == 1:
        return [whole]
    draws = min(_MOST_DRAWS, math.ceil(1 / fraction))
    return [
        _draw(problem, whole, count, np.random.default_rng([seed, fold, draw]))
        for draw in range(draws)
    ]


def _draw(problem: Problem, whole: Places, count: int, random: np.random.Generator) -> Places:
    """Draw `count` positions at random, after one of each class, or one event and one censored."""
    mixed = random.permutation(whole)
    if problem.strata is not None:
        firsts = np.unique(problem.strata[mixed], return_index=True)[1]
        mixed = np.concatenate([mixed[firsts], np.delete(mixed, firsts)])
    return np.sort(mixed[:count])


def _mean(of_draws: list[Measured]) -> Measured:
    return {
        metric: np.mean([found[metric] for found in of_draws], axis=0) for metric in of_draws[0]
    }


def _split_note(problem: Problem) -> str:
    folds = len(problem.splits)
    return f"{folds} folds, mean ± 95 % interval over the folds" if folds > 1 else (
        "one test part of later rows, ± half of the 95 % interval by bootstrap over its clients"
    )  # fmt: skip
