"""Drift between two sets of embeddings: each dimension by PSI, all of them together by MMD.

The population stability index (PSI) of a dimension is sum((c - r) * ln(c / r)) over bins that hold equal shares of the
reference (Yurdakul and Naranjo, 2020, give its distribution without drift: chi-square times 1 / n + 1 / m). By custom below
0.1 is read as stable, 0.1 to 0.25 as a moderate shift, above as a large one. The maximum mean discrepancy (MMD; Gretton,
Borgwardt, Rasch, Schölkopf and Smola, JMLR 2012, equation 3) also sees shifts that no single dimension shows.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import numpy.typing as npt
import pandas as pd

from seqmel.core.errors import ConfigError, InputError, shown
from seqmel.core.renames import renamed_keywords
from seqmel.data.tables.labels import places

if TYPE_CHECKING:
    from rich.table import Table

__all__ = ["Drift", "drift", "mmd", "psi", "psi_by_chance", "psi_of_counts"]

Matrix: TypeAlias = npt.NDArray[np.floating[Any]]

_SHOWN = 10
_FALSE_ALARM = 0.01  # of the threshold by chance, over all dimensions together


@dataclass(frozen=True)
class Drift:
    """How far the current vectors are from the reference.

    Attributes:
        psi: dimension -> its index, in the order of the columns.
        psi_threshold: from which index on a dimension counts as moved.
        psi_by_chance: the index that without any drift some dimension exceeds in 1 % of cases, with so many clients;
            a dimension counts as moved only above this too.
        mmd2: the unbiased estimate of MMD squared; around 0, also below, without drift.
        p_value: share of random re-divisions of the pooled vectors with an MMD at least as large.
        alpha: at or below which p-value the whole counts as moved.
        bandwidth: of the kernel: the median distance of the pooled sample.
        reference, current: how many vectors there are.
        sampled: how many of each the MMD looked at.
        by_client: whether both sides are the vectors of the same clients.
    """

    psi: dict[str, float]
    psi_threshold: float
    psi_by_chance: float
    mmd2: float
    p_value: float
    alpha: float
    bandwidth: float
    reference: int
    current: int
    sampled: tuple[int, int]
    by_client: bool = False

    @property
    def too_few(self) -> bool:
        """Whether chance alone moves a dimension further than twice the threshold, so that nothing found is no good news."""
        return self.psi_by_chance > 2 * self.psi_threshold

    @property
    def moved(self) -> tuple[str, ...]:
        """The dimensions whose index is at or above both thresholds, the worst first."""
        limit = max(self.psi_threshold, self.psi_by_chance)
        return tuple(name for name, value in self._worst() if value >= limit)

    @property
    def drifted(self) -> bool:
        """Whether a dimension has moved, or the p-value is at or below its threshold."""
        return bool(self.moved) or self.p_value <= self.alpha

    @property
    def verdict(self) -> str:
        """One line for people."""
        (name, value), *_ = self._worst()
        word = "Drift" if self.drifted else "Too few vectors to tell" if self.too_few else "No drift"
        return (
            f"{word}: {len(self.moved):,} of {len(self.psi):,} dimensions have a PSI of"
            f" {max(self.psi_threshold, self.psi_by_chance):.3g} or more (largest: {name}, {value:.3f}); MMD² {self.mmd2:.3g},"
            f" p = {self.p_value:.3g} ({'at or below' if self.p_value <= self.alpha else 'above'} {self.alpha:g})."
        )

    def table(self) -> Table:
        """For a terminal: the dimensions with the largest index."""
        from rich.table import Table

        table = Table("dimension", "PSI", "reading", caption="below 0.1: stable; 0.1 to 0.25: moderate; above: large")
        for name, value in self._worst()[:_SHOWN]:
            size = "stable" if value < 0.1 else "moderate" if value < 0.25 else "large"
            table.add_row(name, f"{value:.3f}", size if value >= self.psi_by_chance else "within chance")
        return table

    def to_json(self) -> dict[str, Any]:
        """Everything as plain values."""
        names = (
            "psi_threshold",
            "psi_by_chance",
            "mmd2",
            "p_value",
            "alpha",
            "bandwidth",
            "reference",
            "current",
            "by_client",
            "too_few",
        )
        return {
            "drifted": self.drifted,
            "verdict": self.verdict,
            "moved": list(self.moved),
            **{name: getattr(self, name) for name in names},
            "sampled": list(self.sampled),
            "psi": self.psi,
        }

    def _worst(self) -> list[tuple[str, float]]:
        return sorted(self.psi.items(), key=lambda item: -item[1])


@renamed_keywords(p_threshold="alpha")
def drift(
    reference: pd.DataFrame,
    current: pd.DataFrame,
    *,
    bins: int = 10,
    psi_threshold: float = 0.25,
    alpha: float = 0.01,
    sample: int = 1_000,
    permutations: int = 500,
    seed: int = 0,
    by_client: bool | None = None,
) -> Drift:
    """Compare two sets of embeddings of one model, of two periods, or of two groups of clients.

    Args:
        reference: one row per client, one column per dimension, indexed by client id, as from `read_embeddings`.
        current: the same columns.
        bins: how many the reference is cut into for the PSI.
        psi_threshold: from which PSI on a dimension counts as moved.
        alpha: at or below which p-value of the MMD the whole counts as moved.
        sample: how many vectors of each side at most the MMD looks at: its cost grows with the square.
        permutations: of the test; the smallest p-value is 1 / (permutations + 1).
        seed: of the sample and the permutations.
        by_client: compare the vectors of the clients that both sides have, so that a day's active clients are not compared
            with all clients; None does so where half of the smaller side or more are in both.

    Returns:
        The PSI of each dimension, the MMD with its p-value, and a verdict; see `Drift`.

    Raises:
        ConfigError: an option out of range.
        InputError: other columns, fewer than two vectors, or numbers that are missing or infinite.

    Examples:
        >>> import numpy as np, pandas as pd
        >>> import seqmel
        >>> random = np.random.default_rng(0)
        >>> before = pd.DataFrame(random.normal(size=(300, 2)))
        >>> seqmel.drift(before, before + 2).drifted
        True
    """
    least = {"bins": (bins, 2), "sample": (sample, 2), "permutations": (permutations, 1), "seed": (seed, 0)}
    for name, (value, lowest) in least.items():
        if value < lowest:
            raise ConfigError(f"{name} is {value}. Expected {lowest} or more.")
    if psi_threshold <= 0 or not 0 < alpha < 1:
        raise ConfigError(
            f"The thresholds are {psi_threshold:g} (PSI) and {alpha:g} (p-value). Expected a PSI above 0 and a"
            " p-value between 0 and 1."
        )
    joined = _joined(reference, current, by_client)
    if joined is not None:
        reference, current = joined
    a, b = _matrices(reference, current)
    random = np.random.default_rng(seed)
    few_a, few_b = (random.permutation(x)[:sample] for x in (a, b))
    mmd2, p_value, bandwidth = mmd(few_a, few_b, permutations=permutations, random=random)
    return Drift(
        psi=dict(zip(map(str, reference.columns), psi(a, b, bins=bins).tolist(), strict=True)),
        psi_threshold=psi_threshold,
        psi_by_chance=psi_by_chance(len(a), len(b), bins, a.shape[1]),
        mmd2=mmd2,
        p_value=p_value,
        alpha=alpha,
        bandwidth=bandwidth,
        reference=len(a),
        current=len(b),
        sampled=(len(few_a), len(few_b)),
        by_client=joined is not None,
    )


def _joined(
    reference: pd.DataFrame, current: pd.DataFrame, by_client: bool | None
) -> tuple[pd.DataFrame, pd.DataFrame] | None:
    """Both sides of the clients that both have, in one order; None where the sides are to be compared as they are."""
    numbered = isinstance(reference.index, pd.RangeIndex) and isinstance(current.index, pd.RangeIndex)
    if by_client is False or (by_client is None and numbered):
        return None
    place = places(current.index, reference.index)
    shared = place >= 0
    if by_client is None and shared.sum() < max(2, min(len(reference), len(current)) / 2):
        return None
    return reference.iloc[place[shared]], current[shared]


def psi(reference: Matrix, current: Matrix, *, bins: int = 10) -> npt.NDArray[np.float64]:
    """The population stability index of each dimension.

    Bins end at the quantiles of the reference; a value that fills more than one bin is a bin of its own. Half a vector is
    added to each bin, so that an empty one gives no infinity.

    Args:
        reference, current: (N, D) and (M, D).
        bins: how many.

    Returns:
        (D,).
    """
    return np.array([_psi(r, c, bins) for r, c in zip(reference.T, current.T, strict=True)])


def mmd(a: Matrix, b: Matrix, *, permutations: int, random: np.random.Generator) -> tuple[float, float, float]:
    """The unbiased MMD squared with a Gaussian kernel, exp(-|x - y|^2 / (2 s^2)), its p-value, and s.

    s is the median distance of the pooled vectors (Gretton et al., section 8). The p-value is (1 + k) / (1 + P), where k of P
    random divisions of the pooled vectors have an MMD at least as large.

    Args:
        a, b: (N, D) and (M, D), at least two of each.
        permutations: P.
        random: where these come from.
    """
    pooled = np.concatenate([a, b]).astype(np.float64)
    squared = _squared_distances(pooled)
    bandwidth = float(np.sqrt(np.median(squared[np.triu_indices(len(pooled), 1)]))) or 1.0
    kernel = np.exp(-squared / (2 * bandwidth**2))
    np.fill_diagonal(kernel, 0)
    in_a = np.arange(len(pooled)) < len(a)
    divisions = np.stack([in_a, *(random.permutation(in_a) for _ in range(permutations))]).astype(np.float64)
    found = _mmd2(kernel, divisions, len(a), len(b))
    at_least = int((found[1:] >= found[0] - 1e-12).sum())
    return float(found[0]), (1 + at_least) / (1 + permutations), bandwidth


def _mmd2(kernel: Matrix, in_a: Matrix, n: int, m: int) -> Matrix:
    """(P,) for P divisions, (P, N + M) of 1 for the first side; `kernel` has zeros on its diagonal."""
    to_a = in_a @ kernel
    within_a, total = (to_a * in_a).sum(1), kernel.sum()
    between = to_a.sum(1) - within_a
    within_b = total - within_a - 2 * between
    return np.asarray(within_a / (n * (n - 1)) + within_b / (m * (m - 1)) - 2 * between / (n * m))


def _squared_distances(x: Matrix) -> Matrix:
    centred = x - x.mean(0)
    norms = (centred**2).sum(1)
    return np.asarray(np.maximum(norms[:, None] + norms[None] - 2 * centred @ centred.T, 0))


def _psi(reference: Matrix, current: Matrix, bins: int) -> float:
    quantiles = np.quantile(reference, np.arange(1, bins) / bins, method="inverted_cdf")
    edges, times = np.unique(quantiles, return_counts=True)
    edges = np.unique(np.concatenate([edges, np.nextafter(edges[times > 1], np.inf)]))
    return psi_of_counts(
        *(np.bincount(np.searchsorted(edges, x, side="right"), minlength=len(edges) + 1) for x in (reference, current))
    )


def psi_of_counts(reference: npt.NDArray[np.int64], current: npt.NDArray[np.int64]) -> float:
    """The index of (bins,) counts; half a one is added to each, so that an empty bin gives no infinity."""
    r, c = ((counts + 0.5) / (counts.sum() + 0.5 * len(counts)) for counts in (reference, current))
    return float(((c - r) * np.log(c / r)).sum())


def psi_by_chance(n: int, m: int, bins: int, dimensions: int) -> float:
    """The index that one of so many dimensions exceeds in 1 % of cases where n and m are drawn from the same."""
    from scipy.stats import chi2

    return float(chi2.ppf(1 - _FALSE_ALARM / dimensions, bins - 1) * (1 / n + 1 / m))


def _matrices(reference: pd.DataFrame, current: pd.DataFrame) -> tuple[Matrix, Matrix]:
    if reference.shape[1] != current.shape[1]:
        raise InputError(
            f"The reference has {reference.shape[1]} dimensions, the current vectors {current.shape[1]}. Compare"
            " embeddings of one model."
        )
    other = [str(name) for name in current.columns if name not in reference.columns]
    if other:
        raise InputError(
            f"The current vectors have columns that the reference does not: {shown(other)}. Compare embeddings of one model."
        )
    for what, table in (("reference", reference), ("current vectors", current)):
        bad = int((~np.isfinite(table.to_numpy(np.float64))).any(axis=1).sum())
        if bad or len(table) < 2:
            found = f"{bad:,} rows with missing or infinite numbers" if bad else f"{len(table)} row"
            raise InputError(f"The {what}: {found}. Expected two or more vectors of finite numbers.")
    return reference.to_numpy(np.float64), current[list(reference.columns)].to_numpy(np.float64)
