"""Hard negative mining: for each embedding its nearest embeddings of other clients (CoLES, arXiv 2002.08232, 3.4)."""

from __future__ import annotations

import torch
from torch import Tensor

from seqmel.losses.pairs import Pairs, cross_distances

__all__ = ["HardNegatives"]


class HardNegatives:
    """The `count` nearest negatives of each anchor; fewer where there are not so many, and never one of the same client.

    Args:
        count: k, negatives an anchor.
    """

    def __init__(self, *, count: int = 5) -> None:
        self.count = count

    @torch.no_grad()
    def mine(self, embeddings: Tensor, clients: Tensor) -> Pairs:
        """Up to N * count pairs (anchor, negative).

        Args:
            embeddings: (N, D), unit vectors.
            clients: (N,) whose they are.
        """
        embeddings = embeddings.detach().float()
        apart = cross_distances(embeddings).masked_fill(clients.unsqueeze(0) == clients.unsqueeze(1), torch.inf)
        nearest = apart.topk(min(self.count, len(embeddings)), dim=1, largest=False)
        anchors = torch.arange(len(embeddings), device=clients.device).unsqueeze(1).expand_as(nearest.indices)
        real = nearest.values.isfinite()
        return anchors[real], nearest.indices[real]
