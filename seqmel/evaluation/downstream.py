"""The downstream models: LightGBM and a linear probe.

Trees split one column at a time, which suits columns with a meaning of their own, such as
aggregates. The information in an embedding is spread across its columns. With a few thousand labels
a linear model uses it better (docs/results.md).
"""

from __future__ import annotations

import functools
import hashlib
import os
import tempfile
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeVar

import numpy as np
import numpy.typing as npt

from seqmel.core.linear_models import MAX_CLIENTS, logistic, ridge, softmax
from seqmel.core.threads import thread_count
from seqmel.data.tables.survival import observed_times
from seqmel.data.tables.targets import Target
from seqmel.evaluation.metrics import Floats

__all__ = [
    "Booster",
    "CachedPredictor",
    "Downstream",
    "LinearProbe",
    "side_by_side",
    "spread",
    "spread_boosters",
    "standardiser",
]

_CLIP = 10.0  # deviations, as of `seqmel.nn.heads`
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

    def survival(self, x: Floats, y: Floats, tested: Floats, edges: tuple[float, ...]) -> Floats:
        """Train on times to an event, and predict how likely it comes later.

        Args:
            x: (rows, features) float32; NaN is missing.
            y: (rows,) signed times: a censored one is negative.
            tested: (tested, features) float32.
            edges: upper bounds of the bins of time.

        Returns:
            (tested, bounds) probabilities that the event comes after each bound.
        """
        ...

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
        objective: dict[str, object] = {"objective": "binary" if classes else "regression"}
        if classes > 2:
            objective = {"objective": "multiclass", "num_class": classes}
        trained = self._train(objective, x, y, len(x))
        found = np.asarray(trained.predict(tested, num_threads=thread_count(self.threads)))
        return np.stack([1 - found, found], axis=1) if classes and found.ndim == 1 else found

    def survival(self, x: Floats, y: Floats, tested: Floats, edges: tuple[float, ...]) -> Floats:
        """Train on (x, y) and predict for `tested`, as `Downstream.survival` describes.

        A row per client and bin that it is observed in, with the number of the bin as a further
        feature, says whether the event came in it. Trees begin at the hazard of each bin.
        """
        rows, bins, happened = _bins_of(y, edges)
        counts = np.bincount(bins, minlength=len(edges)) + 1
        rate = (np.bincount(bins, happened, len(edges)) + 0.5) / counts
        base = np.log(rate / (1 - rate))
        train = np.column_stack([x[rows], bins.astype(np.float32)])
        trained = self._train({"objective": "binary"}, train, happened, len(x), base[bins])
        threads = thread_count(self.threads)

        def logits(at: int) -> Floats:
            of_bin = np.column_stack([tested, np.full(len(tested), at, np.float32)])
            found = trained.predict(of_bin, raw_score=True, num_threads=threads)
            return np.asarray(found + base[at])

        outputs = np.stack([logits(at) for at in range(len(edges))], axis=1, dtype=np.float64)
        return Target(name="", edges=edges).survival(outputs)

    def _train(
        self,
        objective: Mapping[str, object],
        x: Floats,
        y: npt.NDArray[Any],
        clients: int,
        init_score: Floats | None = None,
    ) -> Any:
        import lightgbm

        leaf = min(_MIN_IN_LEAF, max(1, clients // 20))
        parameters = {
            **objective,
            **_PARAMETERS,
            "min_data_in_leaf": leaf,
            "seed": self.seed,
            "num_threads": thread_count(self.threads),
        }
        return lightgbm.train(parameters, lightgbm.Dataset(x, y, init_score=init_score), self.trees)


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
        x, y = self._some(x, y)
        standardise = standardiser(x)
        part = standardise(x), y, np.ones(len(y))
        weight, bias = logistic(*part, classes, self.seed) if classes else ridge(*part)
        scores = standardise(tested) @ weight.T + bias
        return softmax(scores) if classes else np.asarray(scores[:, 0])

    def survival(self, x: Floats, y: Floats, tested: Floats, edges: tuple[float, ...]) -> Floats:
        """Train on (x, y) and predict for `tested`, as `Downstream.survival` describes.

        The logits of the hazards have a bias per bin, and weights that all bins share.
        """
        from seqmel.core.shared_weights import fit_shared_weights
        from seqmel.core.survival_loss import survival_losses

        x, y = self._some(x, y)
        standardise = standardiser(x)
        loss = functools.partial(survival_losses, edges=edges)
        part = standardise(x), y.astype(np.float32), np.ones(len(y))
        weight, bias = fit_shared_weights(loss, len(edges), *part, self.seed)
        outputs = (standardise(tested) @ weight)[:, None] + bias
        return Target(name="", edges=edges).survival(outputs)

    def _some(self, x: Floats, y: npt.NDArray[Any]) -> tuple[Floats, npt.NDArray[Any]]:
        """Draw at most MAX_CLIENTS rows."""
        if len(x) <= MAX_CLIENTS:
            return x, y
        drawn = np.sort(np.random.default_rng(self.seed).permutation(len(x))[:MAX_CLIENTS])
        return x[drawn], y[drawn]


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
        return self._cached(self.model.predict, x, y, tested, classes)

    def survival(self, x: Floats, y: Floats, tested: Floats, edges: tuple[float, ...]) -> Floats:
        """Return cached predictions for the same inputs, else train and cache them."""
        return self._cached(self.model.survival, x, y, tested, edges)

    def _cached(
        self,
        predict: Callable[..., Floats],
        x: Floats,
        y: npt.NDArray[Any],
        tested: Floats,
        outcomes: int | tuple[float, ...],
    ) -> Floats:
        digest = hashlib.sha256(repr((self.model, outcomes, x.shape, y.dtype)).encode())
        for numbers in (x, y, tested):
            digest.update(np.ascontiguousarray(numbers).data)
        path = self.folder / f"{digest.hexdigest()}.npy"
        if path.is_file():
            return np.asarray(np.load(path, allow_pickle=False))
        found = predict(x, y, tested, outcomes)
        self.folder.mkdir(parents=True, exist_ok=True)
        # another process may write the same file
        with tempfile.TemporaryDirectory(dir=self.folder) as own:
            np.save(Path(own) / path.name, found, allow_pickle=False)
            os.replace(Path(own) / path.name, path)
        return found


def standardiser(x: Floats) -> Callable[[Floats], npt.NDArray[np.float32]]:
    """Return a function that standardises rows like x, as the heads of fine-tuning do.

    Missing values become the mean. Columns that vary by rounding alone become zero, and values are
    clipped: a column that hardly varies here may be a million deviations away in other rows.
    """
    known = np.where(np.isfinite(x), x, np.nan).astype(np.float64)
    some = np.isfinite(known).any(axis=0)
    mean = np.zeros(x.shape[1])
    deviation = np.zeros(x.shape[1])
    mean[some], deviation[some] = (
        np.nanmean(known[:, some], axis=0),
        np.nanstd(known[:, some], axis=0),
    )
    largest = np.abs(np.nan_to_num(known)).max(axis=0, initial=0.0)
    varies = deviation > 1e-6 * largest
    scale = np.divide(1, deviation, out=np.zeros_like(deviation), where=varies)

    def standardise(rows: Floats) -> npt.NDArray[np.float32]:
        found = np.nan_to_num((rows - mean) * scale, nan=0.0, posinf=0.0, neginf=0.0)
        return np.clip(found, -_CLIP, _CLIP).astype(np.float32)

    return standardise


def _bins_of(
    y: Floats, edges: tuple[float, ...]
) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp], npt.NDArray[np.bool_]]:
    """Return rows, bins in which they are observed, and whether the event came, as in the loss.

    Args:
        y: (rows,) signed times: a censored one is negative.
        edges: upper bounds of the bins; see `survival_losses` for who is observed in them.
    """
    times, observed = observed_times(y)
    bounds = np.array(edges)
    middles = (bounds + np.append(0.0, bounds[:-1])) / 2
    place = np.searchsorted(bounds, times)
    happened = (observed & (place < len(bounds)))[:, None]
    bins = np.arange(len(bounds))
    seen = np.where(happened, bins <= place[:, None], middles <= times[:, None])
    rows, at = np.nonzero(seen)
    return rows, at, (happened & (bins == place[:, None]))[rows, at]


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
