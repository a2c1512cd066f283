"""Next sequence: does a part of a sequence follow another, or does it belong to another client."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from seqmel.core.distributed import all_reduce_mean
from seqmel.objectives.encoded import Encoded
from seqmel.objectives.parts import embed_subsequences, mlp_head, sample_other_views, zero_loss

__all__ = ["NextSequence"]


class NextSequence(nn.Module):
    """Next-sentence prediction on event sequences (Devlin et al., BERT, arXiv 1810.04805, task 2).

    With a the vector of the first half of a view, b that of the second half, b' that of the second
    half of another client's view, and h a small network on a, b, |a - b| and a * b side by side,

        L = mean over views of ( softplus(-h(a, b)) + softplus(h(a, b')) ) / 2.

    The features of a pair are those of InferSent (Conneau et al., arXiv 1705.02364). Each view
    gives a positive and a negative pair, where the paper draws one of them. The three parts have
    the same number of events, and the gap to a previous part is hidden. So length and gap reveal
    nothing.

    Args:
        embedding_size: Width of the encoder's vectors.
        head_size: Width of the hidden layer.
    """

    def __init__(self, *, embedding_size: int, head_size: int = 256) -> None:
        super().__init__()
        self.head = mlp_head(4 * embedding_size, head_size)

    def forward(self, encoded: Encoded) -> Tensor:
        """Compute the loss of a batch, in nats per view.

        It is zero if fewer than two clients have a view of two events.
        """
        events = encoded.batch.sequences
        clients = encoded.batch.clients_on_host
        views = (events.lengths >= 2).nonzero()[:, 0]
        if len(clients[views].unique()) < 2:
            return all_reduce_mean(zero_loss(self), 0)
        others = sample_other_views(clients, views)
        half = events.lengths // 2
        ends = events.lengths.cumsum(0)
        length = torch.minimum(half[views], half[others])
        first_ends = (ends - events.lengths + half)[views]
        starts = torch.cat([first_ends - length, (ends - half)[views], (ends - half)[others]])
        first, follows, foreign = embed_subsequences(
            encoded.encoder, events, starts, length.repeat(3)
        ).chunk(3)
        costs = F.softplus(-self._follows(first, follows)) + F.softplus(
            self._follows(first, foreign)
        )
        return all_reduce_mean(costs.sum(), 2 * len(views))

    def _follows(self, first: Tensor, second: Tensor) -> Tensor:
        """Return (R,) log-odds that the second parts follow the first."""
        pair = torch.cat([first, second, (first - second).abs(), first * second], dim=1)
        return self.head(pair)[:, 0].float()
