"""Scores of seeds and folds as grids, and how sure their mean is."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pandas as pd

__all__ = ["grids", "half_width"]

_KEYS = ["data", "target", "metric", "features"]


def grids(results: pd.DataFrame) -> dict[tuple[str, str, str], dict[str, npt.NDArray[np.float64]]]:
    """(data, target, primary metric) -> features -> (seeds, folds)."""
    found: dict[tuple[str, str, str], dict[str, npt.NDArray[np.float64]]] = {}
    for (data, target, metric, features), lines in results[results["primary"]].groupby(_KEYS, sort=False):
        grid = lines.pivot(index="seed", columns="fold", values="value").to_numpy(np.float64)
        found.setdefault((data, target, metric), {})[features] = np.asarray(grid)
    return found


def half_width(values: npt.NDArray[np.float64]) -> float:
    """Half of a 95 % interval of the mean of (seeds, folds) values.

    Which clients are tested and which seed trains are two sources of chance: the squared standard errors of the means of
    the folds and of the means of the seeds are added, and Student's t has the degrees of freedom that such a sum has
    (Satterthwaite, 1946): between those of the lesser part and of both together. With one seed it says nothing of seeds. (It is
    somewhat too narrow where folds share training clients, Bengio, Grandvalet, 2004, and with two seeds that differ more than
    folds do.)
    """
    from scipy.stats import t

    squared = np.array([values.mean(axis).var(ddof=1) / n for axis, n in enumerate(values.shape[::-1]) if n > 1])
    freedom = np.array([n - 1 for n in values.shape[::-1] if n > 1])
    total = squared.sum()
    if not total:
        return 0.0
    shares = squared / total  # and not squares of what may be tiny
    return float(t.ppf(0.975, 1 / (shares**2 / freedom).sum()) * np.sqrt(total))
