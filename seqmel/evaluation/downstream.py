"""The downstream models: LightGBM and a linear probe.

Trees split one column at a time, which suits columns with a meaning of their own, such as
aggregates. The information in an embedding is spread across its columns. With a few thousand labels
a linear model uses it better (docs/results.md).
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

from seqmel.core.linear_models import MAX_CLIENTS, logistic, ridge, softmax
from seqmel.core.threads import thread_count
from seqmel.evaluation.metrics import Floats

__all__ = [
    "Booster",
    "CachedPredictor",
    "Downstream",
    "LinearProbe",
    "side_by_side",
    "spread",
    "spread_boosters",
]

_MANY_NUMBERS = 50_000_000
_WORK_OF_A_PROCESS = 2e9  # takes some seconds; starting a process takes about two
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
    # half the time of 255, at equal scores (docs/results.md)
    "max_bin": 63,
    "deterministic": True,
    # LightGBM else picks by timing, and the two ways differ in the last digits
    "force_col_wise": True,
    "verbosity": -1,
}


class Downstream(Protocol):
    """A model that is trained on features and predicts a target."""

    def predict(self, x: Floats, y: npt.NDArray[Any], tested: Floats, classes: int) -> Floats:
        """Train on (x, y) and predict for `tested`.

        Args:
            x: (rows, features) float32; NaN is missing.
            y: (rows,) class codes or quantities.
            tested: (tested, features) float32.
            classes: number of classes; 0 for a quantity.

        Returns:
            (tested, classes) probabilities, or (tested,) quantities.
        """
        ...


@dataclass(frozen=True)
class Booster:
    """LightGBM.

    Attributes:
        trees: number of trees.
        seed: seed of the row and column sampling.
        threads: number of threads; None uses all available ones.
    """

    trees: int
    seed: int
    threads: int | None

    def predict(self, x: Floats, y: npt.NDArray[Any], tested: Floats, classes: int) -> Floats:
        """Train on (x, y) and predict for `tested`, as `Downstream.predict` describes.

        With few clients the minimum leaf size is reduced; else no split would be possible.
        """
        import lightgbm

        parameters: dict[str, object] = {"objective": "binary" if classes else "regression"}
        if classes > 2:
            parameters = {"objective": "multiclass", "num_class": classes}
        threads = thread_count(self.threads)
        leaf = min(_MIN_IN_LEAF, max(1, len(x) // 20))
        parameters |= _PARAMETERS | {
            "min_data_in_leaf": leaf,
            "seed": self.seed,
            "num_threads": threads,
        }
        found = np.asarray(
            lightgbm.train(parameters, lightgbm.Dataset(x, y), self.trees).predict(
                tested, num_threads=threads
            )
        )
        return np.stack([1 - found, found], axis=1) if classes and found.ndim == 1 else found


@dataclass(frozen=True)
class LinearProbe:
    """Logistic or ridge regression on standardised columns.

    This is the linear probe of Alain and Bengio (2016, arXiv 1610.01644). The L2 penalty is chosen
    by cross-validation within the training part. Missing values are replaced by the mean of the
    column. At most 50,000 rows are used; more are subsampled.

    Attributes:
        seed: seed of the folds and the subsample.
    """

    seed: int

    def predict(self, x: Floats, y: npt.NDArray[Any], tested: Floats, classes: int) -> Floats:
        """Train on (x, y) and predict for `tested`, as `Downstream.predict` describes."""
        if len(x) > MAX_CLIENTS:
            drawn = np.sort(np.random.default_rng(self.seed).permutation(len(x))[:MAX_CLIENTS])
            x = x[drawn]
            y = y[drawn]
        known = np.where(np.isfinite(x), x, np.nan).astype(np.float64)
        some = np.isfinite(known).any(axis=0)
        mean = np.zeros(x.shape[1])
        deviation = np.zeros(x.shape[1])
        mean[some], deviation[some] = (
            np.nanmean(known[:, some], axis=0),
            np.nanstd(known[:, some], axis=0),
        )
        scale = np.divide(1, deviation, out=np.zeros_like(deviation), where=deviation > 1e-12)

        def standardised(rows: Floats) -> npt.NDArray[np.float32]:
            return np.nan_to_num((rows - mean) * scale, nan=0.0, posinf=0.0, neginf=0.0).astype(
                np.float32
            )

        part = standardised(x), y, np.ones(len(y))
        weight, bias = logistic(*part, classes, self.seed) if classes else ridge(*part)
        scores = standardised(tested) @ weight.T + bias
        return softmax(scores) if classes else np.asarray(scores[:, 0])


@dataclass(frozen=True)
class CachedPredictor:
    """A model with a cache of its predictions on disk.

    Attributes:
        model: the model.
        folder: folder of the cache; created if it does not exist.
    """

    model: Downstream
    folder: Path

    def predict(self, x: Floats, y: npt.NDArray[Any], tested: Floats, classes: int) -> Floats:
        """Return cached predictions for the same inputs, else train and cache them."""
        digest = hashlib.sha256(repr((self.model, classes, x.shape, y.dtype)).encode())
        for numbers in (x, y, tested):
            digest.update(np.ascontiguousarray(numbers).data)
        path = self.folder / f"{digest.hexdigest()}.npy"
        if path.is_file():
            return np.asarray(np.load(path, allow_pickle=False))
        found = self.model.predict(x, y, tested, classes)
        self.folder.mkdir(parents=True, exist_ok=True)
        # another process may write the same file
        with tempfile.TemporaryDirectory(dir=self.folder) as own:
            np.save(Path(own) / path.name, found, allow_pickle=False)
            os.replace(Path(own) / path.name, path)
        return found


def spread(threads: int | None, numbers: int, work: float) -> tuple[int, int]:
    """Choose the number of parallel processes, with one model each, and the threads per process.

    On small matrices LightGBM's threads mostly wait for each other, for minutes if the machine is
    busy; then each core trains its own model. On large matrices, of which every process would hold
    a copy, one model uses all cores. The models are the same either way.

    Args:
        threads: total number of threads; None uses all available ones.
        numbers: size of the largest feature matrix.
        work: matrix size times trees, summed over all models.

    Returns:
        (processes, threads per process).
    """
    threads = thread_count(threads)
    if numbers > _MANY_NUMBERS:
        return 1, threads
    return (threads, 1) if work > _WORK_OF_A_PROCESS else (1, 1)


def spread_boosters(
    threads: int | None, matrices: Collection[Floats], trainings: int, *, trees: int, seed: int
) -> tuple[Booster, int]:
    """Make the LightGBM model for a set of trainings, and choose how many run in parallel.

    Args:
        threads: total number of threads; None uses all available ones.
        matrices: the feature matrices.
        trainings: number of trainings per matrix.
        trees: number of trees.
        seed: seed of LightGBM.

    Returns:
        The model and the number of parallel processes.
    """
    sizes = [matrix.size for matrix in matrices]
    workers, threads_each = spread(threads, max(sizes), float(trees) * trainings * sum(sizes))
    return Booster(trees, seed, threads_each), workers


def side_by_side(
    train: Callable[..., _Found], jobs: Iterable[tuple[Any, ...]], workers: int
) -> Iterator[_Found]:
    """Run `train(*job)` for each job, in parallel processes of one thread each.

    Threads would not do: LightGBM has one global thread count per process, and two trainings in one
    process can end in a segmentation fault.

    Args:
        train: the function.
        jobs: its arguments, per job.
        workers: number of processes; 1 runs all jobs in this process.

    Yields:
        The results, in the order of the jobs.
    """
    if workers == 1:
        yield from (train(*job) for job in jobs)
        return
    from joblib import Parallel, delayed, parallel_config

    with parallel_config("loky", inner_max_num_threads=1):
        yield from Parallel(workers, return_as="generator")(delayed(train)(*job) for job in jobs)
