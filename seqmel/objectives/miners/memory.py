"""Cross-batch memory: embeddings of earlier batches as further positives and negatives.

Wang, Zhang, Huang, Scott: Cross-batch memory for embedding learning (CVPR 2020, arXiv 1912.06798):
an encoder changes slowly, so embeddings of recent batches are still useful to compare with. They
give a small batch as many negatives as a large one, at the cost of storing them.

If a client appears again, its new embeddings replace the old ones, which are an epoch old and the
stalest in the memory. So the memory holds the views of at most one batch per client, all of them
positives. A memory larger than an epoch has empty slots.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from seqmel.objectives.miners.base import NOBODY

__all__ = ["MemoryBank"]


class MemoryBank(nn.Module):
    """A bank of the last `size` embeddings and their clients.

    It keeps only the last batch of each client. It is a part of the checkpoint, so a resumed
    training continues with it. A stored embedding of an anchor's client is a positive. Empty slots
    belong to `NOBODY`.

    Args:
        size: number of embeddings to keep; the oldest are replaced first.
        width: D, the embedding dimension.
    """

    def __init__(self, *, size: int, width: int) -> None:
        super().__init__()
        self.embeddings: Tensor
        self.clients: Tensor
        self.next: Tensor
        self.register_buffer("embeddings", torch.zeros(size, width))
        self.register_buffer("clients", torch.full((size,), NOBODY))
        self.register_buffer("next", torch.zeros((), dtype=torch.int64))

    def with_stored(self, embeddings: Tensor, clients: Tensor) -> tuple[Tensor, Tensor]:
        """Append the stored embeddings, without gradient, to those of a batch.

        Args:
            embeddings: (N, D).
            clients: (N,) int64, the client of each embedding.

        Returns:
            (N + size, D) embeddings and (N + size,) clients; the batch comes first.
        """
        kept = self.embeddings.to(embeddings.dtype)
        return torch.cat([embeddings, kept]), torch.cat([clients, self.clients])

    @torch.no_grad()
    def remember(self, embeddings: Tensor, clients: Tensor) -> None:
        """Store the embeddings of a batch, replacing older ones of its clients.

        Of a batch larger than `size`, the last `size` embeddings are stored.

        Args:
            embeddings: (N, D).
            clients: (N,) int64, the client of each embedding.
        """
        size = len(self.clients)
        embeddings = embeddings.detach()[-size:]
        clients = clients[-size:]
        again = torch.cat([clients, clients.new_full((1,), NOBODY)]).sort().values
        found = torch.searchsorted(again, self.clients).clamp_(max=len(clients))
        self.clients.masked_fill_(again[found] == self.clients, NOBODY)
        places = (self.next + torch.arange(len(clients), device=clients.device)) % size
        self.embeddings.index_copy_(0, places, embeddings.to(self.embeddings.dtype))
        self.clients.index_copy_(0, places, clients)
        self.next.add_(len(clients)).remainder_(size)
