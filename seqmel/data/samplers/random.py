"""Clients in random order, as in CoLES (Babaev et al., arXiv 2002.08232)."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from seqmel.data.samplers.base import Sampler

__all__ = ["RandomSampler"]


class RandomSampler(Sampler):
    """Batches of random clients.

    The arguments are those of `Sampler`.
    """

    how: ClassVar[str] = "any clients"
    source: ClassVar[str] = "Babaev et al., 2002.08232"
    when: ClassVar[str] = "the default"

    def order(self, generator: torch.Generator) -> Tensor:
        """Return (N,) all clients in random order."""
        return self.clients[torch.randperm(len(self.clients), generator=generator)]
