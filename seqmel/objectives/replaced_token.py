"""Replaced-token detection: find the events whose features were replaced."""

from __future__ import annotations

import dataclasses

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from seqmel.core.distributed import all_reduce_mean
from seqmel.data.sequences.batch import SequenceBatch, to_device_async
from seqmel.objectives.encoded import Encoded
from seqmel.objectives.parts import mlp_head, zero_loss

__all__ = ["ReplacedToken", "corrupted"]


def corrupted(
    events: SequenceBatch,
    corrupt_ratio: float,
    feature_fraction: float,
    *,
    source: str | None = None,
) -> tuple[SequenceBatch, Tensor]:
    """Replace features of some events by those of other events.

    Args:
        events: At least two events. They are not modified.
        corrupt_ratio: Fraction of the events that get features of another event, at least one
            event.
        feature_fraction: Probability that a feature of such an event is replaced. One always is.
        source: The category that names the table of an event, if there are several. Other events of
            the same table are the donors, and the table is never replaced.

    Returns:
        The corrupted batch, and (E,) bool: which events have changed.
    """
    count = max(1, round(corrupt_ratio * events.events))
    chosen = torch.randperm(events.events)[:count]
    # An offset below E never gives the event itself.
    donors = (
        (chosen + torch.randint(1, events.events, (count,))) % events.events
        if source is None
        else _of_same_table(events.columns[source].cpu(), chosen)
    )
    names = [name for name in events.columns if name != source]
    replaced = torch.rand(count, len(names)) < feature_fraction
    replaced[torch.arange(count), torch.randint(len(names), (count,))] = True
    changed = torch.zeros(events.events, dtype=torch.bool, device=events.device)
    columns = dict(events.columns)
    for i, name in enumerate(names):
        values = events.columns[name]
        receivers = to_device_async(chosen[replaced[:, i]], events.device)
        givers = to_device_async(donors[replaced[:, i]], events.device)
        columns[name] = values.index_copy(0, receivers, values.index_select(0, givers))
        same = (columns[name] == values) | (columns[name].isnan() & values.isnan())
        changed |= ~(same if same.dim() == 1 else same.all(1))
    return dataclasses.replace(events, columns=columns), changed


def _of_same_table(codes: Tensor, chosen: Tensor) -> Tensor:
    """Return (n,) a random other event of the table of each chosen one; itself if there is none.

    Args:
        codes: (E,) the table of each event.
        chosen: (n,) positions of events.
    """
    order = torch.argsort(codes, stable=True)
    place = torch.empty_like(order).scatter_(0, order, torch.arange(len(order)))
    counts = torch.bincount(codes.long())
    begins = (counts.cumsum(0) - counts)[codes[chosen].long()]
    size = counts[codes[chosen].long()]
    step = 1 + (torch.rand(len(chosen)) * (size - 1)).long().clamp(max=size - 2)
    return order[begins + (place[chosen] - begins + step) % size]


class ReplacedToken(nn.Module):
    """Detects corrupted events (Clark, Luong, Le, Manning: ELECTRA, ICLR 2020, arXiv 2003.10555).

    With x' the corrupted events and D the discriminator on the state of each (equation of L_Disc),

        L = mean over all events of the binary cross-entropy between D(x', t) and "event t changed".

    There is no trained generator. Values come from other events of the batch, so each feature has
    its usual distribution, and only combinations within an event or a sequence reveal a change. As
    in the paper, an event that gets its own values counts as unchanged. Times are never replaced.

    Args:
        state_size: Width of the encoder's states.
        corrupt_ratio: Fraction of the events that are corrupted.
        feature_fraction: Probability that a feature of such an event is replaced.
        head_size: Width of the discriminator's hidden layer.
        source: The category that names the table of an event, if there are several.
    """

    def __init__(
        self,
        *,
        state_size: int,
        corrupt_ratio: float = 0.15,
        feature_fraction: float = 0.5,
        head_size: int = 256,
        source: str | None = None,
    ) -> None:
        super().__init__()
        self.source = source
        self.head = mlp_head(state_size, head_size)
        self.corrupt_ratio = corrupt_ratio
        self.feature_fraction = feature_fraction

    def forward(self, encoded: Encoded) -> Tensor:
        """Compute the loss of a batch, in nats per event. It is zero with fewer than two events."""
        if encoded.batch.sequences.events < 2:
            return all_reduce_mean(zero_loss(self), 0)
        events, changed = corrupted(
            encoded.batch.sequences,
            self.corrupt_ratio,
            self.feature_fraction,
            source=self.source,
        )
        scores = self.head(encoded.encoder.states(events))[:, 0].float()
        costs = F.binary_cross_entropy_with_logits(scores, changed.float(), reduction="sum")
        return all_reduce_mean(costs, events.events)
