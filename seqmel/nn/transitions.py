"""Transitions: for each pair of category values, whether a comes before b more often than after it.

With N_ab the number of times that value b directly follows value a in a sequence of n events,

    A_ab = (N_ab - N_ba) / sqrt(n),        a < b.

A bag of events does not contain these K (K - 1) / 2 numbers of K values. They are the antisymmetric
second level of a path signature (Lyons: Rough paths, signatures and the modelling of functions on
streams, arXiv 1405.4537), restricted to neighbouring events. So many columns would dilute the
others, so they are reduced without labels to their first principal components over the training
clients.

A component is linear in N. So each pair of neighbours adds one row of a table, and parts of a
sequence can be added.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from seqmel.data.sequences.batch import SequenceBatch
from seqmel.nn.segments import final_rows, first_rows, segment_sum, where_some
from seqmel.nn.sources import Kind, slots_of_events

__all__ = ["COMPONENTS", "Transitions"]

COMPONENTS = 16


class Transitions(nn.Module):
    """Components of the transitions of each sequence, zeros before they are fitted.

    Args:
        column: The categorical column, or the kinds of several event tables.
        slots: Number of its codes with a slot, at least two. The others share that of the unseen.
    """

    table: Tensor

    def __init__(self, column: Kind, slots: int) -> None:
        super().__init__()
        self.column = column
        self.slots = slots
        self.output_size = min(COMPONENTS, slots * (slots - 1) // 2)
        self.register_buffer("table", torch.zeros(slots * slots, self.output_size))

    def kinds(self, batch: SequenceBatch) -> Tensor:
        """Return (E,) int64, the slot of each event."""
        return slots_of_events(batch, self.column, self.slots)

    def antisymmetric(self, batch: SequenceBatch) -> Tensor:
        """Return (B, slots * (slots - 1) / 2), the A_ab of each sequence."""
        kinds = self.kinds(batch)
        size = self.slots
        inner = (batch.positions() > 0).nonzero()[:, 0]
        cell = (batch.sequence_index[inner] * size + kinds[inner - 1]) * size + kinds[inner]
        counts = (
            torch.bincount(cell, minlength=len(batch) * size * size)
            .view(len(batch), size, size)
            .double()
        )
        first, second = torch.triu_indices(size, size, 1)
        away = counts - counts.transpose(1, 2)
        return away[:, first, second] / batch.lengths.clamp(min=1).sqrt().unsqueeze(1)

    def set_components(self, components: Tensor) -> None:
        """Set the components, (slots * (slots - 1) / 2, output_size)."""
        first, second = torch.triu_indices(self.slots, self.slots, 1)
        table = torch.zeros(self.slots, self.slots, self.output_size, dtype=components.dtype)
        table[first, second], table[second, first] = components, -components
        self.table.copy_(table.flatten(0, 1))

    def summarise(self, batch: SequenceBatch) -> dict[str, Tensor]:
        """Summarise each sequence, (B, ...) float32 each: the sum, and the first and last slot."""
        kinds = self.kinds(batch)
        before = torch.cat([kinds[:1], kinds[:-1]])
        # A first event is paired with itself, which has a row of zeros.
        if not batch.is_one:
            before = torch.where(batch.positions() > 0, before, kinds)
        rows = self.table.index_select(0, before * self.slots + kinds)
        return {
            "sum": segment_sum(rows, batch),
            "first": first_rows(kinds, batch).float().unsqueeze(1),
            "final": final_rows(kinds, batch).float().unsqueeze(1),
        }

    def read(self, summary: dict[str, Tensor], count: Tensor) -> Tensor:
        """Compute (B, output_size) from summaries of sequences with `count` (B, 1) events."""
        return summary["sum"] / count.clamp(min=1).sqrt()

    def merge(
        self, earlier: dict[str, Tensor], later: dict[str, Tensor], before: Tensor, new: Tensor
    ) -> dict[str, Tensor]:
        """Merge summaries of consecutive parts with `before` and `new` (B, 1) events."""
        between = (earlier["final"] * self.slots + later["first"]).long()[:, 0]
        total = earlier["sum"] + later["sum"]
        joined = total + self.table.index_select(0, between)
        return {
            "sum": where_some(torch.minimum(before, new), joined, total),
            "first": where_some(before, earlier["first"], later["first"]),
            "final": where_some(new, later["final"], earlier["final"]),
        }
