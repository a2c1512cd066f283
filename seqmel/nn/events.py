"""The event encoder: from the columns of an event to one vector, (E,) codes, numbers and times -> (E, H)."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from seqmel.core.scatter import sort_by_index
from seqmel.data.sequences.batch import NO_TIME, SequenceBatch
from seqmel.data.vocabulary import UNSEEN, TimeScale, Vocabulary
from seqmel.nn.products import Linear

__all__ = ["EventEncoder", "TimeFeatures", "scaled_gaps", "weighted_rows"]

_KNOTS = (-10.0, -4.0, -2.0, -1.0, -0.5, 0.0, 0.5, 1.0, 2.0, 4.0, 10.0)
_NUMBER_ROWS = len(_KNOTS) + 1  # one more for the missing
_SECOND_US = 1_000_000
_DAY_US = 86_400 * _SECOND_US


def weighted_rows(table: Tensor, rows: Tensor, weights: Tensor) -> Tensor:
    """Weighted sums of rows of a table: (R, H), (E, K) int64, (E, K) -> (E, H)."""
    return _WeightedRows.apply(table, rows, weights)


class _WeightedRows(torch.autograd.Function):
    """An embedding bag whose gradient is an embedding bag too: each row of the table sums the events that used it.

    Twice as fast on the CPU as torch's own gradient of a bag with weights, to the same bits; in one order on a GPU.
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
    """(E,) float32: the logarithm of gaps, (E,) seconds, on its robust scale."""
    return (torch.log1p(seconds.float()) - scale.gap_center) / scale.gap_scale


class TimeFeatures(nn.Module):
    """What the time of an event tells: cycles as sine and cosine, and the gap since the event before it in the view.

    Cycles are used as far as the data shows them: the time of day unless all times are whole days, the day of the week
    from two weeks on, of the month from two months, of the year from four hundred days.
    """

    def __init__(self, scale: TimeScale) -> None:
        super().__init__()
        self.scale = scale
        self.cycles_us: list[tuple[int, int]] = []  # (period, harmonics)
        if not scale.daily:
            self.cycles_us.append((_DAY_US, 3))
        for days, period, harmonics in ((14, 7.0, 3), (60, 30.436875, 2), (400, 365.2425, 2)):
            if scale.span_days >= days:
                self.cycles_us.append((round(period * _DAY_US), harmonics))
        waves = [(i, h + 1) for i, (_, harmonics) in enumerate(self.cycles_us) for h in range(harmonics)]
        self.output_size = 2 + 2 * len(waves)
        self.periods_us: Tensor  # (C,)
        self.cycle: Tensor  # (W,) which cycle a wave belongs to
        self.harmonic: Tensor  # (W,)
        self.register_buffer("periods_us", torch.tensor([p for p, _ in self.cycles_us], dtype=torch.int64), False)
        self.register_buffer("cycle", torch.tensor([i for i, _ in waves], dtype=torch.int64), False)
        self.register_buffer("harmonic", torch.tensor([h for _, h in waves], dtype=torch.float32), False)

    def forward(self, batch: SequenceBatch) -> Tensor:
        """(E, output_size)."""
        seconds = self._gaps(batch).abs() / _SECOND_US  # shuffled views go back in time
        gap = scaled_gaps(seconds, self.scale)
        turns = (batch.time.unsqueeze(1) % self.periods_us).double().div(self.periods_us).float() * (2 * math.pi)
        angles = turns.index_select(1, self.cycle) * self.harmonic
        waves = torch.stack([angles.sin(), angles.cos()], dim=2).flatten(1)
        return torch.cat([torch.stack([gap.clamp(-5, 5), (seconds == 0).float()], dim=1), waves], dim=1)

    @staticmethod
    def _gaps(batch: SequenceBatch) -> Tensor:
        """(E,) microseconds; zero for a first event that none is known to come before."""
        gaps = torch.cat([batch.time[:1], batch.time]).diff()
        if batch.previous_time is None:
            return gaps.index_fill(0, batch.first_events, 0)
        before = batch.previous_time[(batch.lengths > 0).to(batch.device)]
        since = torch.where(before == NO_TIME, 0, batch.time[batch.first_events] - before)
        return gaps.index_copy(0, batch.first_events, since)


class EventEncoder(nn.Module):
    """All features of an event, embedded at full width and added up, then a small network: -> (E, hidden_size).

    A category is a row of the table. A number is interpolated between the rows of fixed knots on its robust scale
    (piecewise linear encoding, Gorishniy et al., arXiv 2203.05556), with a curve for each category where it is scaled
    within one; it begins as a straight line in a random direction, and a missing number (NaN) has a row of its own. So
    an event is a weighted sum of a few rows. The sum is what a linear layer makes of features side by side, without a
    bottleneck in between: a hidden unit can answer to one category alone, and pooled over a sequence it is then a
    statistic of that category.

    Args:
        vocabulary: gives the number of codes and which number belongs to which category.
        hidden_size: width of the embeddings and of the result.
        layers: how many layers the network has, the sum counted.
        dropout: share of the network's inner values that training sets to zero.
        category_dropout: share of the codes that training hides as "unseen or rare", so that this code is learnt; a number
            within a hidden category is on the curve of that code too.
        noise: standard deviation of the Gaussian noise that training adds to the sum of the features.
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
        curves = {name: sizes[scales.by] if scales.by else 1 for name, scales in vocabulary.numeric.items()}
        parts = [torch.randn(size, hidden_size) for size in sizes.values()]
        parts += [_curves(count, hidden_size) for count in curves.values()]
        self.table = nn.Parameter(torch.cat(parts))
        begins = [0]
        for part in parts:
            begins.append(begins[-1] + len(part))
        self.begins = dict(zip((*sizes, *curves), begins[:-1], strict=True))
        self.names = tuple(sizes)
        self.by = {name: scales.by for name, scales in vocabulary.numeric.items()}
        numbers: dict[str, list[int]] = {  # of each category and number, as tensors
            "code_begins": [self.begins[name] for name in self.names],
            "curve_begins": [self.begins[name] for name in self.by],
            "curve_of": [self.names.index(by) if by else 0 for by in self.by.values()],
            "curve_rows": [_NUMBER_ROWS if by else 0 for by in self.by.values()],
        }
        self.code_begins: Tensor  # (categories,)
        self.curve_begins: Tensor  # (numbers,) where the curve of each, or the first of its curves, begins
        self.curve_of: Tensor  # (numbers,) the place among the categories of that which a number lies within
        self.curve_rows: Tensor  # (numbers,) how far apart the curves of a number are; 0 where it has one
        for name, values in numbers.items():
            self.register_buffer(name, torch.tensor(values, dtype=torch.int64), False)
        self.category_dropout = category_dropout
        self.knots: Tensor
        self.register_buffer("knots", torch.tensor(_KNOTS), persistent=False)
        self.time = TimeFeatures(vocabulary.time)
        self.from_time = nn.Linear(self.time.output_size, hidden_size)
        steps: list[nn.Module] = [nn.ReLU(inplace=True), nn.Dropout(dropout)]  # no gradient needs what was there
        for _ in range(layers - 1):
            steps += [Linear(hidden_size, hidden_size), nn.ReLU(inplace=True), nn.Dropout(dropout)]
        self.network = nn.Sequential(*steps)
        self.output_size = hidden_size

    def forward(self, batch: SequenceBatch, *, hidden: Tensor | None = None, stand_in: Tensor | None = None) -> Tensor:
        """(E, hidden_size), not negative.

        Args:
            batch: the events.
            hidden: int64, numbers of events of which only the time is seen.
            stand_in: (hidden_size,) what is seen of these instead.
        """
        rows, weights = self.rows(batch)
        features = weighted_rows(self.table, rows, weights)
        if self.training and self.noise:
            features = features + self.noise * torch.randn_like(features)
        if hidden is not None and stand_in is not None:
            features = features.index_copy(0, hidden, stand_in.to(features.dtype).expand(len(hidden), -1))
        return self.network(features.add_(self.from_time(self.time(batch))))

    def rows(self, batch: SequenceBatch) -> tuple[Tensor, Tensor]:
        """(E, K) rows of the table and their weights: one a category, two a number."""
        codes = self._hidden(_beside([batch.columns[name] for name in self.names], batch, torch.int32).long())
        numbers = _beside([batch.columns[name] for name in self.by], batch, torch.float32)
        left, right, share = self._between(numbers)
        curve = (
            self.curve_begins + codes.index_select(1, self.curve_of) * self.curve_rows
            if self.names
            else self.curve_begins
        )
        ends = torch.stack([curve + left, curve + right], dim=2).flatten(1)
        weights = [torch.ones_like(codes, dtype=share.dtype), torch.stack([1 - share, share], dim=2).flatten(1)]
        return torch.cat([codes + self.code_begins, ends], dim=1), torch.cat(weights, dim=1)

    def _hidden(self, codes: Tensor) -> Tensor:
        if not self.training or not self.category_dropout:
            return codes
        chance = torch.rand(codes.shape[::-1], device=codes.device).t()
        return codes.masked_fill(chance < self.category_dropout, UNSEEN)

    def _between(self, numbers: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The knots left and right of each number, and its share of the way; twice the last row for a missing one."""
        missing = numbers.isnan()
        known = numbers.masked_fill(missing, 0.0)
        left = torch.bucketize(known, self.knots[1:-1], right=True)
        share = (known - self.knots[left]) / (self.knots[left + 1] - self.knots[left])
        last = _NUMBER_ROWS - 1
        return left.masked_fill(missing, last), (left + 1).masked_fill(missing, last), share.to(self.table.dtype)


def _beside(columns: list[Tensor], batch: SequenceBatch, dtype: torch.dtype) -> Tensor:
    """(E, C): columns side by side; of none, nothing."""
    return torch.stack(columns, dim=1) if columns else batch.time.new_zeros(batch.events, 0, dtype=dtype)


def _curves(count: int, size: int) -> Tensor:
    """(count * _NUMBER_ROWS, size): for each curve a straight line in a random direction, and a row for the missing."""
    line = torch.randn(count, 1, size) * torch.tensor(_KNOTS).clamp(-4, 4).view(1, -1, 1)
    return torch.cat([line, torch.randn(count, 1, size)], dim=1).view(-1, size)
