"""Which embeddings of a batch belong together, and how far apart embeddings are."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["Pairs", "cross_distances", "distances", "positive_pairs"]

Pairs = tuple[Tensor, Tensor]
"""Two (P,) int64 tensors: pair p is of embeddings first[p] and second[p]."""


def positive_pairs(clients: Tensor) -> Pairs:
    """All unordered pairs of different embeddings of one client."""
    same = torch.ones(len(clients), len(clients), dtype=torch.bool, device=clients.device).triu(1)
    first, second = (same & (clients.unsqueeze(0) == clients.unsqueeze(1))).nonzero(as_tuple=True)
    return first, second


def distances(embeddings: Tensor, pairs: Pairs) -> Tensor:
    """(P,) Euclidean distances. The gradient at distance zero is zero, not NaN."""
    first, second = pairs
    squared = (embeddings[first] - embeddings[second]).square().sum(1)
    return torch.where(squared > 0, squared.clamp(min=1e-12).sqrt(), 0.0)


def cross_distances(embeddings: Tensor) -> Tensor:
    """(N, N) squared Euclidean distances, by one matrix product."""
    norms = embeddings.square().sum(1)
    return (norms.unsqueeze(1) + norms.unsqueeze(0) - 2 * embeddings @ embeddings.t()).clamp(min=0)
