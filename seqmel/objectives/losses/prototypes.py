"""Centers of the clients of a batch, for losses that compare embeddings with clients."""

from __future__ import annotations

import torch
from torch import Tensor

from seqmel.objectives.losses.blocks import over_rows

__all__ = ["batch_centers"]


def batch_centers(embeddings: Tensor, clients: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return client means, repeated for each embedding, so that shapes do not depend on counts.

    Args:
        embeddings: (N, D).
        clients: (N,) int64, the client of each embedding.

    Returns:
        (N, D) the mean of the other embeddings of the client, zero if there are none; (N, D) the
        mean of all embeddings of the client; (N,) their number.
    """

    def part(x: Tensor, rows: slice) -> tuple[Tensor, Tensor]:
        same = (clients[rows].unsqueeze(1) == clients).to(x.dtype)
        return same @ x, same.sum(1)

    sums, counts = (
        torch.cat(found) for found in zip(*over_rows(part, embeddings, len(clients)), strict=True)
    )
    others = (sums - embeddings) / (counts - 1).clamp(min=1).unsqueeze(1)
    return others, sums / counts.unsqueeze(1), counts
