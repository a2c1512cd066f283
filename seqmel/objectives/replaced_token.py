"""Replaced-token detection: some features of some events are swapped for those of other events, and each event is asked.

Clark, Luong, Le, Manning: ELECTRA, pre-training text encoders as discriminators rather than generators (ICLR 2020, arXiv
2003.10555, equation of L_Disc): with x' the corrupted events and D the discriminator on the state of each,

    L = mean over all events of the binary cross-entropy between D(x', t) and "event t was changed".

In place of a trained generator, values come from other events of the batch, so that each feature alone is as likely as ever:
what gives a change away is what goes together in an event and what is usual in a sequence. As in the paper an event that
was given the values it had already counts as unchanged. Times stay as they are.
"""

from __future__ import annotations

import dataclasses

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from seqmel.core.distributed import all_reduce_mean
from seqmel.data.sequences.batch import SequenceBatch, to_device_async
from seqmel.objectives.encoded import Encoded
from seqmel.objectives.parts import answer_head, nothing

__all__ = ["ReplacedToken", "corrupted"]


def corrupted(events: SequenceBatch, share: float, feature_fraction: float) -> tuple[SequenceBatch, Tensor]:
    """A batch with swapped features, and (E,) bool: which events are not what they were.

    Args:
        events: two events at least; they are left as they are.
        share: share of the events that get values of another one; at least one does.
        feature_fraction: chance of each feature of such an event to be swapped; one always is.
    """
    count = max(1, round(share * events.events))
    chosen = torch.randperm(events.events)[:count]
    donors = (chosen + torch.randint(1, events.events, (count,))) % events.events  # any event but itself
    swapped = torch.rand(count, len(events.columns)) < feature_fraction
    swapped[torch.arange(count), torch.randint(len(events.columns), (count,))] = True
    changed = torch.zeros(events.events, dtype=torch.bool, device=events.device)
    columns = {}
    for i, (name, values) in enumerate(events.columns.items()):
        into, giver = (to_device_async(x[swapped[:, i]], events.device) for x in (chosen, donors))
        columns[name] = values.index_copy(0, into, values.index_select(0, giver))
        same = (columns[name] == values) | (columns[name].isnan() & values.isnan())
        changed |= ~same
    return dataclasses.replace(events, columns=columns), changed


class ReplacedToken(nn.Module):
    """See the module's text.

    Args:
        state_size: width of the encoder's states.
        share: share of the events that are corrupted.
        feature_fraction: chance of each feature of such an event to be swapped.
        head_size: width of the discriminator's inner layer.
    """

    def __init__(
        self, *, state_size: int, corrupt_ratio: float = 0.15, feature_fraction: float = 0.5, head_size: int = 256
    ) -> None:
        super().__init__()
        self.head = answer_head(state_size, head_size)
        self.corrupt_ratio = corrupt_ratio
        self.feature_fraction = feature_fraction

    def forward(self, encoded: Encoded) -> Tensor:
        """The loss of a batch, a scalar in nats an event; zero where there are not two events."""
        if encoded.batch.sequences.events < 2:
            return all_reduce_mean(nothing(self), 0)
        events, changed = corrupted(encoded.batch.sequences, self.corrupt_ratio, self.feature_fraction)
        scores = self.head(encoded.encoder.states(events))[:, 0].float()
        costs = F.binary_cross_entropy_with_logits(scores, changed.float(), reduction="sum")
        return all_reduce_mean(costs, events.events)
