"""Contrastive predictive coding: identify the event that comes k steps later."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from seqmel.core.distributed import all_gather_with_grad
from seqmel.core.scatter import take_rows
from seqmel.data.sequences.batch import to_device_async
from seqmel.objectives.encoded import Encoded
from seqmel.objectives.losses.pairs import masked_logsumexp
from seqmel.objectives.parts import zero_loss

__all__ = ["CPC"]


class CPC(nn.Module):
    """Contrastive predictive coding (van den Oord, Li, Vinyals, arXiv 1807.03748).

    Source: equations 3 and 4.

    With c_t the state after event t of a view, z_j the embeddings of single events, a linear map
    W_k for each step, and f_k(c, z) = cos(W_k c, V z) / T,

        L_k = mean over t of  -log( exp f_k(c_t, z_(t+k)) / sum_j exp f_k(c_t, z_j) ).

    The loss is the mean of L_k over the steps k = 1 .. K that have events. Cosines divided by a
    temperature replace the paper's dot products, as in later work (Chen et al., arXiv 2002.05709),
    so the scale of the states does not matter. Events j are the targets of all other anchor
    positions of the batch. The same event in another view of the client is not a negative. The
    encoder must be causal: one that sees event t + k has nothing to predict.

    Args:
        event_size: Width of the event encoder.
        state_size: Width of the encoder's states.
        steps: K, the number of prediction steps.
        head_size: Width in which states and events are compared.
        temperature: T.
        negatives: "batch" for all target events, or "others" for those of other clients only.
        max_events: Maximum number of random anchor positions per step and rank. Targets are
            compared with those of all ranks.
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
        self.ahead = nn.ModuleList(
            nn.Linear(state_size, head_size, bias=False) for _ in range(steps)
        )
        self.event_size = event_size
        self.temperature = temperature
        self.others_only = negatives == "others"
        self.max_events = max_events

    def forward(self, encoded: Encoded) -> Tensor:
        """Compute the loss of a batch, in nats per step. It is zero if no view has two events."""
        events = encoded.batch.sequences
        states = encoded.states
        clients = encoded.batch.clients[events.sequence_index]
        ends = events.lengths.cumsum(0).repeat_interleave(events.lengths)
        left = ends - 1 - torch.arange(events.events)  # number of later events in the same view
        costs: list[Tensor] = []
        counted = 0
        for step, ahead in enumerate(self.ahead, 1):
            anchors = (left >= step).nonzero()[:, 0]
            anchors = to_device_async(
                anchors[torch.randperm(len(anchors))[: self.max_events]], events.device
            )
            targets = anchors + step
            queries = all_gather_with_grad(ahead(take_rows(states, anchors)))
            keys = all_gather_with_grad(
                self.to_key(take_rows(states, targets)[:, : self.event_size])
            )
            target_clients = all_gather_with_grad(clients[targets])
            target_times = all_gather_with_grad(events.time[targets])
            cost = self._step(queries, keys, target_clients, target_times)
            costs.append(cost / len(queries) if len(queries) else zero_loss(self))
            counted += len(queries) > 0
        return torch.stack(costs).sum() / max(1, counted)

    def _step(self, queries: Tensor, keys: Tensor, clients: Tensor, times: Tensor) -> Tensor:
        """Sum the costs of (P, D) predictions of (P, D) events with these clients and times."""
        same_client = clients.unsqueeze(0) == clients.unsqueeze(1)
        negative = ~(
            same_client
            if self.others_only
            else same_client & (times.unsqueeze(0) == times.unsqueeze(1))
        )
        with torch.autocast(queries.device.type, enabled=False):
            query = F.normalize(queries.float(), dim=1)
            key = F.normalize(keys.float(), dim=1)
            scores = query @ key.t() / self.temperature
            positive = scores.diagonal()
            return (torch.logaddexp(positive, masked_logsumexp(scores, negative)) - positive).sum()
