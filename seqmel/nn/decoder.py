"""The event decoder: from a vector to a distribution over the features of an event."""

from __future__ import annotations

from collections.abc import Container
from typing import Any

import torch
from torch import Tensor, nn

from seqmel.core.distributed import all_reduce_sum
from seqmel.core.scatter import take_rows
from seqmel.core.units import DAYS_SINCE_MONDAY
from seqmel.data.kinds.base import ColumnKind
from seqmel.data.kinds.number import CLASS_EDGES
from seqmel.data.local_time import LocalTime
from seqmel.data.sequences.batch import SequenceBatch
from seqmel.data.vocabulary import Vocabulary
from seqmel.nn.events import scaled_gaps
from seqmel.nn.sources import Presence

__all__ = ["EventDecoder"]

_BINS = len(CLASS_EDGES) + 2  # the first for no gap, one below and one above all edges
_HOUR = "time of day"
_WEEKDAY = "day of week"
_GAP = "time to next"
_SECOND_US = 1_000_000
_HOUR_US = 3_600_000_000
_SMOOTHING = 1 / 400  # caps the weight of rarer categories


def _inverse_frequency_weights(codes: Tensor, count: int, present: Tensor | None) -> Tensor:
    """Return (E,) weights by the inverse frequency of each code, with mean 1 over all ranks.

    Args:
        codes: (E,) int64.
        count: Number of codes.
        present: (E,) 0 for events that do not count. None counts all.
    """
    ones = torch.ones_like(codes) if present is None else present.long()
    counts = torch.zeros(count, dtype=torch.int64, device=codes.device).index_add(0, codes, ones)
    counts = all_reduce_sum(counts.float())
    frequencies = counts / counts.sum().clamp(min=1)
    weights = 1 / (frequencies + _SMOOTHING)
    return (weights / (weights * frequencies).sum().clamp(min=1e-6))[codes]


def _clock(events: SequenceBatch, cycle: int, local: Tensor | None) -> Tensor:
    """Return (E,), the local time from which the phase of one of the `CYCLES` is read."""
    clock = events.time if events.clock is None else events.clock[:, cycle]
    return clock if local is None else clock + local


class EventDecoder(nn.Module):
    """Predicts each feature of an event from a vector. Features are independent given the vector.

    The kind of a column says how: by the logits of its classes, such as the codes of a category or
    bins of a number; or, for a number that is scaled within a category, by one expected value per
    category. The time has logits for hours and weekdays, as far as the data shows them. A
    column costs nothing in events of a table that does not have it.

    Args:
        vocabulary: Names the features and their sizes.
        input_size: D, width of the vectors.
        hidden_size: Width of the hidden layer.
        time: Whether the time is predicted too. Must be False if the vectors contain it.
        without: Names of `CYCLES` that are not predicted.
        gap: Whether the time since the previous event is predicted, in bins like a number.
    """

    def __init__(
        self,
        vocabulary: Vocabulary,
        *,
        input_size: int,
        hidden_size: int = 256,
        time: bool = True,
        without: Container[str] = (),
        gap: bool = False,
    ) -> None:
        super().__init__()
        self.classified: dict[str, int] = {}
        self.regressed: dict[str, str] = {}  # a column and the category that it depends on
        self.regressing: dict[str, ColumnKind[Any]] = {}
        self.kinds: dict[ColumnKind[Any], list[str]] = {}
        for kind, columns in vocabulary.by_kind.items():
            self.kinds[kind] = []
            for name, fitted in columns.items():
                classes = kind.classes(fitted)
                within = kind.regressed_within(fitted)
                if classes is not None:
                    self.kinds[kind].append(name)
                    self.classified[name] = classes
                elif within is not None:
                    self.regressed[name], self.regressing[name] = within, kind
        if time and "day" not in without and not vocabulary.time.daily:
            self.classified[_HOUR] = 24
        if time and "week" not in without and vocabulary.time.span_days >= 14:
            self.classified[_WEEKDAY] = 7
        if gap:
            self.classified[_GAP] = _BINS
        self.time_scale = vocabulary.time
        self.local = LocalTime(vocabulary.time)
        self.sizes = self.classified | {
            name: self.classified[within] for name, within in self.regressed.items()
        }
        self.presence = Presence(vocabulary, tuple(self.sizes))
        ends = torch.tensor([0, *self.sizes.values()]).cumsum(0)
        self.begins: Tensor  # (F,) the first output of each feature
        self.register_buffer("begins", ends[:-1], persistent=False)
        self.network = nn.Sequential(
            nn.LayerNorm(input_size), nn.Linear(input_size, hidden_size), nn.GELU(),
            nn.Linear(hidden_size, sum(self.sizes.values())),
        )  # fmt: skip
        for weights in self.network[-1].parameters():
            nn.init.zeros_(weights)  # starts with a uniform distribution
        self.edges: Tensor
        self.register_buffer("edges", torch.tensor(CLASS_EDGES), persistent=False)

    def costs(
        self, vectors: Tensor, rows: Tensor, events: SequenceBatch, *, gaps: Tensor | None = None
    ) -> Tensor:
        """Compute the negative log-likelihood of events, summed over their features.

        A number within a category costs what its kind says (see `regression_costs`), weighted by
        the inverse frequency of the category.

        Args:
            vectors: (R, D).
            rows: (E,) int64, the vector that predicts each event.
            events: E events. Their division into sequences does not matter.
            gaps: (E,) int64 microseconds since the previous event, for a decoder with `gap`.

        Returns:
            (E,) float32.
        """
        outputs = self.network(vectors)
        with torch.autocast(outputs.device.type, enabled=False):
            parts = zip(
                self.sizes, outputs.float().split(list(self.sizes.values()), dim=1), strict=True
            )
            table = torch.cat(
                [part.log_softmax(1) if name in self.classified else part for name, part in parts],
                dim=1,
            )
            places = (rows * table.shape[1]).unsqueeze(1) + self.begins + self._codes(events, gaps)
            picked = take_rows(table.view(-1), places.view(-1)).view(places.shape)
            present = self.presence(events)
            known = picked if present is None else picked * present
            costs = -known[:, : len(self.classified)].sum(1)
            if self.regressed:
                expected = picked[:, len(self.classified) :]
                costs = costs + self._value_costs(expected, events, present).sum(1)
            return costs

    def _value_costs(
        self, expected: Tensor, events: SequenceBatch, present: Tensor | None
    ) -> Tensor:
        """Return (E, V), the weighted Huber losses of the V numbers within a category."""
        names = list(self.sizes)
        categories = dict.fromkeys(self.regressed.values())  # in the same order on every rank
        weights = {
            by: _inverse_frequency_weights(
                events.columns[by].long(),
                self.classified[by],
                None if present is None else present[:, names.index(by)],
            )
            for by in categories
        }
        costs = torch.stack(
            [
                self.regressing[name].regression_costs(expected[:, i], events.columns[name])
                * weights[by]
                for i, (name, by) in enumerate(self.regressed.items())
            ],
            dim=1,
        )
        return costs if present is None else costs * present[:, len(self.classified) :]

    def _codes(self, events: SequenceBatch, gaps: Tensor | None) -> Tensor:
        """Return (E, F) int64, the output of each feature that belongs to the event's value."""
        codes = {
            name: kind.class_of(events.columns[name], self.edges)
            for kind, names in self.kinds.items()
            for name in names
        }
        local = self.local(events)
        if _HOUR in self.classified:
            codes[_HOUR] = _clock(events, 0, local) // _HOUR_US % 24
        if _WEEKDAY in self.classified:
            days = _clock(events, 1, local) // (24 * _HOUR_US)
            codes[_WEEKDAY] = (days + DAYS_SINCE_MONDAY) % 7
        if gaps is not None:
            scaled = scaled_gaps(gaps.abs() / _SECOND_US, self.time_scale)
            codes[_GAP] = (torch.bucketize(scaled, self.edges) + 1).masked_fill(gaps == 0, 0)
        codes |= {name: codes[by] for name, by in self.regressed.items()}
        return torch.stack([codes[name] for name in self.sizes], dim=1)
