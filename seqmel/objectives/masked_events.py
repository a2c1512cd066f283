"""Masked events: some events of a view are hidden, and their features are foretold from what the encoder makes of the rest.

Masked language modelling (Devlin et al., BERT, arXiv 1810.04805) over whole events: of a hidden event the encoder sees
the time and a learnt stand-in for the rest, so the time is not asked for. As in CMLM + CoLES (arXiv 2408.09995) it goes well beside a contrastive part.
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

__all__ = ["MaskedEvents"]


class MaskedEvents(nn.Module):
    """See the module's text.

    Args:
        vocabulary: names the features that are foretold.
        event_size: width of the event encoder.
        state_size: width of the encoder's states.
        share: share of the events that is hidden.
        head_size: width of the decoder's inner layer.
    """

    def __init__(
        self,
        vocabulary: Vocabulary,
        *,
        event_size: int,
        state_size: int,
        mask_ratio: float = 0.15,
        head_size: int = 256,
    ) -> None:
        super().__init__()
        self.decoder = EventDecoder(vocabulary, input_size=state_size, hidden_size=head_size, time=False)
        self.stand_in = nn.Parameter(torch.randn(event_size) * 0.1)
        self.mask_ratio = mask_ratio

    def forward(self, encoded: Encoded) -> Tensor:
        """The loss of a batch, a scalar in nats a hidden event; at least one event is hidden."""
        events = encoded.batch.sequences
        count = max(1, round(self.mask_ratio * events.events))
        hidden = to_device_async(torch.randperm(events.events)[:count].sort().values, events.device)
        states = take_rows(encoded.encoder.states(events, hidden=hidden, stand_in=self.stand_in), hidden)
        rows = torch.arange(len(hidden), device=events.device)
        return all_reduce_mean(self.decoder.costs(states, rows, events.take(hidden)).sum(), len(hidden))
