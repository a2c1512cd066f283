"""Contrastive predictive coding: from the state after an event, which of many events comes k steps later.

van den Oord, Li, Vinyals: Representation learning with contrastive predictive coding (arXiv 1807.03748, equations 3 and
4): with c_t the state after event t of a view, z_j the embeddings of single events, and one linear map W_k for each step,

    L_k = mean over t of  -log( exp f_k(c_t, z_(t+k)) / sum over events j of exp f_k(c_t, z_j) ),  f_k(c, z) = cos(W_k c, V z) / T,

and the mean over the steps k = 1 .. K that have events. The paper's dot products are cosines divided by a temperature here,
as in later contrastive work (Chen et al., 2002.05709), so that the scale of the states does not matter. Events j are those
that are looked for from all other places of the batch; what is the same event in another view of the client is no negative.
The encoder has to look back only: one that sees event t + k has nothing to foretell.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from seqmel.core.distributed import all_gather_with_grad
from seqmel.core.scatter import take_rows
from seqmel.data.sequences.batch import to_device_async
from seqmel.objectives.encoded import Encoded
from seqmel.objectives.losses.pairs import masked_logsumexp
from seqmel.objectives.parts import nothing

__all__ = ["CPC"]


class CPC(nn.Module):
    """See the module's text.

    Args:
        event_size: width of the event encoder.
        state_size: width of the encoder's states.
        steps: K, how far ahead is looked.
        head_size: width in which states and events are compared.
        temperature: T.
        negatives: "batch", all events that are looked for, or "others", those of other clients alone.
        max_events: from so many randomly chosen places is looked ahead at most, for each step; where several processes
            train together, each has so many, and what they look for is compared with that of all.
    """

    def __init__(
        self,
        *,
        event_size: int,
        state_size: int,
        steps: int = 3,
        head_size: int = 128,
        temperature: float = 0.1,
        negatives: str = "batch",
        max_events: int = 1024,
    ) -> None:
        super().__init__()
        self.to_key = nn.Linear(event_size, head_size, bias=False)
        self.ahead = nn.ModuleList(nn.Linear(state_size, head_size, bias=False) for _ in range(steps))
        self.event_size = event_size
        self.temperature = temperature
        self.others_only = negatives == "others"
        self.max_events = max_events

    def forward(self, encoded: Encoded) -> Tensor:
        """The loss of a batch, a scalar in nats a step; zero where no view has two events."""
        events, states = encoded.batch.sequences, encoded.states
        clients = encoded.batch.clients[events.sequence_index]
        ends = events.lengths.cumsum(0).repeat_interleave(events.lengths)
        left = ends - 1 - torch.arange(events.events)  # events that follow in the same view
        costs, asked = [], 0
        for step, ahead in enumerate(self.ahead, 1):
            places = (left >= step).nonzero()[:, 0]
            places = to_device_async(places[torch.randperm(len(places))[: self.max_events]], events.device)
            found = places + step
            queries = all_gather_with_grad(ahead(take_rows(states, places)))
            keys = all_gather_with_grad(self.to_key(take_rows(states, found)[:, : self.event_size]))
            cost = self._step(
                queries, keys, all_gather_with_grad(clients[found]), all_gather_with_grad(events.time[found])
            )
            costs.append(cost / len(queries) if len(queries) else nothing(self))
            asked += len(queries) > 0
        return torch.stack(costs).sum() / max(1, asked)

    def _step(self, queries: Tensor, keys: Tensor, clients: Tensor, times: Tensor) -> Tensor:
        """The summed cost of (P, D) predictions of (P, D) events of these clients and times."""
        own = clients.unsqueeze(0) == clients.unsqueeze(1)
        negative = ~(own if self.others_only else own & (times.unsqueeze(0) == times.unsqueeze(1)))
        with torch.autocast(queries.device.type, enabled=False):
            query, key = F.normalize(queries.float(), dim=1), F.normalize(keys.float(), dim=1)
            scores = query @ key.t() / self.temperature
            found = scores.diagonal()
            return (torch.logaddexp(found, masked_logsumexp(scores, negative)) - found).sum()
