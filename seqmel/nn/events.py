"""The event encoder: from the codes, numbers and time of an event to one vector, (E,) -> (E, H)."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from seqmel.core.scatter import sort_by_index, take_rows
from seqmel.data.cycles import CYCLES, cycles_of
from seqmel.data.kinds.base import ColumnKind, RowSums
from seqmel.data.local_time import LocalTime
from seqmel.data.sequences.batch import NO_TIME, SequenceBatch
from seqmel.data.vocabulary import UNSEEN, TimeScale, Vocabulary
from seqmel.nn.holidays import Holidays
from seqmel.nn.products import Linear
from seqmel.nn.sources import Presence, SourceGaps

__all__ = [
    "GAP_CLIP",
    "EventEncoder",
    "TimeFeatures",
    "clipped_gaps",
    "gap_seconds",
    "scaled_gaps",
    "weighted_rows",
]

GAP_CLIP = 5.0
"""Scaled gaps lie in [-GAP_CLIP, GAP_CLIP]."""
_SECOND_US = 1_000_000
_YEAR = next(i for i, cycle in enumerate(CYCLES) if cycle.name == "year")


def weighted_rows(table: Tensor, rows: Tensor, weights: Tensor) -> Tensor:
    """Weighted sums of rows of a table: (R, H), (E, K) int64, (E, K) -> (E, H)."""
    return _WeightedRows.apply(table, rows, weights)


class _WeightedRows(torch.autograd.Function):
    """An embedding bag whose gradient is an embedding bag over the events that used each row.

    On the CPU it is bit-identical to torch's gradient of a weighted bag, and twice as fast. On a
    GPU it is deterministic.
    """

    @staticmethod
    def forward(ctx: Any, table: Tensor, rows: Tensor, weights: Tensor) -> Tensor:
        ctx.save_for_backward(rows, weights)
        ctx.size = len(table)
        return F.embedding_bag(rows, table, mode="sum", per_sample_weights=weights)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        rows, weights = ctx.saved_tensors
        order, begins = sort_by_index(rows.reshape(-1), ctx.size)
        d_table = F.embedding_bag(
            order // rows.shape[1], gradients[0].contiguous(), offsets=begins,
            mode="sum", per_sample_weights=weights.reshape(-1)[order],
        )  # fmt: skip
        return d_table, None, None


def gap_seconds(batch: SequenceBatch) -> Tensor:
    """Return (E,) float64 seconds since the previous event. Zero for a first event."""
    return batch.once("gap_seconds", lambda: _gap_seconds(batch))


def _gap_seconds(batch: SequenceBatch) -> Tensor:
    if batch.is_one:
        before = batch.time[:1]
        if batch.previous_time is not None:
            before = torch.where(batch.previous_time == NO_TIME, before, batch.previous_time)
        return torch.cat([before, batch.time]).diff() / _SECOND_US
    gaps = torch.cat([batch.time[:1], batch.time]).diff()
    if batch.previous_time is None:
        gaps = gaps.index_fill(0, batch.first_events, 0)
    else:
        before = batch.previous_time[(batch.lengths > 0).to(batch.device)]
        since = torch.where(before == NO_TIME, 0, batch.time[batch.first_events] - before)
        gaps = gaps.index_copy(0, batch.first_events, since)
    return gaps.abs() / _SECOND_US  # shuffled views have negative gaps


def scaled_gaps(seconds: Tensor, scale: TimeScale) -> Tensor:
    """Logarithm of gaps (E,) in seconds, on its robust scale: (E,) float32."""
    return (torch.log1p(seconds.float()) - scale.gap_center) / scale.gap_scale


def clipped_gaps(batch: SequenceBatch, scale: TimeScale) -> Tensor:
    """Return (E,) float32, the scaled gap before each event, clipped at `GAP_CLIP`."""
    return batch.once(
        ("clipped_gaps", scale.gap_center, scale.gap_scale),
        lambda: scaled_gaps(gap_seconds(batch), scale).clamp(-GAP_CLIP, GAP_CLIP),
    )


class TimeFeatures(nn.Module):
    """Features of the time of an event: cycles in local time, holidays, and the gap before it.

    Cycles are used as far as the data shows them: the time of day unless all times are whole days,
    the day of the week from two weeks of data on, the day of the month from two months, the day of
    the year from four hundred days. Holidays give three features: whether the day is one, and how
    near the next and the last one are, as 1 / (1 + days), which is 0 without one.
    """

    def __init__(self, scale: TimeScale) -> None:
        super().__init__()
        self.scale = scale
        self.local = LocalTime(scale)
        cycles = cycles_of(scale)
        self.cycles_us = [(cycle.period_us, cycle.harmonics) for cycle in cycles]
        waves = [(i, h + 1) for i, cycle in enumerate(cycles) for h in range(cycle.harmonics)]
        self.output_size = 2 + 2 * len(waves)
        self.holidays = Holidays(scale)
        self.output_size += self.holidays.output_size
        self.periods_us: Tensor  # (C,)
        self.cycle: Tensor  # (W,) which cycle a wave belongs to
        self.harmonic: Tensor  # (W,)
        self.clocks: Tensor  # (C,) the column of each cycle in a batch's clock
        self.register_buffer(
            "clocks", torch.tensor([CYCLES.index(c) for c in cycles], dtype=torch.int64), False
        )
        self.register_buffer(
            "periods_us", torch.tensor([p for p, _ in self.cycles_us], dtype=torch.int64), False
        )
        self.register_buffer("cycle", torch.tensor([i for i, _ in waves], dtype=torch.int64), False)
        self.register_buffer(
            "harmonic", torch.tensor([h for _, h in waves], dtype=torch.float32), False
        )

    def forward(self, batch: SequenceBatch) -> Tensor:
        """Compute the features of the time of each event: (E, output_size)."""
        seconds = gap_seconds(batch)
        gap = clipped_gaps(batch, self.scale)
        clock = (
            batch.time.unsqueeze(1)
            if batch.clock is None
            else batch.clock.index_select(1, self.clocks)
        )
        local = self.local(batch)
        clock = clock if local is None else clock + local.unsqueeze(1)
        turns = (clock % self.periods_us).double().div(self.periods_us).float() * (2 * math.pi)
        angles = turns.index_select(1, self.cycle) * self.harmonic
        waves = torch.stack([angles.sin(), angles.cos()], dim=2).flatten(1)
        parts = [torch.stack([gap, (seconds == 0).float()], dim=1), waves]
        if self.holidays.output_size:
            year = batch.time if batch.clock is None else batch.clock[:, _YEAR]
            parts.append(self.holidays(batch, year if local is None else year + local))
        return torch.cat(parts, dim=1)


class EventEncoder(nn.Module):
    """Embeds all features of an event, sums the embeddings, and applies a small network.

    The kind of a column says which rows of the table its values are: a category is one row, a
    number lies between the rows of two knots (see `seqmel.data.kinds`). So an event is a weighted
    sum of a few rows. The sum equals a linear layer over concatenated features, without a
    bottleneck: a hidden unit can respond to one category alone, and pooling makes it a statistic of
    that category. With several event tables, the columns of other tables add nothing, and the gap
    since the previous event of the same table is a feature too.

    Args:
        vocabulary: Gives the number of codes, and the category that a number is scaled within.
        hidden_size: Width of the embeddings and of the result.
        layers: Number of layers, including the sum.
        dropout: Dropout probability of the hidden layers.
        category_dropout: Probability of replacing a code by "unseen or rare" in training, so that
            this code is trained. Numbers within the category use the curve of that code too.
        noise: Standard deviation of Gaussian noise that training adds to the sum.
    """

    def __init__(
        self,
        vocabulary: Vocabulary,
        *,
        hidden_size: int,
        layers: int = 2,
        dropout: float = 0.0,
        category_dropout: float = 0.01,
        noise: float = 0.0,
    ) -> None:
        super().__init__()
        self.noise = noise
        codes = vocabulary.categorical
        columns_of = {kind: tuple(columns) for kind, columns in vocabulary.by_kind.items()}
        self.kinds = {kind: names for kind, names in columns_of.items() if not kind.is_wide}
        self.wide = {kind: names for kind, names in columns_of.items() if kind.is_wide}
        parts = {
            name: kind.initial_rows(fitted, hidden_size)
            for kind, columns in vocabulary.by_kind.items()
            for name, fitted in columns.items()
        }
        self.table = nn.Parameter(torch.cat([*parts.values()]))
        self.sizes = {name: len(rows) for name, rows in parts.items()}
        ends = itertools.accumulate(self.sizes.values(), initial=0)
        self.begins = dict(zip(parts, ends, strict=False))
        self.names = tuple(codes)
        self.presence = Presence(vocabulary, tuple(parts))
        self.place = {name: i for i, name in enumerate(parts)}
        self.layouts = nn.ModuleDict(
            {
                kind.role: _Buffers(kind.layout(columns, codes, self.begins))
                for kind, columns in vocabulary.by_kind.items()
            }
        )
        self.category_dropout = category_dropout
        self.time = TimeFeatures(vocabulary.time)
        self.source_gaps = None if vocabulary.source is None else SourceGaps(vocabulary)
        beside = 0 if self.source_gaps is None else self.source_gaps.output_size
        self.from_time = nn.Linear(self.time.output_size + beside, hidden_size)
        # In place, because no gradient needs the input.
        steps: list[nn.Module] = [nn.ReLU(inplace=True), nn.Dropout(dropout)]
        for _ in range(layers - 1):
            steps += [Linear(hidden_size, hidden_size), nn.ReLU(inplace=True), nn.Dropout(dropout)]
        self.network = nn.Sequential(*steps)
        self.output_size = hidden_size

    def forward(
        self,
        batch: SequenceBatch,
        *,
        masked: Tensor | None = None,
        mask_embedding: Tensor | None = None,
    ) -> Tensor:
        """Encode events: (E, hidden_size), not negative.

        Args:
            batch: The events.
            masked: (M,) int64, the events whose features are hidden, except the time.
            mask_embedding: (hidden_size,) replaces the features of masked events.
        """
        features = self._features(batch)
        if self.training and self.noise:
            features = features + self.noise * torch.randn_like(features)
        if masked is not None and mask_embedding is not None:
            replacement = mask_embedding.to(features.dtype).expand(len(masked), -1)
            features = features.index_copy(0, masked, replacement)
        return self.network(features.add_(self.from_time(self._time_features(batch, masked))))

    def _time_features(self, batch: SequenceBatch, masked: Tensor | None) -> Tensor:
        """Return (E, T). The gap within a table would tell the table of a masked event."""
        found = self.time(batch)
        if self.source_gaps is None:
            return found
        gaps = self.source_gaps(batch)
        gaps = gaps if masked is None else gaps.index_fill(0, masked, 0.0)
        return torch.cat([found, gaps], dim=1)

    def _features(self, batch: SequenceBatch) -> Tensor:
        """Return (E, H) the sum of the embeddings of all columns that an event has."""
        if self.kinds:
            features = weighted_rows(self.table, *self.rows(batch))
        else:
            features = self.table.new_zeros(batch.events, self.table.shape[1])
        present = self.presence(batch) if self.wide else None
        for kind, names in self.wide.items():
            columns = [batch.columns[name] for name in names]
            layout = self._layout(kind)
            sums = kind.embed_wide(columns, layout, self.table.dtype)
            for name, found in zip(names, sums, strict=True):
                vectors = self._summed(found)
                there = None if present is None else present[:, self.place[name], None]
                features = features + (vectors if there is None else vectors * there)
        return features

    def _summed(self, sums: RowSums) -> Tensor:
        """Return (E, H) the sums of each event."""
        if sums.rows.dim() == 1:
            found = sums.weights @ self.table.index_select(0, sums.rows)
        else:
            found = weighted_rows(self.table, sums.rows, sums.weights)
        return found if sums.index is None else take_rows(found, sums.index)

    def rows(self, batch: SequenceBatch) -> tuple[Tensor, Tensor]:
        """Return (E, K) rows of the table and their weights, for kinds that are not wide.

        Rows of columns that an event does not have weigh zero.
        """
        present = self.presence(batch)
        codes = self._drop_categories(self._codes(batch))
        found = []
        for kind, names in self.kinds.items():
            columns = [batch.columns[name] for name in names]
            layout = self._layout(kind)
            rows, weights = kind.embed(columns, codes, layout, self.table.dtype)
            if present is not None:
                there = present[:, [self.place[name] for name in names]]
                there = there.to(weights.dtype).repeat_interleave(kind.rows_per_value, dim=1)
                weights = weights * there
            found.append((rows, weights))
        return torch.cat([r for r, _ in found], dim=1), torch.cat([w for _, w in found], dim=1)

    def _codes(self, batch: SequenceBatch) -> Tensor:
        """Return (E, K) int64, the codes of all categories."""
        if not self.names:
            return batch.time.new_zeros(batch.events, 0)
        return batch.codes(self.names)

    def _layout(self, kind: ColumnKind[Any]) -> Mapping[str, Tensor]:
        layout = self.layouts[kind.role]
        assert isinstance(layout, _Buffers), "so it was built"
        return layout.tensors()

    def _drop_categories(self, codes: Tensor) -> Tensor:
        if not self.training or not self.category_dropout:
            return codes
        draw = torch.rand(codes.shape[::-1], device=codes.device).t()
        return codes.masked_fill(draw < self.category_dropout, UNSEEN)


class _Buffers(nn.Module):
    """Tensors that move with the encoder and are not saved."""

    def __init__(self, tensors: Mapping[str, Tensor]) -> None:
        super().__init__()
        for name, values in tensors.items():
            self.register_buffer(name, values, persistent=False)

    def tensors(self) -> dict[str, Tensor]:
        """Return the tensors by name."""
        return cast("dict[str, Tensor]", self._buffers)
