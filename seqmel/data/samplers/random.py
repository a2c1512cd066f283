"""Clients in random order, as in CoLES (Babaev et al., arXiv 2002.08232)."""

from __future__ import annotations

import torch
from torch import Tensor

from seqmel.data.samplers.base import Sampler

__all__ = ["RandomClients"]


class RandomClients(Sampler):
    """Batches of random clients. The arguments are those of `Sampler`."""

    def order(self, generator: torch.Generator) -> Tensor:
        """Return (N,) all clients in random order."""
        return self.clients[torch.randperm(len(self.clients), generator=generator)]
