"""Next event: from what is known after each event of a view, the features of the event that follows it.

Autoregressive prediction, as language models are trained (Radford et al., 2018), over the features of events. It takes
an encoder that looks back only. Time enters as hours and weekdays of the next event, its gap is not foretold.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from seqmel.core.distributed import mean_over_ranks
from seqmel.core.scatter import take_rows
from seqmel.data.sequences.batch import sent
from seqmel.data.vocabulary import Vocabulary
from seqmel.nn.decoder import EventDecoder
from seqmel.objectives.encoded import Encoded

__all__ = ["NextEvent"]


class NextEvent(nn.Module):
    """See the module's text.

    Args:
        vocabulary: names the features that are foretold.
        state_size: width of the encoder's states.
        head_size: width of the decoder's inner layer.
        most_events: how many randomly chosen events of a batch are foretold at most; a wide vocabulary costs memory.
    """

    def __init__(
        self, vocabulary: Vocabulary, *, state_size: int, head_size: int = 256, most_events: int = 4096
    ) -> None:
        super().__init__()
        self.decoder = EventDecoder(vocabulary, input_size=state_size, hidden_size=head_size)
        self.most_events = most_events

    def forward(self, encoded: Encoded) -> Tensor:
        """The loss of a batch, a scalar in nats an event; zero where no view has two events."""
        events = encoded.batch.sequences
        first = torch.zeros(events.events, dtype=torch.bool)
        begins = events.lengths.cumsum(0) - events.lengths
        first[begins[events.lengths > 0]] = True
        targets = (~first).nonzero()[:, 0]
        targets = sent(targets[torch.randperm(len(targets))[: self.most_events]], events.device)
        states = take_rows(encoded.states, targets - 1)
        rows = torch.arange(len(targets), device=events.device)
        return mean_over_ranks(self.decoder.costs(states, rows, events.take(targets)).sum(), len(targets))
