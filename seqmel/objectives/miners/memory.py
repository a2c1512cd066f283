"""Cross-batch memory: embeddings of earlier batches that are compared with as well.

Wang, Zhang, Huang, Scott: Cross-batch memory for embedding learning (CVPR 2020, arXiv 1912.06798): an encoder changes
slowly, so embeddings of some batches ago are still good to compare with. They give a small batch as many negatives as a
large one would, for the price of keeping them.

A client that comes again is remembered anew, and its embeddings of an epoch ago are forgotten: they are the stalest there are, and
so no more than the views of one batch are ever remembered of a client, all of which are its positives. A memory larger
than an epoch keeps empty places.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from seqmel.objectives.miners.base import NOBODY

__all__ = ["MemoryBank"]


class MemoryBank(nn.Module):
    """The last `size` embeddings and whose they are, of each client those of its last batch; a part of the checkpoint, so
    that a resumed training goes on with them.

    A remembered embedding of an anchor's client is one of its positives. Places that are still empty belong to `NOBODY`.

    Args:
        size: embeddings that are kept; the oldest go first.
        width: D, numbers an embedding.
    """

    def __init__(self, *, size: int, width: int) -> None:
        super().__init__()
        self.embeddings: Tensor
        self.clients: Tensor
        self.next: Tensor
        self.register_buffer("embeddings", torch.zeros(size, width))
        self.register_buffer("clients", torch.full((size,), NOBODY))
        self.register_buffer("next", torch.zeros((), dtype=torch.int64))

    def beside(self, embeddings: Tensor, clients: Tensor) -> tuple[Tensor, Tensor]:
        """The embeddings of a batch, (N, D) and (N,), with the remembered ones, which have no gradient, after them."""
        kept = self.embeddings.to(embeddings.dtype)
        return torch.cat([embeddings, kept]), torch.cat([clients, self.clients])

    @torch.no_grad()
    def remember(self, embeddings: Tensor, clients: Tensor) -> None:
        """Keep the embeddings of a batch, or its last `size` where it is larger, in place of older ones of its clients."""
        size = len(self.clients)
        embeddings, clients = embeddings.detach()[-size:], clients[-size:]
        again = torch.cat([clients, clients.new_full((1,), NOBODY)]).sort().values
        found = torch.searchsorted(again, self.clients).clamp_(max=len(clients))
        self.clients.masked_fill_(again[found] == self.clients, NOBODY)
        places = (self.next + torch.arange(len(clients), device=clients.device)) % size
        self.embeddings.index_copy_(0, places, embeddings.to(self.embeddings.dtype))
        self.clients.index_copy_(0, places, clients)
        self.next.add_(len(clients)).remainder_(size)
