"""Random negatives: for each embedding some embeddings of other clients, all equally likely (the ablation of mining)."""

from __future__ import annotations

import torch
from torch import Tensor

from seqmel.losses.pairs import Pairs

__all__ = ["RandomNegatives"]


class RandomNegatives:
    """`count` different random negatives of each anchor; fewer where there are not so many, never one of the same client.

    Args:
        count: negatives an anchor.
    """

    def __init__(self, *, count: int = 5) -> None:
        self.count = count

    @torch.no_grad()
    def mine(self, embeddings: Tensor, clients: Tensor) -> Pairs:
        """Up to N * count pairs (anchor, negative).

        Args:
            embeddings: (N, D); only their number matters.
            clients: (N,) whose they are.
        """
        order = torch.rand(len(clients), len(clients), device=clients.device)
        order = order.masked_fill(clients.unsqueeze(0) == clients.unsqueeze(1), torch.inf)
        drawn = order.topk(min(self.count, len(clients)), dim=1, largest=False)
        anchors = torch.arange(len(clients), device=clients.device).unsqueeze(1).expand_as(drawn.indices)
        real = drawn.values.isfinite()
        return anchors[real], drawn.indices[real]
