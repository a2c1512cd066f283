"""The event encoder: from the columns of an event to one vector, (E,) codes, numbers and times -> (E, H)."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from seqmel.data.batch import SequenceBatch
from seqmel.data.vocabulary import UNSEEN, TimeScale, Vocabulary

__all__ = ["CategoryEmbedding", "EventEncoder", "NumberEmbedding", "TimeFeatures", "category_size"]

_KNOTS = (-10.0, -4.0, -2.0, -1.0, -0.5, 0.0, 0.5, 1.0, 2.0, 4.0, 10.0)
_SECOND_US = 1_000_000
_DAY_US = 86_400 * _SECOND_US


def category_size(codes: int) -> int:
    """Width of a category embedding: 1.6 n^0.56, between 4 and 64."""
    return max(4, min(64, round(1.6 * codes**0.56)))


class CategoryEmbedding(nn.Embedding):
    """Codes -> vectors. In training a small share of the codes is hidden as "unseen or rare", so that this code is learnt."""

    def __init__(self, codes: int, size: int, *, dropout: float) -> None:
        super().__init__(codes, size)
        self.hidden_share = dropout
        nn.init.normal_(self.weight, std=1.0)

    def forward(self, codes: Tensor) -> Tensor:
        """(E,) int32 -> (E, size)."""
        if self.training and self.hidden_share:
            codes = codes.masked_fill(torch.rand(codes.shape, device=codes.device) < self.hidden_share, UNSEEN)
        return super().forward(codes)


class NumberEmbedding(nn.Module):
    """Scaled numbers -> vectors, piecewise linear between knots, one curve a category where it is scaled within one.

    The vector of a number is interpolated between learned vectors at fixed knots on the robust scale (piecewise linear
    encoding, Gorishniy et al., arXiv 2203.05556, with the knots in robust standard deviations). It begins as a straight
    line in a random direction. A missing number (NaN) has a learned vector of its own.
    """

    def __init__(self, size: int, *, codes: int = 1) -> None:
        super().__init__()
        self.knots: Tensor
        self.register_buffer("knots", torch.tensor(_KNOTS), persistent=False)
        self.rows = len(_KNOTS) + 1  # one more for the missing
        direction = torch.randn(codes, 1, size)
        line = direction * torch.tensor(_KNOTS).clamp(-4, 4).view(1, -1, 1)
        missing = torch.randn(codes, 1, size)
        self.table = nn.Parameter(torch.cat([line, missing], dim=1).view(codes * self.rows, size))

    def forward(self, numbers: Tensor, codes: Tensor | None = None) -> Tensor:
        """(E,) float32 in [-10, 10] or NaN, and (E,) codes where there is a curve for each -> (E, size)."""
        missing = numbers.isnan()
        known = numbers.masked_fill(missing, 0.0)
        left = torch.bucketize(known, self.knots[1:-1], right=True)
        share = (known - self.knots[left]) / (self.knots[left + 1] - self.knots[left])
        first = 0 if codes is None else codes.long() * self.rows
        low = first + left.masked_fill(missing, self.rows - 1)
        high = first + (left + 1).masked_fill(missing, self.rows - 1)
        share = share.unsqueeze(1)
        return F.embedding(low, self.table) * (1 - share) + F.embedding(high, self.table) * share


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
        self.output_size = 2 + 2 * sum(harmonics for _, harmonics in self.cycles_us)

    def forward(self, batch: SequenceBatch) -> Tensor:
        """(E, output_size)."""
        seconds = F.pad(batch.time.diff(), (1, 0)).index_fill(0, self._firsts(batch), 0) / _SECOND_US
        gap = (torch.log1p(seconds.float()) - self.scale.gap_center) / self.scale.gap_scale
        parts = [gap.clamp(-5, 5), (seconds == 0).float()]
        for period, harmonics in self.cycles_us:
            turn = (batch.time % period).double().div(period).float() * (2 * math.pi)
            for harmonic in range(1, harmonics + 1):
                parts += [torch.sin(harmonic * turn), torch.cos(harmonic * turn)]
        return torch.stack(parts, dim=1)

    @staticmethod
    def _firsts(batch: SequenceBatch) -> Tensor:
        begins = batch.lengths.cumsum(0) - batch.lengths
        return begins[batch.lengths > 0].to(batch.device)


class EventEncoder(nn.Module):
    """All features of an event side by side, then a small network: a batch with E events -> (E, hidden_size).

    Args:
        vocabulary: gives the sizes of the tables; nothing of its contents is learnt from here.
        hidden_size: width of the result.
        number_size: width of a number's embedding.
        layers: how many layers the network has.
        dropout: share of the network's inner values that training sets to zero.
        category_dropout: share of the codes that training hides.
    """

    def __init__(
        self,
        vocabulary: Vocabulary,
        *,
        hidden_size: int,
        number_size: int = 32,
        layers: int = 2,
        dropout: float = 0.0,
        category_dropout: float = 0.01,
    ) -> None:
        super().__init__()
        sizes = {name: codes.size for name, codes in vocabulary.categorical.items()}
        self.by = {name: scales.by for name, scales in vocabulary.numeric.items()}
        self.categories = nn.ModuleDict(
            {
                _key(name): CategoryEmbedding(size, category_size(size), dropout=category_dropout)
                for name, size in sizes.items()
            }
        )
        self.numbers = nn.ModuleDict(
            {
                _key(name): NumberEmbedding(2 * number_size if by else number_size, codes=sizes[by] if by else 1)
                for name, by in self.by.items()
            }
        )
        self.time = TimeFeatures(vocabulary.time)
        width = (
            self.time.output_size
            + sum(category_size(size) for size in sizes.values())
            + sum(2 * number_size if by else number_size for by in self.by.values())
        )
        self.names = tuple(sizes)
        steps: list[nn.Module] = []
        for size in (width, *[hidden_size] * (layers - 1)):
            steps += [nn.Linear(size, hidden_size), nn.ReLU(), nn.Dropout(dropout)]
        self.network = nn.Sequential(*steps)
        self.output_size = hidden_size

    def forward(self, batch: SequenceBatch) -> Tensor:
        """(E, hidden_size)."""
        columns = batch.columns
        parts = [self.categories[_key(name)](columns[name]) for name in self.names]
        for name, by in self.by.items():
            parts.append(self.numbers[_key(name)](columns[name], columns[by] if by else None))
        return self.network(torch.cat([*parts, self.time(batch)], dim=1))


def _key(column: str) -> str:
    """A column's name as a module's name: torch allows neither dots there nor the names of Module's own attributes."""
    return "column_" + column.replace("%", "%25").replace(".", "%2E")
