"""Next event.

Predict the features and the time of the next event from the state after each event.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from seqmel.core.distributed import all_reduce_mean
from seqmel.core.scatter import take_rows
from seqmel.data.sequences.batch import to_device_async
from seqmel.data.vocabulary import Vocabulary
from seqmel.nn.decoder import EventDecoder
from seqmel.objectives.encoded import Encoded

__all__ = ["NextEvent"]


class NextEvent(nn.Module):
    """Autoregressive prediction of events, as language models are trained (Radford et al., 2018).

    The encoder must be causal. With h_t the state after event t, x_t its features and t_t its time,

        L = mean over t of  -log p(x_(t+1) | h_t) - log p(bin of log(1 + t_(t+1) - t_t) | h_t).

    The time to the next event has fourteen bins on its robust scale, and one for a gap of zero.
    This is a discrete form of neural point processes (Du et al., KDD 2016).

    Args:
        vocabulary: Names the predicted features.
        state_size: Width of the encoder's states.
        head_size: Width of the decoder's hidden layer.
        views: Number of views per client that are used. None uses all.
        max_events: Maximum number of random target events per batch. A large vocabulary needs
            memory.
    """

    def __init__(
        self,
        vocabulary: Vocabulary,
        *,
        state_size: int,
        head_size: int = 256,
        views: int | None = None,
        max_events: int = 4096,
    ) -> None:
        super().__init__()
        self.decoder = EventDecoder(
            vocabulary, input_size=state_size, hidden_size=head_size, gap=True
        )
        self.views = views
        self.max_events = max_events

    def forward(self, encoded: Encoded) -> Tensor:
        """Compute the loss of a batch, in nats per event. It is zero if no view has two events."""
        events, states = encoded.first_views(self.views)
        first = torch.zeros(events.events, dtype=torch.bool)
        begins = events.lengths.cumsum(0) - events.lengths
        first[begins[events.lengths > 0]] = True
        targets = (~first).nonzero()[:, 0]
        targets = to_device_async(
            targets[torch.randperm(len(targets))[: self.max_events]], events.device
        )
        rows = torch.arange(len(targets), device=events.device)
        gaps = events.time.index_select(0, targets) - events.time.index_select(0, targets - 1)
        costs = self.decoder.costs(
            take_rows(states, targets - 1), rows, events.take(targets), gaps=gaps
        )
        return all_reduce_mean(costs.sum(), len(targets))
