"""Vectors in two dimensions, and how much of them a map keeps.

The global score compares how well the vectors can be reconstructed linearly from the map and from
two principal components (Amid, Warmuth, TriMap, arXiv 1910.00204): 1 is as well as PCA, which is
best. Neighbourhood preservation is the area under the curve of R_NX(k) over log k: the overlap of
the k nearest neighbours before and after, beyond chance, weighted towards small k (Lee,
Peluffo-Ordonez, Verleysen, Neurocomputing 2015): 1 is all of them, 0 is chance.
"""

from __future__ import annotations

import importlib
import importlib.util
import logging
import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from seqmel.core.errors import ConfigError

__all__ = [
    "MIN_CLIENTS",
    "OPTIONAL",
    "MapLayout",
    "global_score",
    "map_layouts",
    "neighbourhood_auc",
]

MIN_CLIENTS = 10
"""Fewer clients are not drawn."""

OPTIONAL = {"UMAP": "umap", "TriMap": "trimap", "PaCMAP": "pacmap"}
"""Layout -> the extra that it needs, which is named like its module."""

_DIRECTIONS = 30  # principal components for all but PCA; the others are noise and cost time
_MOST_SCORED = 2_000  # clients that the scores are measured on

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class MapLayout:
    """One layout.

    Attributes:
        name: The method.
        note: What its axes or distances mean.
        points: (N, 2).
        global_score: See the module; 1 is as good as PCA.
        neighbours: See the module; 1 keeps all neighbours, 0 is chance.
    """

    name: str
    note: str
    points: Floats
    global_score: float
    neighbours: float


def map_layouts(vectors: npt.NDArray[np.float32], *, seed: int) -> list[MapLayout]:
    """Lay out vectors by PCA, t-SNE, and those of UMAP, TriMap and PaCMAP that are installed.

    Args:
        vectors: (N, D), at least ten.
        seed: The seed of the layouts and the clients that the scores are measured on.

    Returns:
        The layouts with their scores, measured on up to 2,000 clients.

    Raises:
        ConfigError: The installed TriMap is too old to be repeatable.
    """
    points, fractions = _principal(vectors)
    noted = (
        f"two principal components, {fractions[0]:.0%} and {fractions[1]:.0%} of the variance "
        "of the standardised vectors"
    )
    near = "neighbours stay near; distances between groups mean little"
    found = [("PCA", noted, points[:, :2]), ("t-SNE", near, _tsne(points, seed))]
    if _installed("UMAP"):
        found.append(("UMAP", near, _umap(points, seed)))
    groups = "made to keep groups in place among each other as well as neighbours"
    if _installed("TriMap"):
        found.append(("TriMap", groups, _trimap(points, seed)))
    if _installed("PaCMAP"):
        found.append(("PaCMAP", groups, _pacmap(points, seed)))
    standard = _standardised(vectors)
    order = np.random.default_rng(seed).permutation(len(vectors))[:_MOST_SCORED]
    return [
        MapLayout(
            name,
            note,
            placed,
            global_score(standard[order], np.nan_to_num(placed[order])),
            neighbourhood_auc(standard[order], np.nan_to_num(placed[order])),
        )
        for name, note, placed in found
    ]


def global_score(vectors: Floats, points: Floats) -> float:
    """Return exp(-(e - e_PCA) / e_PCA) of the errors of linear reconstruction, in (0, 1].

    Args:
        vectors: (N, D).
        points: (N, 2).
    """
    if not vectors.size:  # all vectors are equal
        return 1.0
    x = vectors - vectors.mean(0)
    y = points - points.mean(0)
    singular = np.linalg.svd(x, compute_uv=False)
    best = float((singular[2:] ** 2).sum())
    error = float(((x - y @ np.linalg.lstsq(y, x, rcond=None)[0]) ** 2).sum())
    if best <= 1e-12 * float((singular**2).sum()):  # the vectors are a plane
        return 1.0 if error <= 1e-9 * float((singular**2).sum()) else 0.0
    return float(min(1.0, np.exp(-(error - best) / best)))


def neighbourhood_auc(vectors: Floats, points: Floats) -> float:
    """Return the area under R_NX(k) over log k.

    Args:
        vectors: (N, D), at least four.
        points: (N, 2).
    """
    count = len(vectors)
    worse = np.maximum(_neighbour_ranks(vectors), _neighbour_ranks(points))
    k = np.arange(1, count - 1)
    # a pair is among the k nearest on both sides from the worse of its ranks on
    shared = np.cumsum(np.bincount(worse[worse > 0], minlength=count)[1:])[: count - 2]
    overlap = shared / (k * count)
    beyond_chance = ((count - 1) * overlap - k) / (count - 1 - k)
    return float((beyond_chance / k).sum() / (1 / k).sum())


def _neighbour_ranks(points: Floats) -> npt.NDArray[np.int64]:
    """Return (N, N) ranks of the neighbours of each row, from 1 on; 0 is itself."""
    squares = (points**2).sum(1)
    distances = squares[:, None] + squares - 2 * points @ points.T
    np.fill_diagonal(distances, -np.inf)
    order = np.argsort(distances, axis=1, kind="stable")
    ranks = np.empty_like(order)
    np.put_along_axis(ranks, order, np.arange(len(points))[None], axis=1)
    return ranks


def _standardised(vectors: npt.NDArray[np.float32]) -> Floats:
    """Return the columns that vary, with mean 0 and deviation 1."""
    centred = vectors.astype(np.float64) - vectors.mean(0, dtype=np.float64)
    spread = centred.std(0)
    varies = spread > 1e-9 * max(1.0, float(np.abs(vectors).max()))
    found: Floats = centred[:, varies] / spread[varies]
    return found


def _principal(vectors: npt.NDArray[np.float32]) -> tuple[Floats, list[float]]:
    """Return (S, up to 30) principal components, and the fractions of variance of the first two.

    Vectors are standardised. The largest weight of each component is positive, so that the same
    vectors give the same map.
    """
    standard = _standardised(vectors)
    padded = np.pad(standard, ((0, 0), (0, max(0, 2 - standard.shape[1]))))
    left, singular, right = np.linalg.svd(padded, full_matrices=False)
    signs = np.sign(right[np.arange(len(right)), np.abs(right).argmax(1)])
    points = (left * singular * np.where(signs == 0, 1.0, signs))[:, :_DIRECTIONS]
    variance = singular**2 / max(1e-300, float((singular**2).sum()))
    return points, [float(v) for v in variance[:2]]


def _tsne(points: Floats, seed: int) -> Floats:
    from sklearn.manifold import TSNE

    perplexity = min(30.0, (len(points) - 1) / 3)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # if all points are equal it divides by zero
        fitted = TSNE(2, perplexity=perplexity, init="random", random_state=seed).fit_transform(
            points
        )
    return np.asarray(fitted, np.float64)


def _installed(name: str) -> bool:
    return importlib.util.find_spec(OPTIONAL[name]) is not None


def _trimap(points: Floats, seed: int) -> Floats:
    """Triplets of points (Amid, Warmuth, arXiv 1910.00204)."""
    trimap: Any = importlib.import_module("trimap")
    if not hasattr(trimap, "TorchTRIMAP"):  # its older form has no seed
        raise ConfigError(
            "The installed trimap is too old. Install it: pip install -U 'seqmel[trimap]'"
        )
    inliers = min(12, (len(points) - 1) // 3)
    layout = trimap.TorchTRIMAP(n_inliers=inliers, random_state=seed, device="cpu")
    return np.asarray(layout.fit_transform(points), np.float64)


def _pacmap(points: Floats, seed: int) -> Floats:
    """Near, mid-near and far pairs of points (Wang et al., JMLR 22, 2021)."""
    if not np.ptp(points):  # all vectors are equal, and it divides by their spread
        return np.zeros((len(points), 2))
    pacmap: Any = importlib.import_module("pacmap")
    logging.getLogger("pacmap").setLevel(logging.ERROR)  # that a seed is set
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a seed disables its threads
        layout = pacmap.PaCMAP(
            n_neighbors=min(10, (len(points) - 1) // 3), random_state=seed, apply_pca=False
        )
        fitted = layout.fit_transform(points.astype(np.float32))
    return np.asarray(fitted, np.float64)


def _umap(points: Floats, seed: int) -> Floats:
    umap: Any = importlib.import_module("umap")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a seed disables its threads
        fitted = umap.UMAP(n_neighbors=min(15, len(points) - 1), random_state=seed).fit_transform(
            points
        )
    return np.asarray(fitted, np.float64)
