"""What is watched on held-out clients after each epoch: can a client be recognised, and has the space collapsed."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor
from torch.nn import functional as F

__all__ = ["collapsed", "effective_rank", "embedding_metrics", "unit_vectors"]

_RESIDUE = 1e-6  # of a vector's length: less than that apart from the mean is the rounding of float32
_COLLAPSED = 3.0  # directions
_ENOUGH = 10  # clients: the vectors of fewer use few directions whatever the model is


def collapsed(row: Mapping[str, float]) -> bool:
    """Whether the figures of an epoch show embeddings that hardly differ from client to client."""
    return row.get("effective_rank", _COLLAPSED) < _COLLAPSED and row.get("clients_held_out", _ENOUGH) >= _ENOUGH


def embedding_metrics(embeddings: Tensor, clients: Tensor) -> dict[str, float]:
    """Figures of the embeddings of several views of each of some clients.

    Distances and neighbours are those of `unit_vectors`.

    Args:
        embeddings: (N, D) float32.
        clients: (N,) whose they are.

    Returns:
        recall_at_1, recall_at_10: share of views among whose 1 or 10 nearest others is one of the same client;
        positive_distance, negative_distance: mean distance of two views of one client, of two clients;
        effective_rank: see `effective_rank`.
    """
    unit = unit_vectors(embeddings)
    apart = torch.cdist(unit, unit)
    same = clients.unsqueeze(0) == clients.unsqueeze(1)
    itself = torch.eye(len(unit), dtype=torch.bool, device=unit.device)
    nearest = apart.masked_fill(itself, torch.inf).topk(min(10, len(unit) - 1), largest=False).indices
    hits = same.gather(1, nearest)
    return {
        "recall_at_1": float(hits[:, 0].float().mean()),
        "recall_at_10": float(hits.any(1).float().mean()),
        "positive_distance": float(apart[same & ~itself].mean()),
        "negative_distance": float(apart[~same].mean()),
        "effective_rank": effective_rank(embeddings),
    }


def unit_vectors(embeddings: Tensor) -> Tensor:
    """(N, D) vectors of length 1, after the mean vector, which says nothing of any client, is taken off; equal ones give zeros."""
    return F.normalize(_centred(embeddings).to(embeddings), dim=1)


def _centred(embeddings: Tensor) -> Tensor:
    """(N, D) float64, the mean vector taken off; a row of which rounding is all that is left is zero."""
    if embeddings.device.type == "mps":  # which has no float64
        embeddings = embeddings.cpu()
    centred = embeddings - embeddings.mean(0, dtype=torch.float64)
    centred[centred.norm(dim=1) < _RESIDUE * embeddings.norm(dim=1)] = 0.0
    return centred


def effective_rank(embeddings: Tensor) -> float:
    """How many directions the embeddings use: exp of the entropy of the normalised singular values of the centred matrix.

    Roy, Vetterli: The effective rank (EUSIPCO 2007). 1 is a line; D is a ball. All embeddings equal gives 0.
    """
    centred = _centred(embeddings)
    if not centred.isfinite().all():
        return 0.0
    singular = torch.linalg.svdvals(centred.cpu())
    if float(singular.sum()) <= 1e-9 * max(1.0, float(embeddings.abs().max())):
        return 0.0
    shares = singular / singular.sum()
    return float(torch.special.entr(shares).sum().exp())
