"""The event encoder: from the codes, numbers and time of an event to one vector, (E,) -> (E, H)."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from seqmel.core.scatter import sort_by_index
from seqmel.data.cycles import CYCLES, cycles_of
from seqmel.data.sequences.batch import NO_TIME, SequenceBatch
from seqmel.data.vocabulary import UNSEEN, TimeScale, Vocabulary
from seqmel.nn.products import Linear
from seqmel.nn.sources import Presence, SourceGaps

__all__ = ["EventEncoder", "TimeFeatures", "scaled_gaps", "weighted_rows"]

_KNOTS = (-10.0, -4.0, -2.0, -1.0, -0.5, 0.0, 0.5, 1.0, 2.0, 4.0, 10.0)
_NUMBER_ROWS = len(_KNOTS) + 1  # one more for missing numbers
_SECOND_US = 1_000_000


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


def scaled_gaps(seconds: Tensor, scale: TimeScale) -> Tensor:
    """Logarithm of gaps (E,) in seconds, on its robust scale: (E,) float32."""
    return (torch.log1p(seconds.float()) - scale.gap_center) / scale.gap_scale


class TimeFeatures(nn.Module):
    """Features of the time of an event: cycles, and the gap before it.

    Cycles are used as far as the data shows them: the time of day unless all times are whole days,
    the day of the week from two weeks of data on, the day of the month from two months, the day of
    the year from four hundred days.
    """

    def __init__(self, scale: TimeScale) -> None:
        super().__init__()
        self.scale = scale
        cycles = cycles_of(scale)
        self.cycles_us = [(cycle.period_us, cycle.harmonics) for cycle in cycles]
        waves = [(i, h + 1) for i, cycle in enumerate(cycles) for h in range(cycle.harmonics)]
        self.output_size = 2 + 2 * len(waves)
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
        seconds = self._gaps(batch).abs() / _SECOND_US  # shuffled views have negative gaps
        gap = scaled_gaps(seconds, self.scale)
        clock = (
            batch.time.unsqueeze(1)
            if batch.clock is None
            else batch.clock.index_select(1, self.clocks)
        )
        turns = (clock % self.periods_us).double().div(self.periods_us).float() * (2 * math.pi)
        angles = turns.index_select(1, self.cycle) * self.harmonic
        waves = torch.stack([angles.sin(), angles.cos()], dim=2).flatten(1)
        return torch.cat(
            [torch.stack([gap.clamp(-5, 5), (seconds == 0).float()], dim=1), waves], dim=1
        )

    def gap(self, batch: SequenceBatch) -> Tensor:
        """Compute the scaled logarithm of the gap before each event: (E,)."""
        return scaled_gaps(self._gaps(batch).abs() / _SECOND_US, self.scale).clamp(-5, 5)

    @staticmethod
    def _gaps(batch: SequenceBatch) -> Tensor:
        """Return (E,) microseconds since the previous event. Zero for a first event."""
        gaps = torch.cat([batch.time[:1], batch.time]).diff()
        if batch.previous_time is None:
            return gaps.index_fill(0, batch.first_events, 0)
        before = batch.previous_time[(batch.lengths > 0).to(batch.device)]
        since = torch.where(before == NO_TIME, 0, batch.time[batch.first_events] - before)
        return gaps.index_copy(0, batch.first_events, since)


class EventEncoder(nn.Module):
    """Embeds all features of an event, sums the embeddings, and applies a small network.

    A category is a row of the table. A number is interpolated between the rows of fixed knots on
    its robust scale (piecewise linear encoding, Gorishniy et al., arXiv 2203.05556). A number that
    is scaled within a category has one curve per category. Each curve starts as a straight line in
    a random direction. A missing number (NaN) has a row of its own. So an event is a weighted sum
    of a few rows. The sum equals a linear layer over concatenated features, without a bottleneck: a
    hidden unit can respond to one category alone, and pooling makes it a statistic of that
    category. With several event tables, the columns of other tables add nothing, and the gap since
    the previous event of the same table is a feature too.

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
        sizes = {name: codes.size for name, codes in vocabulary.categorical.items()}
        curves = {
            name: sizes[scales.by] if scales.by else 1
            for name, scales in vocabulary.numeric.items()
        }
        parts = [torch.randn(size, hidden_size) for size in sizes.values()]
        parts += [_initial_curves(count, hidden_size) for count in curves.values()]
        self.table = nn.Parameter(torch.cat(parts))
        begins = [0]
        for part in parts:
            begins.append(begins[-1] + len(part))
        self.begins = dict(zip((*sizes, *curves), begins[:-1], strict=True))
        self.names = tuple(sizes)
        self.presence = Presence(vocabulary, (*sizes, *curves))
        self.by = {name: scales.by for name, scales in vocabulary.numeric.items()}
        numbers: dict[str, list[int]] = {  # of all categories and numbers, for tensor operations
            "code_begins": [self.begins[name] for name in self.names],
            "curve_begins": [self.begins[name] for name in self.by],
            "curve_of": [self.names.index(by) if by else 0 for by in self.by.values()],
            "curve_rows": [_NUMBER_ROWS if by else 0 for by in self.by.values()],
        }
        self.code_begins: Tensor  # (categories,)
        self.curve_begins: Tensor  # (numbers,) the first row of the first curve of each number
        self.curve_of: Tensor  # (numbers,) the index of the category that a number is scaled within
        self.curve_rows: Tensor  # (numbers,) rows per curve of a number; 0 if it has only one
        for name, values in numbers.items():
            self.register_buffer(name, torch.tensor(values, dtype=torch.int64), False)
        self.category_dropout = category_dropout
        self.knots: Tensor
        self.register_buffer("knots", torch.tensor(_KNOTS), persistent=False)
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
        rows, weights = self.rows(batch)
        features = weighted_rows(self.table, rows, weights)
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

    def rows(self, batch: SequenceBatch) -> tuple[Tensor, Tensor]:
        """Return (E, K) rows of the table and their weights: one per category, two per number.

        Rows of columns that an event does not have weigh zero.
        """
        present = self.presence(batch)
        codes = self._drop_categories(
            _stack_columns([batch.columns[name] for name in self.names], batch, torch.int32).long()
        )
        numbers = _stack_columns([batch.columns[name] for name in self.by], batch, torch.float32)
        left, right, position = self._interpolate(numbers)
        curve = (
            self.curve_begins + codes.index_select(1, self.curve_of) * self.curve_rows
            if self.names
            else self.curve_begins
        )
        ends = torch.stack([curve + left, curve + right], dim=2).flatten(1)
        weights = [
            torch.ones_like(codes, dtype=position.dtype),
            torch.stack([1 - position, position], dim=2).flatten(1),
        ]
        if present is not None:
            present = present.to(position.dtype)
            of_codes, of_numbers = present.split([len(self.names), len(self.by)], dim=1)
            weights = [weights[0] * of_codes, weights[1] * of_numbers.repeat_interleave(2, dim=1)]
        return torch.cat([codes + self.code_begins, ends], dim=1), torch.cat(weights, dim=1)

    def _drop_categories(self, codes: Tensor) -> Tensor:
        if not self.training or not self.category_dropout:
            return codes
        draw = torch.rand(codes.shape[::-1], device=codes.device).t()
        return codes.masked_fill(draw < self.category_dropout, UNSEEN)

    def _interpolate(self, numbers: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return the knots left and right of each number, and its relative position between them.

        A missing number gets the last row twice.
        """
        missing = numbers.isnan()
        known = numbers.masked_fill(missing, 0.0)
        left = torch.bucketize(known, self.knots[1:-1], right=True)
        position = (known - self.knots[left]) / (self.knots[left + 1] - self.knots[left])
        last = _NUMBER_ROWS - 1
        return (
            left.masked_fill(missing, last),
            (left + 1).masked_fill(missing, last),
            position.to(self.table.dtype),
        )


def _stack_columns(columns: list[Tensor], batch: SequenceBatch, dtype: torch.dtype) -> Tensor:
    """Stack columns to (E, C), also where there are none."""
    return (
        torch.stack(columns, dim=1)
        if columns
        else batch.time.new_zeros(batch.events, 0, dtype=dtype)
    )


def _initial_curves(count: int, size: int) -> Tensor:
    """Return (count * _NUMBER_ROWS, size), a random straight line per curve and a row for NaN."""
    line = torch.randn(count, 1, size) * torch.tensor(_KNOTS).clamp(-4, 4).view(1, -1, 1)
    return torch.cat([line, torch.randn(count, 1, size)], dim=1).view(-1, size)
