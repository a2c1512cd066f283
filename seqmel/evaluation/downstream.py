"""The models that are trained on the features: LightGBM, and a linear probe.

A booster splits one column at a time, which suits columns that mean something each, as aggregates do. What a vector of an
encoder knows lies across its columns; with some thousand labels a linear model reads it better (docs/results.md).
"""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeVar

import numpy as np
import numpy.typing as npt

from seqmel.core.linear_models import MAX_CLIENTS, logistic, ridge
from seqmel.core.threads import thread_count
from seqmel.evaluation.metrics import Floats

__all__ = ["Booster", "Downstream", "Kept", "LinearProbe", "side_by_side", "spread", "spread_boosters"]

_MANY_NUMBERS = 50_000_000
_WORK_OF_A_PROCESS = 2e9  # some seconds; a process takes two to start
_Found = TypeVar("_Found")

_MIN_IN_LEAF = 50
_PARAMETERS = {
    "learning_rate": 0.02,
    "max_depth": 6,
    "num_leaves": 31,
    "bagging_fraction": 0.75,
    "bagging_freq": 1,
    "feature_fraction": 0.25,
    "lambda_l1": 1.0,
    "lambda_l2": 1.0,
    "deterministic": True,
    "force_col_wise": True,  # which way is faster is else found by trial, and the two differ in the last digits
    "verbosity": -1,
}


class Downstream(Protocol):
    """What learns from features."""

    def predict(self, x: Floats, y: npt.NDArray[Any], tested: Floats, classes: int) -> Floats:
        """Train on (x, y) and predict for `tested`.

        Args:
            x: (rows, features) float32, NaN where missing.
            y: (rows,) codes of the classes, or quantities.
            tested: (tested, features).
            classes: how many there are; 0 for a quantity.

        Returns:
            (tested, classes) probabilities, or (tested,) quantities.
        """
        ...


@dataclass(frozen=True)
class Booster:
    """LightGBM: how many trees it grows, its seed, and how many threads it may use (None for all that may be used)."""

    trees: int
    seed: int
    threads: int | None

    def predict(self, x: Floats, y: npt.NDArray[Any], tested: Floats, classes: int) -> Floats:
        """See `Downstream`; leaves are smaller where clients are few, or there would be no split."""
        import lightgbm

        parameters: dict[str, object] = {"objective": "binary" if classes else "regression"}
        if classes > 2:
            parameters = {"objective": "multiclass", "num_class": classes}
        threads = thread_count(self.threads)
        leaf = min(_MIN_IN_LEAF, max(1, len(x) // 20))
        parameters |= _PARAMETERS | {"min_data_in_leaf": leaf, "seed": self.seed, "num_threads": threads}
        found = np.asarray(
            lightgbm.train(parameters, lightgbm.Dataset(x, y), self.trees).predict(tested, num_threads=threads)
        )
        return np.stack([1 - found, found], axis=1) if classes and found.ndim == 1 else found


@dataclass(frozen=True)
class LinearProbe:
    """Logistic or ridge regression on standardised columns, as strongly held down as folds of the training part say.

    A missing number counts as the column's mean. Of more than 50,000 rows so many are drawn. The usual way to ask what a vector knows (Alain and Bengio, 2016, arXiv
    1610.01644).

    Attributes:
        seed: of those folds, and of what is drawn.
    """

    seed: int

    def predict(self, x: Floats, y: npt.NDArray[Any], tested: Floats, classes: int) -> Floats:
        """See `Downstream`."""
        if len(x) > MAX_CLIENTS:
            drawn = np.sort(np.random.default_rng(self.seed).permutation(len(x))[:MAX_CLIENTS])
            x, y = x[drawn], y[drawn]
        known = np.where(np.isfinite(x), x, np.nan).astype(np.float64)
        some = np.isfinite(known).any(axis=0)
        mean, deviation = np.zeros(x.shape[1]), np.zeros(x.shape[1])
        mean[some], deviation[some] = np.nanmean(known[:, some], axis=0), np.nanstd(known[:, some], axis=0)
        scale = np.divide(1, deviation, out=np.zeros_like(deviation), where=deviation > 1e-12)

        def standardised(rows: Floats) -> npt.NDArray[np.float32]:
            return np.nan_to_num((rows - mean) * scale, nan=0.0, posinf=0.0, neginf=0.0).astype(np.float32)

        told = standardised(x), y, np.ones(len(y))
        weight, bias = logistic(*told, classes, self.seed) if classes else ridge(*told)
        scores = standardised(tested) @ weight.T + bias
        if not classes:
            return np.asarray(scores[:, 0])
        shares = np.exp(scores - scores.max(axis=1, keepdims=True))
        return np.asarray(shares / shares.sum(axis=1, keepdims=True))


@dataclass(frozen=True)
class Kept:
    """A model whose predictions are kept in a folder: asked again about the same numbers, it reads them there."""

    model: Downstream
    folder: Path

    def predict(self, x: Floats, y: npt.NDArray[Any], tested: Floats, classes: int) -> Floats:
        """See `Downstream`."""
        told = hashlib.sha256(repr((self.model, classes, x.shape, y.dtype)).encode())
        for numbers in (x, y, tested):
            told.update(np.ascontiguousarray(numbers).data)
        path = self.folder / f"{told.hexdigest()}.npy"
        if path.is_file():
            return np.asarray(np.load(path, allow_pickle=False))
        found = self.model.predict(x, y, tested, classes)
        self.folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=self.folder) as own:  # another process may be at the same numbers
            np.save(Path(own) / path.name, found, allow_pickle=False)
            os.replace(Path(own) / path.name, path)
        return found


def spread(threads: int | None, numbers: int, work: float) -> tuple[int, int]:
    """How many models are trained at a time, each by a process of its own, and on how many threads each.

    With few numbers LightGBM's threads mostly wait for each other, and with other work on the machine they do so for minutes:
    then one model a core. With many, which every process would hold, one model on all cores. The models are the same.

    Args:
        threads: in all; None for all that may be used, see `thread_count`.
        numbers: of the largest matrix of features.
        work: numbers times trees, of all models together.
    """
    threads = thread_count(threads)
    if numbers > _MANY_NUMBERS:
        return 1, threads
    return (threads, 1) if work > _WORK_OF_A_PROCESS else (1, 1)


def spread_boosters(
    threads: int | None, matrices: Collection[Floats], trainings: int, *, trees: int, seed: int
) -> tuple[Booster, int]:
    """LightGBM for so many trainings on each matrix of features, and how many of them at a time; see `spread`."""
    sizes = [matrix.size for matrix in matrices]
    workers, threads_each = spread(threads, max(sizes), float(trees) * trainings * sum(sizes))
    return Booster(trees, seed, threads_each), workers


def side_by_side(train: Callable[..., _Found], jobs: Iterable[tuple[Any, ...]], workers: int) -> Iterator[_Found]:
    """What `train(*job)` gives for each job, in their order, `workers` at a time, each process on one thread.

    Processes, since LightGBM keeps its number of threads in one place a process, and two trainings there can end in a
    segmentation fault.
    """
    if workers == 1:
        yield from (train(*job) for job in jobs)
        return
    from joblib import Parallel, delayed, parallel_config

    with parallel_config("loky", inner_max_num_threads=1):
        yield from Parallel(workers, return_as="generator")(delayed(train)(*job) for job in jobs)
