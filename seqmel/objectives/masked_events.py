"""Masked events: predict the features of masked events from the rest of the view."""

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
    """Masked language modelling (Devlin et al., BERT, arXiv 1810.04805) over whole events.

    The encoder sees the time of a masked event, and a trained mask embedding in place of its
    features. So the time is not predicted. CMLM + CoLES (arXiv 2408.09995) combines it with a
    contrastive part.

    Args:
        vocabulary: Names the predicted features.
        event_size: Width of the event encoder.
        state_size: Width of the encoder's states.
        mask_ratio: Fraction of the events that is masked.
        head_size: Width of the decoder's hidden layer.
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
        self.decoder = EventDecoder(
            vocabulary, input_size=state_size, hidden_size=head_size, time=False
        )
        self.mask_embedding = nn.Parameter(torch.randn(event_size) * 0.1)
        self.mask_ratio = mask_ratio

    def forward(self, encoded: Encoded) -> Tensor:
        """Compute the loss of a batch, in nats per masked event. At least one event is masked."""
        events = encoded.batch.sequences
        count = max(1, round(self.mask_ratio * events.events))
        masked = torch.randperm(events.events)[:count].sort().values
        masked = to_device_async(masked, events.device)
        states = encoded.encoder.states(events, masked=masked, mask_embedding=self.mask_embedding)
        rows = torch.arange(len(masked), device=events.device)
        costs = self.decoder.costs(take_rows(states, masked), rows, events.take(masked))
        return all_reduce_mean(costs.sum(), len(masked))
