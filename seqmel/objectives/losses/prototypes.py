"""The centers of the clients of a batch, for losses that compare an embedding with clients and not with embeddings."""

from __future__ import annotations

import torch
from torch import Tensor

from seqmel.objectives.losses.blocks import over_rows

__all__ = ["batch_centers"]


def batch_centers(embeddings: Tensor, clients: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Means of the embeddings of each client, once for each embedding, so that shapes are known without counting.

    Args:
        embeddings: (N, D).
        clients: (N,) whose they are.

    Returns:
        (N, D) the mean of the client's other embeddings, or zero where there are none; (N, D) the mean of all of the
        client's embeddings; (N,) how many these are.
    """

    def part(x: Tensor, rows: slice) -> tuple[Tensor, Tensor]:
        same = (clients[rows].unsqueeze(1) == clients).to(x.dtype)
        return same @ x, same.sum(1)

    sums, counts = (torch.cat(found) for found in zip(*over_rows(part, embeddings, len(clients)), strict=True))
    others = (sums - embeddings) / (counts - 1).clamp(min=1).unsqueeze(1)
    return others, sums / counts.unsqueeze(1), counts
