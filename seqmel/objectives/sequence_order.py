"""Sequence order: of the two halves of a view, which came first.

Lan et al.: ALBERT, a lite BERT (ICLR 2020, arXiv 1909.11942, section 3.1, sentence-order prediction): with a and b the vectors
of the first and the second half, each encoded for itself, and g a small network on both side by side,

    L = mean over views of ( softplus(-g(a, b)) + softplus(g(b, a)) ) / 2.

Both orders of each pair are asked, where the paper draws one. The halves have the same number of events, the middle one of an
odd number left out, and neither knows how long before its first event the other one ended: length and gap tell nothing.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from seqmel.core.distributed import all_reduce_mean
from seqmel.objectives.encoded import Encoded
from seqmel.objectives.parts import answer_head, nothing, vectors_of_runs

__all__ = ["SequenceOrder"]


class SequenceOrder(nn.Module):
    """See the module's text.

    Args:
        embedding_size: width of the encoder's vectors.
        head_size: width of the network's inner layer.
    """

    def __init__(self, *, embedding_size: int, head_size: int = 256) -> None:
        super().__init__()
        self.head = answer_head(2 * embedding_size, head_size)

    def forward(self, encoded: Encoded) -> Tensor:
        """The loss of a batch, a scalar in nats a view; zero where no view has two events."""
        events = encoded.batch.sequences
        views = (events.lengths >= 2).nonzero()[:, 0]
        if not len(views):
            return all_reduce_mean(nothing(self), 0)
        half = events.lengths[views] // 2
        ends = events.lengths.cumsum(0)[views]
        starts = torch.cat([ends - events.lengths[views], ends - half])
        first, second = vectors_of_runs(encoded.encoder, events, starts, half.repeat(2)).chunk(2)
        right, wrong = self.head(torch.cat([first, second], dim=1)), self.head(torch.cat([second, first], dim=1))
        costs = F.softplus(-right.float()) + F.softplus(wrong.float())
        return all_reduce_mean(costs.sum(), 2 * len(views))
