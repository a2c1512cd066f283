"""Next event: from what is known after each event of a view, the features of the event that follows it, and how soon.

Autoregressive prediction, as language models are trained (Radford et al., 2018), over the features of events. It takes
an encoder that looks back only. With h_t the state after event t, x_t the features and t_t the time of event t, the loss is

    L = mean over t of  -log p(x_(t+1) | h_t) - log p(bin of log(1 + t_(t+1) - t_t) | h_t),

the time to the next event in fourteen bins of its robust scale, and one for two events at the same time (a discrete form
of neural point processes: Du et al., KDD 2016).
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
    """See the module's text.

    Args:
        vocabulary: names the features that are foretold.
        state_size: width of the encoder's states.
        head_size: width of the decoder's inner layer.
        views: how many views of each client are learnt from; None takes all.
        max_events: how many randomly chosen events of a batch are predicted at most; a wide vocabulary costs memory.
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
        self.decoder = EventDecoder(vocabulary, input_size=state_size, hidden_size=head_size, gap=True)
        self.views = views
        self.max_events = max_events

    def forward(self, encoded: Encoded) -> Tensor:
        """The loss of a batch, a scalar in nats an event; zero where no view has two events."""
        events, states = encoded.first_views(self.views)
        first = torch.zeros(events.events, dtype=torch.bool)
        begins = events.lengths.cumsum(0) - events.lengths
        first[begins[events.lengths > 0]] = True
        targets = (~first).nonzero()[:, 0]
        targets = to_device_async(targets[torch.randperm(len(targets))[: self.max_events]], events.device)
        rows = torch.arange(len(targets), device=events.device)
        gaps = events.time.index_select(0, targets) - events.time.index_select(0, targets - 1)
        costs = self.decoder.costs(take_rows(states, targets - 1), rows, events.take(targets), gaps=gaps)
        return all_reduce_mean(costs.sum(), len(targets))
