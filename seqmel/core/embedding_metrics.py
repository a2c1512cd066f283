"""Validation metrics of embeddings: are clients recognised, and has the space collapsed."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor
from torch.nn import functional as F

from seqmel.core.poincare_ball import PoincareBall

__all__ = [
    "collapsed",
    "compared_points",
    "distances_between",
    "effective_rank",
    "embedding_metrics",
    "unit_vectors",
]

_RESIDUE = 1e-6  # relative length below which a centred vector is only rounding of float32
_COLLAPSED = 3.0  # directions
_ENOUGH = 10  # clients; fewer vectors use few directions whatever the model is


def collapsed(row: Mapping[str, float]) -> bool:
    """Return whether the metrics of an epoch show embeddings that hardly differ between clients."""
    return (
        row.get("effective_rank", _COLLAPSED) < _COLLAPSED
        and row.get("clients_held_out", _ENOUGH) >= _ENOUGH
    )


def embedding_metrics(
    embeddings: Tensor, clients: Tensor, *, ball: PoincareBall | None = None
) -> dict[str, float]:
    """Compute metrics of the embeddings of several views per client.

    Distances and neighbours are those of `unit_vectors`, or those of a ball.

    Args:
        embeddings: (N, D) float32.
        clients: (N,) the client of each view.
        ball: the ball that the embeddings are tangent vectors of.

    Returns:
        recall_at_1, recall_at_10: fraction of views with a view of the same client among the 1 or
        10
            nearest ones;
        positive_distance, negative_distance: mean distance of views of the same client, of two
        clients;
        effective_rank: see `effective_rank`.
    """
    points = compared_points(embeddings, ball)
    apart = distances_between(points, points, ball)
    same = clients.unsqueeze(0) == clients.unsqueeze(1)
    itself = torch.eye(len(apart), dtype=torch.bool, device=apart.device)
    nearest = (
        apart.masked_fill(itself, torch.inf).topk(min(10, len(apart) - 1), largest=False).indices
    )
    hits = same.gather(1, nearest)
    return {
        "recall_at_1": float(hits[:, 0].float().mean()),
        "recall_at_10": float(hits.any(1).float().mean()),
        "positive_distance": float(apart[same & ~itself].mean()),
        "negative_distance": float(apart[~same].mean()),
        "effective_rank": effective_rank(embeddings),
    }


def compared_points(embeddings: Tensor, ball: PoincareBall | None) -> Tensor:
    """Return (N, D) points for `distances_between`: `unit_vectors`, or points of a ball."""
    return unit_vectors(embeddings) if ball is None else ball.points(embeddings)


def distances_between(points: Tensor, others: Tensor, ball: PoincareBall | None) -> Tensor:
    """Return (N, M) distances of `compared_points`."""
    if ball is None:
        return torch.cdist(points, others)
    return ball.cross_distances(points, others)


def unit_vectors(embeddings: Tensor) -> Tensor:
    """Centre (N, D) vectors and scale them to length 1. Vectors equal to the mean become zero."""
    return F.normalize(_centred(embeddings).to(embeddings), dim=1)


def _centred(embeddings: Tensor) -> Tensor:
    """Centre vectors: (N, D) float64. A row that is only rounding error becomes zero."""
    if embeddings.device.type == "mps":  # it has no float64
        embeddings = embeddings.cpu()
    centred = embeddings - embeddings.mean(0, dtype=torch.float64)
    centred[centred.norm(dim=1) < _RESIDUE * embeddings.norm(dim=1)] = 0.0
    return centred


def effective_rank(embeddings: Tensor) -> float:
    """Number of directions that embeddings use (Roy, Vetterli: The effective rank, EUSIPCO 2007).

    It is exp of the entropy of the normalised singular values of the centred matrix. 1 is a line, D
    a ball. If all embeddings are equal it is 0.
    """
    centred = _centred(embeddings)
    if not centred.isfinite().all():
        return 0.0
    singular = torch.linalg.svdvals(centred.cpu())
    if float(singular.sum()) <= 1e-9 * max(1.0, float(embeddings.abs().max())):
        return 0.0
    fractions = singular / singular.sum()
    return float(torch.special.entr(fractions).sum().exp())
