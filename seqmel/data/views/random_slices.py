"""Random slices of a client's sequence (CoLES, Babaev et al., arXiv 2002.08232, section 3.2)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from seqmel.data.views.base import ViewSampler
from seqmel.data.views.drawn_views import Views

__all__ = ["RandomSlices"]


@dataclass(frozen=True, kw_only=True)
class RandomSlices(ViewSampler):
    """Random contiguous slices of a client's sequence.

    K contiguous slices of each client, possibly overlapping.

    The length of a slice is drawn uniformly from the allowed lengths, then its start uniformly.
    """

    how: ClassVar[str] = "contiguous runs, possibly overlapping"
    source: ClassVar[str] = "Babaev et al., 2002.08232"
    when: ClassVar[str] = (
        "the default: order and gaps within a view are true ones. For sequences of tens to "
        "thousands of events"
    )

    def choose(
        self, clients: Tensor, lengths: Tensor, generator: torch.Generator, times: Tensor | None
    ) -> Views:
        """Choose contiguous events."""
        n = lengths.repeat_interleave(self.count)
        shortest = self.shortest(n)
        drawn = torch.rand((2, len(n)), generator=generator, dtype=torch.float64)
        length = shortest + (drawn[0] * (self.longest(n) - shortest + 1)).long()
        start = (drawn[1] * (n - length + 1)).long()
        return Views(clients.repeat_interleave(self.count), start, length)
