"""Scores as grids of seeds and folds, and confidence intervals of their means."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pandas as pd

__all__ = ["grids", "half_width"]

_KEYS = ["data", "target", "metric", "features"]


def grids(results: pd.DataFrame) -> dict[tuple[str, str, str], dict[str, npt.NDArray[np.float64]]]:
    """Return (data, target, primary metric) -> features -> (seeds, folds)."""
    found: dict[tuple[str, str, str], dict[str, npt.NDArray[np.float64]]] = {}
    for (data, target, metric, features), lines in results[results["primary"]].groupby(
        _KEYS, sort=False
    ):
        grid = lines.pivot(index="seed", columns="fold", values="value").to_numpy(np.float64)
        found.setdefault((data, target, metric), {})[features] = np.asarray(grid)
    return found


def half_width(values: npt.NDArray[np.float64]) -> float:
    """Return half of the 95 % confidence interval of the mean of (seeds, folds) values.

    Test clients and training seeds are two sources of variance. The squared standard errors of the
    fold means and of the seed means are added. The degrees of freedom of the sum are those of
    Satterthwaite (1946). With one seed, the variance of seeds is not included. The interval is
    somewhat too narrow, because folds share training clients (Bengio, Grandvalet, 2004), and also
    with two seeds that differ more than folds do.
    """
    from scipy.stats import t

    squared = np.array(
        [values.mean(axis).var(ddof=1) / n for axis, n in enumerate(values.shape[::-1]) if n > 1]
    )
    degrees = np.array([n - 1 for n in values.shape[::-1] if n > 1])
    total = squared.sum()
    if not total:
        return 0.0
    shares = squared / total  # normalised first, because squares of tiny numbers underflow
    return float(t.ppf(0.975, 1 / (shares**2 / degrees).sum()) * np.sqrt(total))
