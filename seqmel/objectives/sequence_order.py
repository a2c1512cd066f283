"""Sequence order: which half of a view came first."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from seqmel.core.distributed import all_reduce_mean
from seqmel.objectives.encoded import Encoded
from seqmel.objectives.parts import embed_subsequences, mlp_head, zero_loss

__all__ = ["SequenceOrder"]


class SequenceOrder(nn.Module):
    """Sentence-order prediction on event sequences (ALBERT, arXiv 1909.11942).

    Source: Lan et al., ICLR 2020, section 3.1.

    With a and b the vectors of the first and the second half, each encoded alone, and g a small
    network on both side by side,

        L = mean over views of ( softplus(-g(a, b)) + softplus(g(b, a)) ) / 2.

    Each pair is used in both orders, where the paper draws one. The halves have the same number of
    events, without the middle one of an odd number. The gap between the halves is hidden. So length
    and gap reveal nothing.

    Args:
        embedding_size: Width of the encoder's vectors.
        head_size: Width of the hidden layer.
    """

    def __init__(self, *, embedding_size: int, head_size: int = 256) -> None:
        super().__init__()
        self.head = mlp_head(2 * embedding_size, head_size)

    def forward(self, encoded: Encoded) -> Tensor:
        """Compute the loss of a batch, in nats per view. It is zero if no view has two events."""
        events = encoded.batch.sequences
        views = (events.lengths >= 2).nonzero()[:, 0]
        if not len(views):
            return all_reduce_mean(zero_loss(self), 0)
        half = events.lengths[views] // 2
        ends = events.lengths.cumsum(0)[views]
        starts = torch.cat([ends - events.lengths[views], ends - half])
        first, second = embed_subsequences(encoded.encoder, events, starts, half.repeat(2)).chunk(2)
        right = self.head(torch.cat([first, second], dim=1))
        wrong = self.head(torch.cat([second, first], dim=1))
        costs = F.softplus(-right.float()) + F.softplus(wrong.float())
        return all_reduce_mean(costs.sum(), 2 * len(views))
