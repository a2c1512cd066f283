"""Drift between two sets of embeddings, by PSI per dimension and by MMD over all dimensions.

The population stability index (PSI) of a dimension is sum((c - r) * ln(c / r)) over bins with equal
fractions of the reference. Without drift it is distributed as chi-square times (1 / n + 1 / m)
(Yurdakul and Naranjo, 2020). By convention a PSI below 0.1 is stable, 0.1 to 0.25 a moderate shift,
and above a large one. The maximum mean discrepancy (MMD; Gretton, Borgwardt, Rasch, Schölkopf and
Smola, JMLR 2012, equation 3) also detects shifts that no single dimension shows.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import numpy.typing as npt
import pandas as pd

from seqmel.core.errors import ConfigError, InputError, shown
from seqmel.core.renames import renamed_keywords
from seqmel.core.units import count_words
from seqmel.data.tables.labels import id_positions

if TYPE_CHECKING:
    from rich.table import Table

__all__ = ["Drift", "drift", "mmd", "psi", "psi_by_chance", "psi_of_counts"]

Matrix: TypeAlias = npt.NDArray[np.floating[Any]]

_SHOWN = 10
_FALSE_ALARM = 0.01  # false alarm rate of the chance threshold, over all dimensions together


@dataclass(frozen=True)
class Drift:
    """Drift of the current vectors from the reference.

    Attributes:
        psi: dimension -> PSI, in the order of the columns.
        psi_threshold: PSI threshold for drift of a dimension.
        psi_by_chance: the PSI that, without drift and with this number of vectors, the largest of
            the dimensions exceeds in 1 % of cases. A dimension must reach this threshold too.
        mmd2: unbiased estimate of the squared MMD; about 0 without drift, and possibly negative.
        p_value: fraction of random permutations of the pooled vectors with at least this MMD.
        alpha: significance level of the MMD test.
        bandwidth: bandwidth of the kernel: the median distance within the pooled sample.
        reference: number of reference vectors.
        current: number of current vectors.
        sampled: numbers of reference and current vectors in the sample of the MMD.
        by_client: whether the vectors of the same clients were compared.
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
        """Whether there are too few vectors to rule out drift.

        That is so if `psi_by_chance` is more than twice `psi_threshold`.
        """
        return self.psi_by_chance > 2 * self.psi_threshold

    @property
    def moved(self) -> tuple[str, ...]:
        """The dimensions with a PSI at or above both thresholds, in decreasing order of PSI."""
        limit = max(self.psi_threshold, self.psi_by_chance)
        return tuple(name for name, value in self._worst() if value >= limit)

    @property
    def drifted(self) -> bool:
        """Whether any dimension has drifted, or the p-value is at most `alpha`."""
        return bool(self.moved) or self.p_value <= self.alpha

    @property
    def verdict(self) -> str:
        """A one-line summary."""
        (name, value), *_ = self._worst()
        word = (
            "Drift" if self.drifted else "Too few vectors to tell" if self.too_few else "No drift"
        )
        return (
            f"{word}: {len(self.moved):,} of {count_words(len(self.psi), 'dimension')} have a PSI "
            f"of {max(self.psi_threshold, self.psi_by_chance):.3g} or more (largest: {name}, "
            f"{value:.3f}); MMD² {self.mmd2:.3g}, p = {self.p_value:.3g} "
            f"({'at or below' if self.p_value <= self.alpha else 'above'} {self.alpha:g})."
        )

    def table(self) -> Table:
        """Return a table for a terminal, with the dimensions of largest PSI."""
        from rich.table import Table

        table = Table(
            "dimension",
            "PSI",
            "reading",
            caption="below 0.1: stable; 0.1 to 0.25: moderate; above: large",
        )
        for name, value in self._worst()[:_SHOWN]:
            size = "stable" if value < 0.1 else "moderate" if value < 0.25 else "large"
            table.add_row(
                name, f"{value:.3f}", size if value >= self.psi_by_chance else "within chance"
            )
        return table

    def to_json(self) -> dict[str, Any]:
        """Return all results as values for JSON."""
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
    """Compare two sets of embeddings of one model: of two periods, or of two groups of clients.

    Args:
        reference: (N, D) table, one row per client, indexed by client id, as from
            `read_embeddings`.
        current: (M, D) table with the same columns.
        bins: number of bins of the PSI.
        psi_threshold: PSI threshold for drift of a dimension.
        alpha: significance level of the MMD test.
        sample: maximum number of vectors of each side in the MMD; its cost is quadratic.
        permutations: number of permutations of the test. The smallest p-value is
            1 / (permutations + 1).
        seed: seed of the sample and the permutations.
        by_client: whether to compare only clients that are on both sides, so that the active
            clients of a day are not compared with all clients. None does so if at least half of the
            clients of the smaller side are on both.

    Returns:
        The PSI of each dimension, the MMD with its p-value, and a verdict.

    Raises:
        ConfigError: an option is out of range.
        InputError: the columns differ, there are fewer than two vectors, or a number is missing or
            infinite.

    Examples:
        >>> import numpy as np, pandas as pd
        >>> import seqmel
        >>> random = np.random.default_rng(0)
        >>> before = pd.DataFrame(random.normal(size=(300, 2)))
        >>> seqmel.drift(before, before + 2).drifted
        True
    """
    least = {
        "bins": (bins, 2),
        "sample": (sample, 2),
        "permutations": (permutations, 1),
        "seed": (seed, 0),
    }
    for name, (value, lowest) in least.items():
        if value < lowest:
            raise ConfigError(f"{name} is {value}. Expected {lowest} or more.")
    if psi_threshold <= 0 or not 0 < alpha < 1:
        raise ConfigError(
            f"The thresholds are {psi_threshold:g} (PSI) and {alpha:g} (p-value). Expected a PSI "
            "above 0 and a p-value between 0 and 1."
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
    """Both tables, restricted to their common clients in one order; None to compare all rows."""
    numbered = isinstance(reference.index, pd.RangeIndex) and isinstance(
        current.index, pd.RangeIndex
    )
    if by_client is False or (by_client is None and numbered):
        return None
    place = id_positions(current.index, reference.index)
    shared = place >= 0
    if by_client is None and shared.sum() < max(2, min(len(reference), len(current)) / 2):
        return None
    return reference.iloc[place[shared]], current[shared]


def psi(reference: Matrix, current: Matrix, *, bins: int = 10) -> npt.NDArray[np.float64]:
    """Compute the population stability index (PSI) of each dimension.

    The bin edges are quantiles of the reference. A value that would fill more than one bin gets its
    own bin. Half a count is added to each bin, so that an empty bin does not give an infinite PSI.

    Args:
        reference: (N, D) vectors.
        current: (M, D) vectors.
        bins: number of bins.

    Returns:
        (D,) PSI per dimension.
    """
    return np.array([_psi(r, c, bins) for r, c in zip(reference.T, current.T, strict=True)])


def mmd(
    a: Matrix, b: Matrix, *, permutations: int, random: np.random.Generator
) -> tuple[float, float, float]:
    """Compute the unbiased squared MMD with a Gaussian kernel, and its p-value.

    The kernel is exp(-|x - y|^2 / (2 s^2)), where the bandwidth s is the median distance of the
    pooled vectors (Gretton et al., section 8). The p-value is (1 + k) / (1 + P), where k of P
    random permutations of the pooled vectors have at least this MMD.

    Args:
        a: (N, D) vectors, N >= 2.
        b: (M, D) vectors, M >= 2.
        permutations: P.
        random: random generator of the permutations.

    Returns:
        The squared MMD, the p-value and the bandwidth.
    """
    pooled = np.concatenate([a, b]).astype(np.float64)
    squared = _squared_distances(pooled)
    bandwidth = float(np.sqrt(np.median(squared[np.triu_indices(len(pooled), 1)]))) or 1.0
    kernel = np.exp(-squared / (2 * bandwidth**2))
    np.fill_diagonal(kernel, 0)
    in_a = np.arange(len(pooled)) < len(a)
    divisions = np.stack([in_a, *(random.permutation(in_a) for _ in range(permutations))]).astype(
        np.float64
    )
    found = _mmd2(kernel, divisions, len(a), len(b))
    at_least = int((found[1:] >= found[0] - 1e-12).sum())
    return float(found[0]), (1 + at_least) / (1 + permutations), bandwidth


def _mmd2(kernel: Matrix, in_a: Matrix, n: int, m: int) -> Matrix:
    """The (P,) squared MMD of P divisions.

    Args:
        kernel: (N + M, N + M) kernel matrix with a zero diagonal.
        in_a: (P, N + M), 1 for vectors of the first side and 0 for the others.
        n: N, the size of the first side.
        m: M, the size of the second side.
    """
    to_a = in_a @ kernel
    within_a = (to_a * in_a).sum(1)
    total = kernel.sum()
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
        *(
            np.bincount(np.searchsorted(edges, x, side="right"), minlength=len(edges) + 1)
            for x in (reference, current)
        )
    )


def psi_of_counts(reference: npt.NDArray[np.int64], current: npt.NDArray[np.int64]) -> float:
    """Compute the PSI of counts. Half a count is added to each bin, so that it is always finite.

    Args:
        reference: (bins,) counts.
        current: (bins,) counts.

    Returns:
        The PSI.
    """
    r, c = ((counts + 0.5) / (counts.sum() + 0.5 * len(counts)) for counts in (reference, current))
    return float(((c - r) * np.log(c / r)).sum())


def psi_by_chance(n: int, m: int, bins: int, dimensions: int) -> float:
    """Compute the PSI that chance alone exceeds in 1 % of cases.

    Args:
        n: size of the reference sample.
        m: size of the current sample, drawn from the same distribution.
        bins: number of bins.
        dimensions: number of dimensions; the largest PSI of them is compared.

    Returns:
        The threshold.
    """
    from scipy.stats import chi2

    return float(chi2.ppf(1 - _FALSE_ALARM / dimensions, bins - 1) * (1 / n + 1 / m))


def _matrices(reference: pd.DataFrame, current: pd.DataFrame) -> tuple[Matrix, Matrix]:
    if reference.shape[1] != current.shape[1]:
        raise InputError(
            f"The reference has {count_words(reference.shape[1], 'dimension')}, the current "
            f"vectors {current.shape[1]}. Compare embeddings of one model."
        )
    other = [str(name) for name in current.columns if name not in reference.columns]
    if other:
        raise InputError(
            f"The current vectors have columns that the reference does not: {shown(other)}. "
            f"Compare embeddings of one model."
        )
    for what, table in (("reference", reference), ("current vectors", current)):
        bad = int((~np.isfinite(table.to_numpy(np.float64))).any(axis=1).sum())
        if bad or len(table) < 2:
            found = (
                f"{count_words(bad, 'row')} with missing or infinite numbers"
                if bad
                else f"{len(table)} row"
            )
            raise InputError(
                f"The {what}: {found}. Expected two or more vectors of finite numbers."
            )
    return reference.to_numpy(np.float64), current[list(reference.columns)].to_numpy(np.float64)
