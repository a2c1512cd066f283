"""The centers of the clients of a batch, for losses that compare an embedding with clients and not with embeddings."""

from __future__ import annotations

from torch import Tensor

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
    same = (clients.unsqueeze(0) == clients.unsqueeze(1)).to(embeddings.dtype)
    counts = same.sum(1)
    sums = same @ embeddings
    others = (sums - embeddings) / (counts - 1).clamp(min=1).unsqueeze(1)
    return others, sums / counts.unsqueeze(1), counts
