"""Views of clients: the random slices between which the contrastive objective learns to recognise a client.

Drawn for a whole batch at once, on the host and from a generator that is passed in; only the gather that follows runs
where the events lie.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = ["RandomSlices", "Views"]


@dataclass(frozen=True)
class Views:
    """S runs of events: view s is `lengths[s]` events of client `clients[s]` from its event `starts[s]` on."""

    clients: Tensor
    starts: Tensor
    lengths: Tensor


@dataclass(frozen=True, kw_only=True)
class RandomSlices:
    """K contiguous, possibly overlapping slices of each client (CoLES, Babaev et al., arXiv 2002.08232, section 3.2).

    A slice's length is drawn uniformly from [min_length, max_length], then its start uniformly from what fits. A client
    of n events draws from [min(min_length, ceil(n / 2)), min(max_length, n)], so that a short client gives different
    parts of its sequence and not K times the whole. Of equal slices of one client one is kept: an identical pair would
    teach nothing. A client with fewer than two events has no two different parts and is not trained on.

    Attributes:
        count: K, slices a client.
        min_length, max_length: events a slice.
    """

    count: int = 5
    min_length: int = 25
    max_length: int = 200

    @staticmethod
    def eligible(lengths: Tensor) -> Tensor:
        """(N,) bool: the clients that have two different parts."""
        return lengths >= 2

    def draw(self, clients: Tensor, lengths: Tensor, generator: torch.Generator) -> Views:
        """Draw the slices of a batch.

        Args:
            clients: (B,) int64, positions of the clients in the set.
            lengths: (B,) int64, their numbers of events, each at least 1.
            generator: the source of randomness, on the CPU.
        """
        n = lengths.repeat_interleave(self.count)
        shortest = torch.minimum(torch.full_like(n, self.min_length), (n + 1) // 2)
        longest = n.clamp(max=self.max_length)
        drawn = torch.rand((2, len(n)), generator=generator, dtype=torch.float64)
        length = shortest + (drawn[0] * (longest - shortest + 1)).long()
        start = (drawn[1] * (n - length + 1)).long()
        return _distinct(Views(clients.repeat_interleave(self.count), start, length))


def _distinct(views: Views) -> Views:
    rows = torch.stack([views.clients, views.starts, views.lengths], dim=1)
    order = torch.arange(len(rows))
    _, which = torch.unique(rows, dim=0, return_inverse=True)
    first = torch.full((int(which.max()) + 1,), len(rows)).scatter_reduce(0, which, order, "amin")
    keep = first.sort().values
    return Views(views.clients[keep], views.starts[keep], views.lengths[keep])
