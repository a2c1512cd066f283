"""Next sequence: does a part follow on another one, of the same client, or is it of another client.

Devlin, Chang, Lee, Toutanova: BERT (arXiv 1810.04805, task 2, next-sentence prediction): with a the vector of the first half of
a view, b that of what follows, b' that of the second half of another client's view, and h a small network,

    L = mean over views of ( softplus(-h(a, b)) + softplus(h(a, b')) ) / 2,   h on a, b, |a - b| and a * b side by side.

The features of a pair are those of Conneau et al. (InferSent, arXiv 1705.02364). Both answers are asked of each view, where
the paper draws one; the three parts have the same number of events, and no part knows how long before its first event
another one ended: length and gap tell nothing.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from seqmel.core.distributed import all_reduce_mean
from seqmel.objectives.encoded import Encoded
from seqmel.objectives.parts import answer_head, nothing, vectors_of_runs, views_of_others

__all__ = ["NextSequence"]


class NextSequence(nn.Module):
    """See the module's text.

    Args:
        embedding_size: width of the encoder's vectors.
        head_size: width of the network's inner layer.
    """

    def __init__(self, *, embedding_size: int, head_size: int = 256) -> None:
        super().__init__()
        self.head = answer_head(4 * embedding_size, head_size)

    def forward(self, encoded: Encoded) -> Tensor:
        """The loss of a batch, a scalar in nats a view; zero where fewer than two clients have a view of two events."""
        events, clients = encoded.batch.sequences, encoded.batch.clients_on_host
        views = (events.lengths >= 2).nonzero()[:, 0]
        if len(clients[views].unique()) < 2:
            return all_reduce_mean(nothing(self), 0)
        others = views_of_others(clients, views)
        half, ends = events.lengths // 2, events.lengths.cumsum(0)
        length = torch.minimum(half[views], half[others])
        first_ends = (ends - events.lengths + half)[views]
        starts = torch.cat([first_ends - length, (ends - half)[views], (ends - half)[others]])
        first, follows, foreign = vectors_of_runs(encoded.encoder, events, starts, length.repeat(3)).chunk(3)
        costs = F.softplus(-self._follows(first, follows)) + F.softplus(self._follows(first, foreign))
        return all_reduce_mean(costs.sum(), 2 * len(views))

    def _follows(self, first: Tensor, second: Tensor) -> Tensor:
        """(R,) log-odds that the second parts follow on the first."""
        pair = torch.cat([first, second, (first - second).abs(), first * second], dim=1)
        return self.head(pair)[:, 0].float()
