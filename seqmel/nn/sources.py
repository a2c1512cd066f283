"""What the network knows of several event tables: absent columns, gaps within a table, kinds.

An event has the columns of its own table only. The others are absent, which is not the same as
null: an absent column adds nothing to the encoding of the event, and no objective predicts it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import torch
from torch import Tensor, nn

from seqmel.data.sequences.batch import NO_TIME, SequenceBatch
from seqmel.data.vocabulary import UNSEEN, Vocabulary

__all__ = [
    "Kind",
    "Presence",
    "SourceGaps",
    "SourceKinds",
    "cells_of_events",
    "last_by_source",
    "latest_of_slots",
    "slots_of_events",
]

_SECOND_US = 1_000_000


class Presence(nn.Module):
    """Which of some columns an event has, by the table that it comes from.

    Args:
        vocabulary: The vocabulary.
        names: The columns. Names of no column, such as the hour, are present in every event.
    """

    table: Tensor | None

    def __init__(self, vocabulary: Vocabulary, names: Sequence[str]) -> None:
        super().__init__()
        self.source = vocabulary.source
        self.register_buffer("table", _presence_table(vocabulary, names), persistent=False)

    def forward(self, batch: SequenceBatch) -> Tensor | None:
        """Return (E, names) float32, 1 for present and 0 for absent; None if all are present."""
        if self.table is None or self.source is None:
            return None
        return self.table.index_select(0, batch.columns[self.source])


def _presence_table(vocabulary: Vocabulary, names: Sequence[str]) -> Tensor | None:
    """Return (codes of the source, names) float32; None if every event has every column."""
    if vocabulary.source is None:
        return None
    columns = vocabulary.features
    tables = [vocabulary.present_in(name) if name in columns else None for name in names]
    if all(codes is None for codes in tables):
        return None
    size = vocabulary.categorical[vocabulary.source].size
    rows = [[float(codes is None or i in codes) for codes in tables] for i in range(size)]
    return torch.tensor(rows)


class SourceGaps(nn.Module):
    """The gap since the previous event of the same table, on the scale of the table.

    Args:
        vocabulary: Of several tables.
    """

    output_size = 2

    def __init__(self, vocabulary: Vocabulary) -> None:
        super().__init__()
        assert vocabulary.source is not None, "there are several tables"
        self.source = vocabulary.source
        self.size = vocabulary.categorical[self.source].size
        scales = [[0.0, 1.0]] * self.size
        for name, table in vocabulary.sources.items():
            scales[vocabulary.source_code(name)] = [table.gap_center, table.gap_scale]
        self.scales: Tensor  # (codes, 2): center and scale
        self.register_buffer("scales", torch.tensor(scales), persistent=False)

    def forward(self, batch: SequenceBatch) -> Tensor:
        """Compute (E, 2): the scaled logarithm of the gap, and 1 if the gap is zero or missing."""
        source = batch.columns[self.source].long()
        seconds = self._gaps(batch, source).abs() / _SECOND_US  # shuffled views have negative gaps
        center, scale = self.scales.index_select(0, source).unbind(1)
        gap = (torch.log1p(seconds.float()) - center) / scale
        return torch.stack([gap.clamp(-5, 5), (seconds == 0).float()], dim=1)

    def _gaps(self, batch: SequenceBatch, source: Tensor) -> Tensor:
        """Return (E,) microseconds since the previous event of the table; zero for a first one."""
        group = batch.sequence_index * self.size + source
        order = torch.argsort(group, stable=True)
        sorted_group = group[order]
        times = batch.time[order]
        before = torch.cat([times[:1], times[:-1]])
        first = torch.cat([sorted_group.new_ones(1), sorted_group.diff()]) != 0
        first = first[: len(times)]
        earlier = times
        if batch.previous_source_times is not None:
            known = batch.previous_source_times.flatten().index_select(0, sorted_group)
            earlier = torch.where(known == NO_TIME, times, known)
        gaps = times - torch.where(first, earlier, before)
        return torch.empty_like(gaps).scatter_(0, order, gaps)


def last_by_source(batch: SequenceBatch, source: str, size: int) -> Tensor:
    """Return (B, size) int64, the time of the last event of each table, or `NO_TIME`.

    Args:
        batch: The events.
        source: The category that names the table.
        size: Its number of codes.
    """
    group = batch.sequence_index * size + batch.columns[source].long()
    found = torch.full((len(batch) * size,), NO_TIME, device=batch.device)
    return found.scatter_reduce(0, group, batch.time, "amax").view(len(batch), size)


@dataclass(frozen=True)
class SourceKinds:
    """The kinds of events of several tables: the values of one category within each table.

    Attributes:
        source: The category that names the table.
        tables: Of each table its code, its category (None for one kind), its first slot, and its
            number of slots. Rarer values share the slot of the unseen.
    """

    source: str
    tables: tuple[tuple[int, str | None, int, int], ...]

    @property
    def slots(self) -> int:
        """The number of kinds."""
        return sum(size for *_, size in self.tables)

    @property
    def columns(self) -> tuple[str, ...]:
        """The categories."""
        return tuple(column for _, column, *_ in self.tables if column is not None)

    def slots_of_events(self, batch: SequenceBatch) -> Tensor:
        """Return (E,) int64, the slot of each event."""
        source = batch.columns[self.source]
        found = torch.zeros_like(source, dtype=torch.int64)
        for code, column, begin, size in self.tables:
            slot = torch.full_like(found, begin)
            if column is not None:
                slot = slot + _within(batch.columns[column].long(), size)
            found = torch.where(source == code, slot, found)
        return found


Kind: TypeAlias = str | SourceKinds
"""What the kind of an event is: the value of a category, or that within its table."""


def slots_of_events(batch: SequenceBatch, kind: Kind, slots: int) -> Tensor:
    """Return (E,) int64, the slot of each event. Codes without a slot have that of the unseen."""

    def compute() -> Tensor:
        if isinstance(kind, SourceKinds):
            return kind.slots_of_events(batch)
        return _within(batch.columns[kind].long(), slots)

    return batch.once(("slots", kind, slots), compute)


def cells_of_events(batch: SequenceBatch, kind: Kind, slots: int) -> Tensor:
    """Return (E,) int64, the sequence times `slots` plus the slot of each event."""
    slot = slots_of_events(batch, kind, slots)
    if batch.is_one:
        return slot
    return batch.once(("cells", kind, slots), lambda: batch.sequence_index * slots + slot)


def latest_of_slots(batch: SequenceBatch, kind: Kind, slots: int) -> Tensor:
    """Return (B, slots) int64, the last event of each slot; -1 for none."""

    def compute() -> Tensor:
        cell = cells_of_events(batch, kind, slots)
        none = torch.full((len(batch) * slots,), -1, device=batch.device)
        rows = torch.arange(batch.events, device=batch.device)
        return none.scatter_reduce(0, cell, rows, "amax").view(len(batch), slots)

    return batch.once(("latest", kind, slots), compute)


def _within(code: Tensor, slots: int) -> Tensor:
    return torch.where(code < slots, code, UNSEEN)
